"""An environment in a worker is the same environment, and its crash is an error, not a hang."""

import os
import signal
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from worker_envs import WORDS, Noise

from vp_agent.envs.worker import WorkerEnv
from vp_agent.errors import (
    ActionError,
    SimulatorError,
    UnknownNameError,
    WorkerDied,
    WorkerError,
    WorkerTimeout,
)
from vp_agent.wrappers.action_chunk import ActionChunk

TESTS = {"PYTHONPATH": str(Path(__file__).parent)}
STILL = np.zeros(7, np.float32)


def make(*, env: Any = {}, deadline_s: float = 60, **kwargs: Any) -> Any:  # noqa: B006
    return WorkerEnv(
        "worker_envs:Noise-v0", env={**TESTS, **env}, deadline_s=deadline_s, kwargs=kwargs
    )


@pytest.fixture(scope="module")
def env():
    env = make(render_mode="rgb_array")
    yield env
    env.close()


def actions_of(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)


def same(one: Any, other: Any) -> bool:
    """Equal in every bit, type and order."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and one == other


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, within_s: float = 20) -> bool:
    deadline = time.monotonic() + within_s
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not lives(pid)


def test_an_episode_is_the_same_in_a_worker_and_here(env):
    here = Noise()
    assert same(env.reset(seed=2), here.reset(seed=2))
    for action in actions_of(0, 5):
        assert same(env.step(action), here.step(action))
    assert same(env.reset(), here.reset())  # the next seed of the same generator


def test_spaces_and_attributes_are_those_of_the_child(env):
    here = Noise()
    assert env.action_space == here.action_space
    assert env.observation_space == here.observation_space
    assert list(env.observation_space["pixels"]) == ["right", "left"]
    names = ("views", "resolution", "horizon", "control_hz", "render_quality", "metadata")
    assert all(same(getattr(env, name), getattr(here, name)) for name in names)
    env.reset(seed=7)
    assert env.instruction == f"{WORDS} 7"
    assert env._max_episode_steps == 6
    assert env.worker.versions["python"] == sys.version.split()[0]


def test_gymnasiums_checker_finds_nothing_that_it_does_not_find_here(env):
    found = []
    for checked in (Noise(render_mode="rgb_array"), env):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(checked)
        found.append([str(warning.message) for warning in caught])
    assert found[0] == found[1]
    assert env.render().shape == (2, 2, 3)


def test_a_chunk_is_one_message_and_the_same_steps(env, monkeypatch):
    here, actions = ActionChunk(Noise(), 4), actions_of(1, 3)
    chunked = ActionChunk(env, 4)
    assert same(chunked.reset(seed=3), here.reset(seed=3))
    calls = []
    call = env.worker.call
    monkeypatch.setattr(env.worker, "call", lambda *a, **k: calls.append(a) or call(*a, **k))
    assert same(chunked.step(actions), here.step(actions))
    assert calls == [("step_chunk",)]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("segfault", "killed by SIGSEGV.*in segfault"),
        ("killed", "killed by SIGKILL .out of memory"),
        ("leave", "exited with code 3.*no licence found"),
        ("orphan", "killed by SIGKILL"),
    ],
)
def test_a_crash_is_an_error_with_its_cause_and_last_words(env, trouble, said):
    env.reset(seed=5, options={"trouble": trouble})
    env.step(STILL)
    start = time.monotonic()
    with pytest.raises(WorkerDied, match=f"(?s){said}"):
        env.step(STILL)
    assert time.monotonic() - start < 10
    assert gone(env.worker.pid)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(STILL)


@pytest.mark.parametrize(
    ("trouble", "deadline_s", "said"),
    [("hang", 1.0, "alive.*in hang"), ("stopped", 3.0, "silent for")],
)
def test_a_hang_is_an_error_soon_after_its_deadline(env, monkeypatch, trouble, deadline_s, said):
    env.reset(seed=5, options={"trouble": trouble})
    env.step(STILL)
    monkeypatch.setattr(env, "deadline_s", deadline_s)
    start = time.monotonic()
    with pytest.raises(WorkerTimeout, match=f"(?s)deadline_s={deadline_s:g};.*{said}"):
        env.step(STILL)
    assert time.monotonic() - start < deadline_s + 3  # 0.5 s, and what a busy machine adds
    assert gone(env.worker.pid)


def test_after_a_crash_reset_gives_the_same_episode_in_a_new_process(env):
    first = env.reset(seed=8, options={"trouble": "segfault"})
    dead = env.worker.pid
    with pytest.raises(WorkerDied):
        env.step_chunk(actions_of(2, 3))
    assert same(env.reset(), first)  # without a seed: the episode that was lost
    assert env.worker.pid != dead
    assert same(env.reset(seed=8), first)


def test_a_renewed_environment_is_a_new_one_in_the_same_process(env):
    first, pid = env.reset(seed=8), env.worker.pid
    env.reset(seed=1)
    assert env.task == "reset again"
    env.renew()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(STILL)
    assert same(env.reset(seed=8), first)
    assert env.task == "reset once"
    assert env.worker.pid == pid
    env.reset(seed=8)
    assert env.task == "reset again"


@pytest.mark.parametrize(
    ("trouble", "error", "said"),
    [
        ("refuse", ActionError, "^the arm does not bend like this$"),
        ("unknown", UnknownNameError, "^no task 'Lfit'; did you mean 'Lift'.$"),
        ("odd", SimulatorError, "^TimeoutExpired: Command 'licence-check'"),
        ("strange", WorkerError, "'task'. is {1, 2} .set."),
    ],
)
def test_the_environments_own_errors_come_out_as_they_are(env, trouble, error, said):
    env.reset(seed=1, options={"trouble": trouble})
    env.step(STILL)
    with pytest.raises(error, match=said) as caught:
        env.step(STILL)
    assert type(caught.value) is error
    assert trouble == "strange" or f"in {trouble}" in str(caught.value.__cause__)
    env.reset(seed=1)  # the worker has survived it
    assert same(env.step(STILL)[4]["seed"], 1)


def test_an_error_of_making_the_environment_ends_the_worker():
    with pytest.raises(gym.error.NameNotFound, match="Nose"):
        WorkerEnv("worker_envs:Nose-v0", env=TESTS)
    with pytest.raises(WorkerDied, match="during make"):
        make(trouble="segfault")


@pytest.mark.skipif(find_spec("mujoco") is None, reason="needs mujoco")
def test_a_gl_failure_says_what_to_install():
    with pytest.raises(SimulatorError, match=r"cannot draw images.*apt-get install"):
        make(trouble="no_gl", env={"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"})


def test_what_a_simulator_prints_does_not_disturb_the_messages(env):
    here = Noise()
    env.reset(seed=2, options={"trouble": "shout"})
    here.reset(seed=2)
    for action in actions_of(0, 3):
        assert same(env.step(action), here.step(action))


def test_a_warning_of_the_environment_is_one_here(env):
    env.reset(seed=2, options={"trouble": "warn"})
    env.step(STILL)
    with pytest.warns(UserWarning, match="these assets are stand-ins"):
        env.step(STILL)


def test_actions_that_are_no_numbers_are_refused_here(env):
    env.reset(seed=1)
    for action in ("left", None, [[1.0], [1.0, 2.0]], {"arm": 1}):
        with pytest.raises(ActionError, match="array of numbers"):
            env.step(action)


def test_who_asks_a_dead_worker_is_told_of_what_it_died(env):
    env.reset(seed=5, options={"trouble": "segfault"})
    env.step(STILL)
    with pytest.raises(WorkerDied):
        env.step(STILL)
    with pytest.raises(WorkerDied, match=r"there is no worker for render: .*SIGSEGV during step"):
        env.worker.call("render", deadline_s=1, check=lambda drawn: drawn)


def test_an_interrupted_call_ends_the_worker(env):
    def interrupt(*_):
        raise KeyboardInterrupt

    env.reset(seed=5, options={"trouble": "hang"})
    env.step(STILL)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            env.step(STILL)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert gone(env.worker.pid)


def test_a_worker_ends_when_its_environment_is_closed_or_forgotten():
    env = make()
    pid = env.worker.pid
    env.close()
    env.close()
    assert gone(pid)
    env.reset(seed=1)
    pid = env.worker.pid
    del env
    assert gone(pid)


_PARENT = f"""
import sys, numpy, vp_agent.envs.worker as worker
idle, busy = (worker.WorkerEnv("worker_envs:Noise-v0", env={TESTS!r}) for _ in range(2))
busy.deadline_s = 5
busy.reset(options={{"trouble": sys.argv[1]}})
busy.step(numpy.zeros(7))
print(idle.worker.pid, busy.worker.pid, flush=True)
busy.step(numpy.zeros(7))
"""


# with its lock held, the interpreter ends only some seconds after the call's deadline
@pytest.mark.parametrize("trouble", ["hang", pytest.param("block", marks=pytest.mark.slow)])
def test_no_worker_outlives_a_killed_parent(trouble):
    command = [sys.executable, "-c", _PARENT, trouble]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(lives, workers))
    time.sleep(0.2)  # so that the second is busy
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert all(map(gone, workers))
