"""The LIBERO environments on a fake LIBERO (tests/fake_libero.py): every id, option and error."""

import os
import pickle
from pathlib import Path
from typing import Any

import fake_libero
import gymnasium as gym
import numpy as np
import pytest

import vp_agent  # noqa: F401
from vp_agent.envs.families import LIBERO_TASKS
from vp_agent.envs.libero_tasks import initial_states
from vp_agent.errors import (
    ActionError,
    ConfigError,
    SimulatorError,
    UnknownNameError,
)

REST = [0, 0, 0, 0, 0, 0, -1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    fake_libero.install(folder)
    return folder


@pytest.fixture(autouse=True)
def machine(site, tmp_path, monkeypatch):
    fake_libero.make_assets(tmp_path / ".cache/libero/assets")
    fake_libero.enter(monkeypatch, site=site, home=tmp_path)
    yield
    fake_libero.leave()


def make(task: str = "object-3", **kwargs: Any) -> Any:
    return gym.make(f"LIBERO-{task}-v0", **{"resolution": (4, 6), **kwargs})


def fly(env: Any, seed: int) -> list[np.ndarray]:
    """Arm states and images of the first steps of an episode."""
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for action in np.random.default_rng(0).uniform(-1, 1, (3, 7)).astype(np.float32):
        seen.append(env.step(action)[0])
    return [o["agent_pos"] for o in seen] + [o["pixels"]["agent"] for o in seen]


def test_there_are_130_ids():
    ids = [name for name in gym.registry if name.startswith("LIBERO-")]
    assert len(ids) == len(LIBERO_TASKS) == 130
    assert {"LIBERO-spatial-0-v0", "LIBERO-10-9-v0", "LIBERO-90-89-v0"} <= set(ids)


@pytest.mark.parametrize("suite", fake_libero.SUITES)
def test_every_task_starts_with_its_own_instruction_and_observation(suite):
    for index in range(fake_libero.SUITES[suite]):
        # random placements, since reading fixed states takes a process per task
        env = make(f"{suite}-{index}", protocol="uva", views=("agent", "gripper"))
        observation, info = env.reset(seed=0)
        words = fake_libero.task_name(suite, index).split("_")
        assert observation["task"] == " ".join(words[2:] if suite in ("10", "90") else words)
        assert env.observation_space.contains(observation)
        assert set(observation["pixels"]) == {"agent", "gripper"}
        assert info["is_success"] is False
        env.close()


@pytest.mark.parametrize(
    ("suite", "horizon"),
    [("spatial", 280), ("object", 280), ("goal", 300), ("10", 520), ("90", 400)],
)
def test_the_horizon_is_the_suites_or_uvas_or_the_users(suite, horizon):
    assert make(f"{suite}-1").unwrapped.horizon == horizon
    assert make(f"{suite}-1", protocol="uva").unwrapped.horizon == 500
    assert make(f"{suite}-1", protocol="uva", horizon=7).unwrapped.horizon == 7


def test_fixed_states_settle_for_ten_steps_with_an_open_hand():
    env = make()
    observation, info = env.reset(seed=103)
    inner = env.unwrapped.sim_env
    assert info["initial_state"] == 3
    assert np.array_equal(inner.actions, [REST] * 10)
    expected = fake_libero.states(3)[3] + 10 * 0.01 * np.array(REST)[: fake_libero.STATE_SIZE]
    assert inner.sim.data.qpos == pytest.approx(expected)
    assert inner.updates == 1
    assert observation["agent_pos"].shape == (8,)


def test_equal_states_stand_in_equal_scenes():
    env = make()
    env.reset(seed=3)
    furniture = env.unwrapped.sim_env.furniture
    env.reset(seed=53)
    assert env.unwrapped.sim_env.furniture == furniture
    env.reset(seed=4)
    assert env.unwrapped.sim_env.furniture != furniture


def test_uva_places_at_random_as_its_own_evaluation_and_sees_one_small_view():
    env: Any = gym.make("LIBERO-10-0-v0", protocol="uva")
    observation, info = env.reset(seed=100_000)
    inner = env.unwrapped.sim_env
    draws = np.random.RandomState(100_000).uniform(size=2 + fake_libero.STATE_SIZE)
    assert inner.furniture == draws[1]
    assert np.array_equal(inner.sim.data.qpos, draws[2:])
    assert inner.actions == []
    assert {view: image.shape for view, image in observation["pixels"].items()} == {
        "agent": (128, 128, 3)
    }
    assert info["initial_state"] is None


@pytest.mark.parametrize("protocol", ["states", "uva"])
def test_a_seed_is_an_episode_whatever_came_before(protocol):
    env = make(protocol=protocol)
    first = fly(env, 5)
    assert not np.array_equal(fly(env, 6)[0], first[0])
    np.random.seed(1)
    for a, b, c in zip(fly(env, 5), first, fly(make(protocol=protocol), 5), strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)


def test_each_transform_turns_the_image_and_says_so():
    seen = {}
    for transform in ("flip_v", "raw", "rot180"):
        env = make(transform=transform, render_mode="rgb_array")
        observation, info = env.reset(seed=0)
        seen[transform] = observation["pixels"]["agent"]
        assert info["transform"] == env.unwrapped.transform == transform
        assert np.array_equal(env.render()[:, :6], seen[transform])
    assert np.array_equal(seen["flip_v"][:, :, :2], fake_libero.upright((4, 6), 0)[:, :, :2])
    assert np.array_equal(seen["raw"], seen["flip_v"][::-1])
    assert np.array_equal(seen["rot180"], seen["raw"][::-1, ::-1])


def test_states_are_read_without_unpickling_here(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: pytest.fail("unpickled here"))
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled here"))
    file = tmp_path / "states.pruned_init"
    fake_libero.write_states(file, fake_libero.states(1))
    assert np.array_equal(initial_states(file), fake_libero.states(1))


class _Harmful:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_file_of_states_that_runs_code_is_refused_and_does_not_run(tmp_path):
    fake_libero.write_states(tmp_path / "bad", _Harmful(tmp_path / "harm"))
    with pytest.raises(SimulatorError, match=r"mkdir.*install LIBERO again"):
        initial_states(tmp_path / "bad")
    assert not (tmp_path / "harm").exists()


def test_states_of_the_wrong_number_are_refused(tmp_path):
    fake_libero.write_states(tmp_path / "short", np.zeros((3, 5)))
    with pytest.raises(SimulatorError, match="50 rows"):
        initial_states(tmp_path / "short")


def test_a_crowded_scene_is_tried_again_and_then_given_up(monkeypatch):
    env = make()
    env.unwrapped.sim_env  # noqa: B018  (made here, so that only the reset fails)
    monkeypatch.setattr(fake_libero._Domain, "placement_failures", 2)
    env.reset(seed=0)
    monkeypatch.setattr(fake_libero._Domain, "placement_failures", 1000)
    with pytest.raises(SimulatorError, match="another seed"):
        env.reset(seed=0)


def test_success_ends_the_episode():
    env = make()
    env.reset(seed=0)
    env.unwrapped.sim_env.sim.data.qpos[0] = 7
    _, reward, terminated, _, info = env.step(np.zeros(7, np.float32))
    assert (reward, terminated, info["is_success"]) == (1.0, True, True)


@pytest.mark.parametrize("action", [np.full(7, np.nan), np.zeros(6), "up"])
def test_a_bad_action_and_a_step_without_reset_are_refused(action):
    env = make().unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(7))
    env.reset(seed=0)
    with pytest.raises(ActionError):
        env.step(action)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"task": "obj-3"}, UnknownNameError, "did you mean 'object-3'"),
        ({"protocol": "state"}, UnknownNameError, "did you mean 'states'"),
        ({"transform": "flip"}, UnknownNameError, "did you mean 'flip_v'"),
        ({"views": ("agnet",)}, UnknownNameError, "did you mean 'agent'"),
        ({"views": "agent"}, ConfigError, "sequence"),
        ({"horizon": 0}, ConfigError, "horizon"),
        ({"resolution": (0, 4)}, ConfigError, "resolution"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_refused_with_a_hint(kwargs, error, words):
    from vp_agent.envs.libero_env import LiberoEnv

    with pytest.raises(error, match=words):
        LiberoEnv(**{"task": "object-3", **kwargs})


def test_an_unknown_camera_is_refused_when_the_scene_is_known():
    env = make(views={"agent": "agentvew"})
    with pytest.raises(UnknownNameError, match="did you mean 'agentview'"):
        env.reset(seed=0)
