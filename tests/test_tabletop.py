"""The Tabletop tasks: one scene, many instructions, and `info` that says what happened."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import vp_agent  # noqa: F401  (registers the ids)
from vp_agent.envs.experts import expert_for
from vp_agent.envs.tabletop_words import (
    NOUNS,
    PHRASES,
    SHIFTS,
    TASKS,
    WORDINGS,
    instructions_of,
    read_instruction,
)
from vp_agent.errors import ConfigError, UnknownNameError

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")

SMALL: dict[str, Any] = {
    "views": ("gripper", "left"),
    "resolution": (64, 64),
    "render_quality": "fast",
}
STILL = np.zeros(7, np.float32)


def make(task: str = "Tabletop-All", **kwargs: Any) -> Any:
    return gym.make(f"{task}-v0", **{**SMALL, **kwargs})


@pytest.fixture(scope="module")
def env():
    env = make()
    yield env
    env.close()


@pytest.fixture(scope="module")
def blind():
    env = make(views=())
    yield env
    env.close()


def digest(observation: Any) -> str:
    """Hash of every bit that a policy sees, but for the instruction."""
    state = hashlib.sha256(observation["agent_pos"].tobytes())
    for view in sorted(observation["pixels"]):
        state.update(observation["pixels"][view].tobytes())
    return state.hexdigest()


def ask(env: Any, instruction: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return env.reset(seed=seed, options={"instruction": instruction})


def fly(env: Any, expert_task: str = "Tabletop-All") -> tuple[bool, dict[str, Any]]:
    """Ends the episode that was just started, with the expert."""
    expert, ended, terminated, info = expert_for(expert_task), False, False, {}
    expert.reset(env)
    while not ended:
        _, _, terminated, truncated, info = env.step(expert.act(env))
        ended = terminated or truncated
    return terminated, info


def test_every_task_asks_in_three_wordings_for_three_cubes_and_no_sentence_is_asked_twice():
    for name, task in TASKS.items():
        asked = instructions_of(task)
        assert len(asked) == len({i.text for i in asked}) == WORDINGS * 3 * len(task.motions), name
        assert len({(i.motion, i.name) for i in asked[: 3 * len(task.motions)]}) == len(asked) / 3
        assert all(read_instruction(i.text) == i for i in asked)
    assert len(PHRASES) == 5
    assert len(instructions_of(TASKS["Tabletop-All"])) == 45


def test_the_seed_decides_the_scene_and_the_instruction_changes_no_bit_of_the_first_picture(env):
    first = [ask(env, f"lift the {name} cube", 5)[0] for name in ("left", "right", "teal")]
    push = make("Tabletop-Push", instruction="push the black block forward")
    first.append(push.reset(seed=5)[0])
    push.close()
    assert len({digest(observation) for observation in first}) == 1
    assert len({observation["task"] for observation in first}) == 4
    assert digest(env.reset(seed=6)[0]) != digest(first[0])


def test_an_episode_repeats_bit_for_bit_after_another_one_that_moved_things(env):
    def steps(seed: int) -> list[str]:
        actions = np.random.default_rng(0).uniform(-1, 1, (6, 7)).astype(np.float32)
        seen = [digest(env.reset(seed=seed)[0])]
        return seen + [digest(env.step(action)[0]) for action in actions]

    first = steps(7)
    ask(env, "lift the middle cube", 8)
    assert fly(env)[0]
    assert steps(7) == first


def test_seeds_ask_in_turn_for_every_instruction_of_the_list(blind):
    env = make("Tabletop-Lift", views=(), instruction=["lift the left cube", "raise the red cube"])
    asked = [env.reset(seed=seed)[0]["task"] for seed in (10, 11, 12)]
    env.close()
    assert asked == ["lift the left cube", "raise the red cube", "lift the left cube"]
    tasks = {blind.reset(seed=seed)[0]["task"] for seed in range(45)}
    assert tasks == {i.text for i in instructions_of(TASKS["Tabletop-All"])}


def test_the_cubes_can_be_told_apart_in_both_views(env):
    observation, info = ask(env, "lift the left cube", 3)
    assert sorted(info["colours"].values()) == ["black", "red", "teal"]
    for view, image in observation["pixels"].items():
        red, green, blue = (image[..., i].astype(int) for i in range(3))
        counts = {
            "red": ((red - green > 60) & (red - blue > 60)).sum(),
            "teal": ((green - red > 60) & (blue - red > 60)).sum(),
        }
        assert min(counts.values()) >= 25, (view, counts)  # more than 5 x 5 pixels


@pytest.mark.parametrize("motion", PHRASES)
def test_the_expert_does_what_it_is_asked_and_info_says_so(blind, motion):
    observation, info = ask(blind, PHRASES[motion][0].format("right cube"), 21)
    assert blind.observation_space.contains(observation)
    assert info["facts"] == {"motion": motion, "named": "right", "approached": "", "touched": ""}
    done, info = fly(blind)
    assert done
    assert info["is_success"]
    assert info["facts"] == {
        "motion": motion,
        "named": "right",
        "approached": "right",
        "touched": "right",
    }
    json.dumps({key: info[key] for key in ("hand", "objects", "colours", "facts")})


def test_lifting_another_cube_than_the_named_one_is_no_success_and_info_names_both(blind):
    ask(blind, "lift the left cube", 22)
    blind.unwrapped.named = "right"  # of what is asked only the expert is misled
    done, info = fly(blind)
    blind.unwrapped.named = "left"
    assert not done
    assert info["objects"]["right"][2] > 0.86
    assert info["facts"]["approached"] == info["facts"]["touched"] == "right"


def test_a_colour_names_the_cube_of_that_colour_wherever_it_is(blind):
    _, info = ask(blind, "lift the black block", 23)
    named = info["facts"]["named"]
    assert info["colours"][named] == "black"
    done, info = fly(blind)
    assert done
    assert info["objects"][named][2] > 0.86


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_changes_what_it_names_and_nothing_else(env, shift):
    _, info = env.reset(seed=4)
    shifted = make(shift=shift)
    observation, other = shifted.reset(seed=4)
    sizes = [e.unwrapped.sim_env.half_size("left") for e in (env, shifted)]
    shifted.close()
    gaps = {p: np.subtract(other["objects"][p], info["objects"][p])[:2] for p in info["objects"]}
    moved = {place for place, gap in gaps.items() if np.abs(gap).max() > 1e-9}
    assert moved == ({"left", "middle", "right"} if shift == "places" else set())
    assert (other["colours"] != info["colours"]) is (shift == "colours")
    assert (sizes[0] != sizes[1]) is (shift == "sizes")
    assert digest(observation) != digest(env.reset(seed=4)[0])


def test_a_camera_shift_is_two_centimetres():
    env = make(shift="camera")
    places = []
    for seed in (0, 1):
        env.reset(seed=seed)
        scene = env.unwrapped.sim_env
        places.append(np.array(scene.sim.model.cam_pos[scene._camera]) - scene._camera_home)
    env.close()
    assert np.allclose(np.linalg.norm(places, axis=1), 0.02)
    assert not np.allclose(*places)


@pytest.mark.parametrize(
    ("task", "kwargs", "error", "words"),
    [
        ("Tabletop-All", {"instruction": "lift the lfet cube"}, UnknownNameError, "lift the left"),
        ("Tabletop-Push", {"instruction": "lift the left cube"}, UnknownNameError, "Tabletop-Lift"),
        ("Tabletop-All", {"instruction": []}, ConfigError, "empty"),
        ("Tabletop-All", {"shift": "colour"}, UnknownNameError, "did you mean 'colours'"),
        ("TabletopColour-All", {"shift": "colours"}, ConfigError, "colour"),
        ("Tabletop-All", {"views": ("griper",)}, UnknownNameError, "gripper"),
    ],
)
def test_a_bad_argument_is_refused_with_a_hint(task, kwargs, error, words):
    with pytest.raises(error, match=words):
        make(task, **kwargs)


def test_an_unknown_instruction_of_a_reset_is_refused_with_the_nearest_one(blind):
    with pytest.raises(UnknownNameError, match="pick up the first cube"):
        ask(blind, "pick the first cube", 0)


def test_every_place_and_colour_word_names_another_cube():
    for naming in NOUNS.values():
        words = [noun for nouns in naming.values() for noun in nouns]
        assert len(words) == len(set(words))


def test_the_journal_keeps_which_cube_was_named_and_which_was_approached(tmp_path):
    from vp_agent.evaluation.journal import read_journal
    from vp_agent.evaluation.runner import EvalSettings, evaluate

    run = EvalSettings(
        agent="expert",
        suite="tabletop",
        tasks=("Pull-left", "Push-left"),
        episodes=1,
        out=tmp_path / "out",
        record=0,
        workers=0,
    )
    evaluate(run)
    lines = {line.task: line for line in read_journal(tmp_path / "out/journal.jsonl")}
    assert {line.success for line in lines.values()} == {True}
    assert lines["Pull-left"].instruction == "pull the left cube back"
    assert lines["Pull-left"].state_hash == lines["Push-left"].state_hash  # the same scene
    facts = {"motion": "Pull", "named": "left", "approached": "left", "touched": "left"}
    assert lines["Pull-left"].facts == facts


@pytest.mark.slow
def test_gymnasiums_checker_finds_nothing():
    env = make(views=("left",), render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    assert [str(w.message) for w in caught if not issubclass(w.category, SyntaxWarning)] == []


@pytest.mark.slow
def test_a_seed_is_the_same_scene_in_a_new_process(env):
    first = [digest(env.reset(seed=seed)[0]) for seed in (5, 6)]
    code = (
        "import json; from test_tabletop import digest, make; env = make('TabletopColour-Pull'); "
        "print(json.dumps([digest(env.reset(seed=seed)[0]) for seed in (5, 6)]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == first
