"""RoboCasa's environments on a fake RoboCasa of either version: what they ask for and give back."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import fake_robocasa
import gymnasium as gym
import numpy as np
import pytest

import vp_agent  # noqa: F401  (registers the ids)
from vp_agent.envs.robocasa_tasks import PAPER_SCENES, TASKS, find_task, instruction_0_2
from vp_agent.errors import ActionError, ConfigError, SimulatorError, UnknownNameError

SINK = "RoboCasa-PnPCounterToSink-v0"
STILL = np.zeros(7, np.float32)


@pytest.fixture(params=["0.2.0", "1.0.1"])
def either(request: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    fake_robocasa.install(monkeypatch, tmp_path, robocasa=request.param)
    return request.param


@pytest.fixture
def v0_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return fake_robocasa.install(monkeypatch, tmp_path)


@pytest.fixture
def v1_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return fake_robocasa.install(monkeypatch, tmp_path, robocasa="1.0.1")


def make(name: str = SINK, **arguments: Any) -> Any:
    return gym.make(name, **{"resolution": (16, 24), **arguments})


def reset(env: Any, **arguments: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RoboCasa 1.0")
        return env.reset(**arguments)


def test_the_24_tasks_of_the_paper_have_ids():
    ids = {name for name in gym.registry if name.startswith("RoboCasa-")}
    assert ids == {f"RoboCasa-{task}-v0" for task in TASKS}
    assert len(ids) == 24


@pytest.mark.parametrize("task", TASKS)
def test_every_id_makes_its_class_and_resets(either, task):
    env = make(f"RoboCasa-{task}-v0")
    observation, _ = reset(env, seed=0)
    assert env.observation_space.contains(observation)
    expected = task if either == "0.2.0" else TASKS[task].name_1_0
    assert env.unwrapped.sim_env.name == expected


@pytest.mark.usefixtures("v1_0")
def test_1_0s_door_classes_get_the_fixture_and_draw_the_single_door_as_0_2_does():
    double = make("RoboCasa-OpenDoubleDoor-v0")
    reset(double, seed=0)
    assert double.unwrapped.sim_env.arguments["fixture_id"].name == "CABINET_DOUBLE_DOOR"
    single = make("RoboCasa-CloseSingleDoor-v0")
    doors = {reset(single, seed=seed) and single.unwrapped.sim_env.door for seed in range(9)}
    assert doors == {"cabinet", "microwave"}


@pytest.mark.usefixtures("v0_2")
def test_nothing_is_loaded_before_the_first_reset():
    env = make()
    assert "robocasa" not in sys.modules
    env.reset(seed=0)
    assert "robocasa" in sys.modules


@pytest.mark.usefixtures("either")
def test_the_base_stands_still_after_our_seven_numbers():
    env = make()
    reset(env, seed=0)
    env.step(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 7.0], np.float32))
    sent = env.unwrapped.sim_env.actions[0]
    np.testing.assert_allclose(sent, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1, 0, 0, 0, 0, -1])


@pytest.mark.usefixtures("v0_2")
def test_agent_pos_is_base_then_hand_seen_from_the_base_then_fingers():
    env = make()
    observation, _ = env.reset(seed=0)
    qpos = env.unwrapped.sim_env.sim.data.qpos
    expected = [*qpos[:3], 0, 0, 0, 1, *qpos[4:], 1, 0, 0, 0, 0.02, 0.02]
    np.testing.assert_array_equal(observation["agent_pos"], np.array(expected, np.float32))


@pytest.mark.usefixtures("v0_2")
def test_the_views_are_robocasas_three_cameras_with_sites_drawn_once_per_chunk():
    env = make()
    observation, _ = env.reset(seed=0)
    made = fake_robocasa.FakeCameras.made[-1]
    assert (made["sites"], made["resolution"]) == (True, (16, 24))
    assert made["cameras"] == [
        "robot0_eye_in_hand",
        "robot0_agentview_left",
        "robot0_agentview_right",
    ]
    assert list(observation["pixels"]) == ["gripper", "left", "right"]
    assert env.unwrapped.sim_env.arguments["use_camera_obs"] is False


def test_the_instruction_has_the_wording_of_0_2(either):
    observation, info = reset(make(), seed=3)
    thing = info["objects"]["obj"].replace("_", " ")
    assert observation["task"] == f"pick the {thing} from the counter and place it in the sink"
    assert instruction_0_2("Open the drawer.") == "open the drawer"


@pytest.mark.usefixtures("either")
def test_equal_seeds_give_equal_episodes_in_the_same_and_in_another_environment():
    def fly(env: Any) -> list[bytes]:
        first, info = reset(env, seed=5)
        states = [env.step(np.full(7, 0.3))[0]["agent_pos"].tobytes() for _ in range(3)]
        return [first["agent_pos"].tobytes(), info["state_hash"].encode(), *states]

    env, before = make(), repr(np.random.get_state())
    one = fly(env)
    reset(env, seed=6)
    assert fly(env) == one == fly(make())
    assert repr(np.random.get_state()) == before
    assert reset(env, seed=6)[1]["state_hash"] != one[1].decode()


def test_the_papers_scenes_are_drawn_by_the_seed_alone(either):
    env = make()
    drawn = [reset(env, seed=seed)[1]["scene"] for seed in range(40)]
    assert set(drawn) == set(PAPER_SCENES)
    assert drawn[:6] == [(6, 9), (4, 4), (2, 2), (4, 4), (1, 1), (7, 10)]  # either version


@pytest.mark.parametrize(
    ("scene", "modern"),
    list(zip(PAPER_SCENES, [(2, 2), (3, 9), (5, 5), (7, 7), (8, 10)], strict=True)),
)
def test_a_scene_keeps_its_name_and_becomes_the_same_kitchen_in_1_0(either, scene, modern):
    fixed = make(scene=scene)
    assert reset(fixed, seed=1)[1]["scene"] == scene
    kitchen = fixed.unwrapped.sim_env
    assert (kitchen.layout, kitchen.style) == (scene if either == "0.2.0" else modern)
    drawn = make()
    assert reset(drawn, seed=1, options={"scene": scene})[1]["scene"] == scene


@pytest.mark.parametrize(("split", "modern"), [("A", "pretrain"), ("B", "target"), (None, None)])
def test_the_split_is_translated(either, split, modern):
    env = make(split=split)
    reset(env, seed=0)
    expected = split if either == "0.2.0" else modern
    assert env.unwrapped.sim_env.arguments["obj_instance_split"] == expected


def test_the_horizon_is_the_papers_or_robocasas_own_or_a_number(either):
    assert make().unwrapped.horizon == 992
    assert make(horizon="registry").unwrapped.horizon == (700 if either == "0.2.0" else 600)
    env = make(horizon=2)
    reset(env, seed=0)
    assert not env.step(STILL)[3]
    assert env.step(STILL)[3]
    with pytest.raises(gym.error.ResetNeeded):
        env.step(STILL)


@pytest.mark.usefixtures("v0_2")
def test_an_episode_ends_on_success():
    env = make()
    env.reset(seed=0)
    env.unwrapped.sim_env.succeeds_at = 2
    assert env.step(STILL)[1:3] == (0.0, False)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


def test_info_says_what_a_result_must_record(either):
    env = make(split="A")
    _, info = reset(env, seed=4)
    assert info["versions"] == {"robocasa": either, **fake_robocasa.FITTING[either]}
    assert (info["seed"], info["split"], info["standin_assets"]) == (4, "A", False)
    assert len(info["state_hash"]) == 64
    json.dumps(info)
    assert env.step(STILL)[4]["state_hash"] == info["state_hash"]


def test_standin_assets_are_marked_in_every_info(v0_2):
    (v0_2 / "STANDIN_MANIFEST.txt").touch()
    env = make()
    assert env.reset(seed=0)[1]["standin_assets"]
    assert env.step(STILL)[4]["standin_assets"]


@pytest.mark.usefixtures("v1_0")
def test_1_0_warns_spawns_where_0_2_does_and_orders_its_geoms():
    env = make()
    with pytest.warns(UserWarning, match="not comparable with the paper's"):
        env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=1)  # once is enough
    made = env.unwrapped.sim_env.arguments
    assert made["robot_spawn_deviation_pos_x"] == made["robot_spawn_deviation_pos_y"] == 0.0
    assert sys.modules["robocasa.models.fixtures.counter"].set("cabac") == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scene": (1, 12)}, ConfigError, "style 0 to 11"),
        ({"scene": "paper"}, ConfigError, "a scene is"),
        ({"scene": (1.5, 1)}, ConfigError, "a scene is"),
        ({"scene": (1, 1), "scenes": [(2, 2)]}, ConfigError, "not both"),
        ({"scenes": []}, ConfigError, "empty"),
        ({"scenes": "papers"}, UnknownNameError, "did you mean 'paper'"),
        ({"split": "b"}, UnknownNameError, "no split 'b'"),
        ({"horizon": "papre"}, UnknownNameError, "did you mean 'paper'"),
        ({"horizon": 0}, ConfigError, "horizon must be a whole number of at least 1"),
        ({"views": ("wrist",)}, UnknownNameError, "gripper, left, right"),
    ],
)
@pytest.mark.usefixtures("v0_2")
def test_a_wrong_argument_is_refused_at_make(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'PnPCounterToSink'"):
        find_task("PnPCounterToSnik")
    with pytest.raises(UnknownNameError, match="RoboCasa-PnPCounterToSink-v0"):
        find_task("PickPlaceCounterToSink")


def test_kitchens_that_robocasa_has_not_got_are_refused(either):
    with pytest.raises(ConfigError, match="layout 8"):
        make("RoboCasa-PnPCounterToMicrowave-v0", scene=(8, 1))
    if either == "1.0.1":
        with pytest.raises(ConfigError, match=r"not in RoboCasa 1\.0"):
            make(scene=(1, 5))


@pytest.mark.usefixtures("v0_2")
def test_misuse_of_reset_and_step_is_refused():
    env = make().unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(STILL)
    with pytest.raises(UnknownNameError, match="option of reset"):
        env.reset(seed=0, options={"scenes": (1, 1)})
    with pytest.raises(UnknownNameError, match="robot0_eye_in_hand"):
        make(views={"gripper": "robot0_eye_in_hnad"}).reset(seed=0)
    env.reset(seed=0)
    for action in (np.zeros(12), np.full(7, np.nan), "up"):
        with pytest.raises(ActionError):
            env.step(action)


@pytest.mark.parametrize(
    ("failure", "hint"),
    [
        (ValueError("probabilities contain NaN"), "A category of objects has no model"),
        (FileNotFoundError("door.obj"), "asset pack is incomplete"),
        (AssertionError("no fixture"), r"PnPCounterToSink in scene \(1, 1\) .*no fixture"),
    ],
)
@pytest.mark.usefixtures("v0_2")
def test_a_kitchen_that_cannot_be_built_says_why(failure, hint):
    env = make(scene=(1, 1))
    env.reset(seed=0)
    env.unwrapped.sim_env.fails = failure
    with pytest.raises(SimulatorError, match=hint):
        env.reset(seed=1)
    with pytest.raises(gym.error.ResetNeeded):  # the old episode does not go on
        env.step(STILL)
