"""The LIBERO environments on LIBERO itself; `make test-libero` runs this where it is installed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import vp_agent  # noqa: F401
from vp_agent.envs.experts import expert_for
from vp_agent.envs.families import FAMILIES
from vp_agent.envs.libero_tasks import initial_states

LACKING = next(family for family in FAMILIES if family.name == "libero").missing()
pytestmark = pytest.mark.skipif(LACKING is not None, reason=LACKING.what if LACKING else "")

SMALL = {"views": ("agent", "gripper"), "resolution": (64, 64), "render_quality": "fast"}
REST = [0, 0, 0, 0, 0, 0, -1]
BUTTON = "flat_stove_1_button"


def make(task: str, **kwargs: Any) -> Any:
    return gym.make(f"LIBERO-{task}-v0", **{**SMALL, **kwargs})


def fly(env: Any, seed: int, steps: int = 10) -> list[str]:
    """Digests of the simulator's state and the observation along a fixed action sequence."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 7)).astype(np.float32)
    observation, _ = env.reset(seed=seed)
    digests = [digest(env, observation)]
    for action in actions:
        observation, *_ = env.step(action)
        digests.append(digest(env, observation))
    return digests


def state(env: Any) -> np.ndarray:
    """Time, positions and velocities."""
    return env.unwrapped.sim_env.sim.get_state().flatten()


def liberos_own(env: Any) -> Any:
    """The same task as LIBERO makes it, with its own renderer."""
    from libero.libero.envs.env_wrapper import OffScreenRenderEnv  # pyright: ignore

    return OffScreenRenderEnv(
        bddl_file_name=str(env.unwrapped._libero.bddl), camera_heights=128, camera_widths=128
    )


def digest(env: Any, observation: dict[str, Any]) -> str:
    arrays = [state(env), observation["agent_pos"], *observation["pixels"].values()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@pytest.mark.parametrize("task", ["spatial-0", "object-3", "goal-6", "10-9"])
def test_a_task_of_each_suite_runs_for_twenty_steps(task):
    env = make(task)
    _, info = env.reset(seed=7)
    assert info["initial_state"] == 7
    action = np.array([0.2, 0, -0.5, 0, 0, 0, 1], np.float32)
    before = state(env)
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert all(image.std() > 10 for image in observation["pixels"].values())
    assert np.abs(state(env) - before).max() > 0.01
    assert info["versions"]["robosuite"] == "1.4.0"
    env.close()


@pytest.mark.parametrize("index", range(10))
def test_every_task_of_libero_10_starts(index):
    env = make(f"10-{index}")
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert all(image.std() > 10 for image in observation["pixels"].values())
    assert info["is_success"] is False
    env.close()


@pytest.mark.parametrize(("task", "protocol"), [("10-2", "states"), ("spatial-4", "uva")])
def test_a_seed_is_an_episode_after_another_episode_and_in_a_new_process(task, protocol):
    env = make(task, protocol=protocol)
    first = fly(env, 100_005)
    assert fly(env, 100_006) != first
    np.random.seed(1)
    assert fly(env, 100_005) == first
    env.close()
    code = (
        "import json; from test_libero_real import fly, make;"
        f"print(json.dumps(fly(make({task!r}, protocol={protocol!r}), 100_005)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == first


def test_images_are_liberos_own_and_a_burner_glows():
    env = make("10-2", resolution=(128, 128), render_quality="full")
    observation, _ = env.reset(seed=4)
    own = liberos_own(env)
    np.random.seed(4)
    own.reset()
    own.set_init_state(initial_states(env.unwrapped._libero.states)[4])
    for _ in range(10):
        own.step(REST)
    assert np.array_equal(state(env), own.env.sim.get_state().flatten())
    for lit in (False, True):
        raw = own.env._get_observations(force_update=True)
        for view, camera in env.unwrapped.views.items():
            ours = observation["pixels"][view].astype(float)
            assert np.abs(ours - raw[f"{camera}_image"][::-1]).mean() < 0.1
        if not lit:
            dark = observation["pixels"]["gripper"].astype(float)
            for sim in (own.env.sim, env.unwrapped.sim_env.sim):
                sim.data.set_joint_qpos(BUTTON, 2.0)
            own.step(REST)
            observation, *_ = env.step(np.array(REST, np.float32))
    redder = (observation["pixels"]["gripper"] - dark)[..., 0] > 50
    assert redder.sum() > 200


def test_uva_starts_where_its_own_evaluation_does():
    env = make("goal-0", protocol="uva")
    env.reset(seed=100_000)
    own = liberos_own(env)
    own.env.hard_reset = False
    np.random.seed(100_000)
    own.reset()
    assert np.array_equal(state(env), own.env.sim.get_state().flatten())
    ours, theirs = env.unwrapped.sim_env.sim.model, own.env.sim.model
    assert np.array_equal(ours.body_pos, theirs.body_pos)  # furniture


def test_the_expert_reaches_a_thing_beside_a_taller_one():
    env = make("object-1", views=())
    env.reset(seed=1)  # a palm set square on the cream cheese would land on the tomato sauce
    expert = expert_for("object-1")
    expert.reset(env)
    for _ in range(150):
        *_, terminated, _, info = env.step(expert.act(env))
        if terminated:
            break
    assert info["is_success"]
