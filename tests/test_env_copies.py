"""An environment may be used in any thread, copied, pickled and made with NumPy's numbers."""

import copy
import pickle
import subprocess
import sys
import threading
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

import vp_agent  # noqa: F401
from vp_agent.errors import ActionError
from vp_agent.wrappers import ActionChunk, FiniteAction, RecordVideo
from vp_agent.wrappers.finite_action import finite_numbers

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")

BASE = np.array([0.1, 0, -0.2, 0, 0, 0, 1.0])


def make(**kwargs: Any) -> gym.Env:
    small = {"views": ["left"], "resolution": (32, 32), "render_quality": "fast", **kwargs}
    return gym.make("Robosuite-Lift-v0", **small)


def in_thread(work) -> Any:
    found: list[Any] = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@pytest.fixture(scope="module")
def env():
    env = make()
    yield env
    env.close()


def first_pixels(env) -> np.ndarray:
    return env.reset(seed=2)[0]["pixels"]["left"]


THREADS = """
import threading, gymnasium as gym, numpy as np, vp_agent
small = dict(views=["left"], resolution=(32, 32), render_quality="fast")
one, two = (gym.make("Robosuite-Lift-v0", **small) for _ in range(2))
pixels = []
def use(env):
    pixels.append(env.reset(seed=2)[0]["pixels"]["left"])
    env.step(np.zeros(7))
for env in (one, two):
    use(env)
    for _ in range(2):
        thread = threading.Thread(target=use, args=(env,))
        thread.start()
        thread.join()
    env.step(np.zeros(7))
    use(env)
thread = threading.Thread(target=one.close)
thread.start()
thread.join()
use(two)
assert all(np.array_equal(x, pixels[0]) for x in pixels) and len(pixels) == 9
print("whole")
"""


def test_an_environment_is_used_in_one_thread_and_then_in_another():
    # In a process of its own: it used to end by a segmentation fault.
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert done.stdout.endswith("whole\n"), (done.returncode, done.stderr)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_copy_is_made_anew_and_waits_for_a_reset(env, copied):
    wanted = first_pixels(env)
    twin = copied(env.unwrapped)
    assert type(twin) is type(env.unwrapped)
    assert (twin.views, twin.resolution, twin.spec) == (
        env.unwrapped.views,
        env.unwrapped.resolution,
        env.unwrapped.spec,
    )
    with pytest.raises(ResetNeeded):
        twin.step(np.zeros(7))
    assert np.array_equal(first_pixels(twin), wanted)
    twin.close()
    env.step(np.zeros(7))  # its own episode goes on


def test_a_wrapped_environment_is_copied_with_its_wrappers(tmp_path):
    env = RecordVideo(ActionChunk(FiniteAction(make())), tmp_path)
    env.reset(seed=2)
    twin = copy.deepcopy(env)
    with pytest.raises(ResetNeeded):
        twin.step(np.zeros((1, 7)))
    twin.reset(seed=2)
    twin.step(np.zeros((2, 7)))
    twin.close()
    env.close()


def test_numpys_numbers_make_an_environment(env):
    wanted = first_pixels(env)
    other: Any = make(
        horizon=np.int64(2),
        resolution=np.array([32, 32]),
        views=np.array(["left"]),
        terminate_on_success=np.True_,
    )
    assert type(other.unwrapped.horizon) is int
    observation, info = other.reset(seed=np.int64(2))
    assert np.array_equal(observation["pixels"]["left"], wanted)
    assert type(info["seed"]) is int
    other.step(np.zeros(7))
    assert other.step(np.zeros(7))[3] is True
    other.close()


KINDS = {
    "float32": BASE.astype(np.float32),
    "list": list(BASE),
    "tuple": tuple(BASE),
    "big-endian": BASE.astype(">f8"),
    "column": np.stack([BASE, BASE], 1)[:, 0],
    "object": np.array(list(BASE), object),
    "torch": torch.tensor(BASE),
    "gradient": torch.tensor(BASE, requires_grad=True),
    "tensors": [torch.tensor(x) for x in BASE],
    "unmasked": np.ma.array(BASE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_of_any_kind_is_its_numbers(kind):
    numbers = finite_numbers(KINDS[kind], (7,))
    assert numbers.dtype == np.float64
    assert np.allclose(numbers, BASE, rtol=1e-7)  # float32


def test_an_action_that_needs_a_gradient_moves_the_arm_the_same(env):
    env.reset(seed=2)
    wanted = env.step(BASE)[0]["agent_pos"]
    env.reset(seed=2)
    assert np.array_equal(env.step(KINDS["gradient"])[0]["agent_pos"], wanted)


@pytest.fixture(scope="module")
def running(env):
    env.reset(seed=2)
    return env


@pytest.mark.parametrize(
    "action",
    [
        None,
        "0000000",
        ["0"] * 7,
        b"0000000",
        np.zeros(6),
        np.zeros((1, 7)),
        0.0,
        np.array([np.nan] * 7),
        [np.inf] * 7,
        [1j] * 7,
        [10**400] * 7,
        np.ma.array(BASE, mask=[1] + [0] * 6),
        np.zeros(7, "M8[s]"),
        torch.empty(7, device="meta"),
        {"action": BASE},
        {1, 2},
        [[1], [2, 3]],
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_action_is_refused_before_the_arm_moves(running, action):
    env = running
    before = env.unwrapped.sim_env.sim.get_state().flatten()
    for step in (env.step, FiniteAction(env).step):
        with pytest.raises(ActionError, match="action"):
            step(action)
    assert np.array_equal(env.unwrapped.sim_env.sim.get_state().flatten(), before)


def test_a_strict_numpy_of_the_caller_does_not_break_the_simulator(env):
    with np.errstate(all="raise"):
        env.reset(seed=2)
        for _ in range(5):
            env.step(BASE)
