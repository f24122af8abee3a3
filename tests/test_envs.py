"""The robosuite environments keep their promises to Gymnasium users."""

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

import vp_agent
from vp_agent.envs.families import ROBOSUITE_HORIZONS
from vp_agent.errors import ActionError, ConfigError, SimulatorError, UnknownNameError

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")

SMALL = {"views": ("gripper", "left"), "resolution": (32, 48), "render_quality": "fast"}


def make(task: str = "Lift", **kwargs: Any) -> Any:
    return gym.make(f"Robosuite-{task}-v0", **{**SMALL, **kwargs})


@pytest.fixture(scope="module")
def env():
    env = make()
    yield env
    env.close()


def digest(observation) -> str:
    """Hash of every bit of an observation."""
    state = hashlib.sha256(observation["agent_pos"].tobytes())
    for view in sorted(observation["pixels"]):
        state.update(observation["pixels"][view].tobytes())
    return state.hexdigest()


def fly(env, seed: int, steps: int = 3) -> list[str]:
    """Digests of the first observations of an episode under a fixed action sequence."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 7)).astype(np.float32)
    digests = [digest(env.reset(seed=seed)[0])]
    return digests + [digest(env.step(action)[0]) for action in actions]


@pytest.mark.slow
@pytest.mark.parametrize("task", ROBOSUITE_HORIZONS)
def test_gymnasiums_checker_finds_nothing(task):
    env = make(task, views=("left",), render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    ours = [str(w.message) for w in caught if not issubclass(w.category, SyntaxWarning)]
    assert ours == []


def test_observation_is_in_its_space_and_has_lerobots_words(env):
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert set(observation) == {"pixels", "agent_pos", "task"}
    assert observation["pixels"]["left"].shape == (32, 48, 3)
    assert observation["agent_pos"].dtype == np.float32
    assert observation["task"] == "lift the cube"
    assert info["is_success"] is False
    assert info["render_quality"] == "fast"
    assert info["versions"]["robosuite"] == "1.5.1"
    assert "," in info["gl_version"]  # renderer, version of OpenGL
    assert info["seed"] == 1


def test_attributes_that_evaluation_reads(env):
    inner = env.unwrapped
    assert inner.views == {"gripper": "robot0_eye_in_hand", "left": "agentview"}
    assert (inner.resolution, inner.render_quality) == ((32, 48), "fast")
    assert (inner.control_hz, inner.horizon) == (20, ROBOSUITE_HORIZONS["Lift"])
    assert gym.spec("Robosuite-Lift-v0").kwargs["horizon"] == inner.horizon


def test_same_seed_is_the_same_episode_bit_for_bit_after_another_episode(env):
    first = fly(env, seed=5)
    assert fly(env, seed=6) != first
    np.random.seed(123)
    assert fly(env, seed=5) == first


@pytest.mark.slow
def test_same_seed_is_the_same_episode_in_a_new_environment_and_a_new_process(env):
    first = fly(env, seed=5)
    fresh = make()
    assert fly(fresh, seed=5) == first
    fresh.close()
    code = "import json; from test_envs import fly, make; print(json.dumps(fly(make(), seed=5)))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == first


def test_reset_without_a_seed_goes_on_and_its_info_repeats_it(env):
    env.reset(seed=7)
    observation, info = env.reset()
    again, _ = env.reset(seed=info["seed"])
    assert info["seed"] != 7
    assert digest(again) == digest(observation)


def test_cube_size_follows_the_seed_and_the_callers_generator_is_left_alone(env):
    np.random.seed(42)
    state = np.random.get_state(legacy=False)["state"]["key"].copy()
    sizes = []
    for seed in (1, 2, 1):
        env.reset(seed=seed)
        sizes.append(tuple(env.unwrapped.sim_env.cube.size))
    assert sizes[0] == sizes[2] != sizes[1]
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], state)


def test_horizon_truncates_and_then_a_reset_is_needed():
    env = make(views=(), horizon=2)
    observation, _ = env.reset(seed=0)
    assert "pixels" not in observation
    still = np.zeros(7, np.float32)
    assert env.step(still)[2:4] == (False, False)
    assert env.step(still)[2:4] == (False, True)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.unwrapped.step(still)
    env.close()


@pytest.mark.parametrize("terminate", [True, False])
def test_success_gives_reward_and_ends_the_episode_if_asked(terminate, monkeypatch):
    env = make(views=(), terminate_on_success=terminate)
    env.reset(seed=0)
    monkeypatch.setattr(env.unwrapped.sim_env, "_check_success", lambda: np.True_)
    _, reward, terminated, truncated, info = env.step(np.zeros(7, np.float32))
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, terminate, False, True)
    env.close()


@pytest.mark.parametrize(
    "action",
    [np.full(7, np.nan), np.zeros(6), np.zeros((1, 7)), "up", [0, 0, 0, 0, 0, 0, np.inf]],
    ids=["nan", "short", "batched", "text", "inf"],
)
def test_a_bad_action_is_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(ActionError):
        env.unwrapped.step(action)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"task": "Lfit"}, UnknownNameError, "did you mean 'Lift'"),
        ({"views": ("griper",)}, UnknownNameError, "did you mean 'gripper'"),
        ({"views": {"left": "agentvew"}}, UnknownNameError, "did you mean 'agentview'"),
        ({"views": "left"}, ConfigError, "sequence"),
        ({"render_quality": "quick"}, UnknownNameError, "fast"),
        ({"render_mode": "human"}, UnknownNameError, "rgb_array"),
        ({"resolution": (0, 64)}, ConfigError, "resolution"),
        ({"resolution": (64,)}, ConfigError, "resolution"),
        ({"horizon": 0}, ConfigError, "horizon"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_refused_with_a_hint(kwargs, error, words):
    from vp_agent.envs.robosuite_env import RobosuiteEnv

    with pytest.raises(error, match=words):
        RobosuiteEnv(**{"task": "Lift", **SMALL, **kwargs})


@pytest.mark.parametrize(("gl", "package"), [("osmesa", "libosmesa6"), ("egl", "libegl1")])
def test_missing_gl_names_the_packages_to_install(gl, package, monkeypatch):
    import mujoco

    def no_context(*_):
        raise RuntimeError("no library")

    monkeypatch.setenv("MUJOCO_GL", gl)
    monkeypatch.setattr(mujoco, "GLContext", no_context)
    env = make()
    with pytest.raises(SimulatorError, match=f"apt-get install -y {package}"):
        env.reset(seed=0)
    env.close()


def test_importing_the_package_registers_the_ids_and_loads_no_simulator():
    code = (
        "import sys, vp_agent, gymnasium; gymnasium.spec('Robosuite-Door-v0');"
        "print([m for m in ('mujoco', 'robosuite', 'torch', 'lerobot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert vp_agent.__version__
