"""Workers side by side give the episodes they would give one by one."""

import copy
import pickle
import signal
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_worker import TESTS, gone
from worker_envs import WORDS, Noise

from vp_agent.envs import interpreters
from vp_agent.envs.families import Family
from vp_agent.envs.interpreters import Place
from vp_agent.envs.worker_process import Worker
from vp_agent.envs.worker_vector import WorkerVectorEnv, make_vector_env
from vp_agent.errors import ActionError, ConfigError, WorkerDied
from vp_agent.wrappers.action_chunk import step_chunk

LANES = 2
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (12, LANES, 7)).astype(np.float32)
TOY = "worker_envs:Noise-v0"


def make(mode: AutoresetMode) -> WorkerVectorEnv:
    return WorkerVectorEnv(TOY, num_envs=LANES, place=Place(env=TESTS), autoreset_mode=mode)


@pytest.fixture(scope="module")
def envs():
    envs = make(AutoresetMode.DISABLED)
    yield envs
    envs.close()


def row(batch: Any, lane: int) -> Any:
    """A lane's observation, as its environment would give it alone."""
    if isinstance(batch, dict):
        return {key: row(part, lane) for key, part in batch.items()}
    return batch[lane]


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def test_autoreset_at_the_next_step_gives_the_episodes_one_by_one():
    envs, alone = make(AutoresetMode.NEXT_STEP), [Noise() for _ in range(LANES)]
    observation, _ = envs.reset(seed=6)
    for lane, env in enumerate(alone):
        assert equal(row(observation, lane), env.reset(seed=6 + lane)[0])
    ended, resets = [False] * LANES, 0
    for actions in ACTIONS:
        observation, rewards, terminations, truncations, infos = envs.step(actions)
        for lane, env in enumerate(alone):
            if ended[lane]:
                resets += 1
                expected, info = env.reset()
                outcome = (0.0, False, False)
            else:
                expected, *outcome, info = env.step(actions[lane])
            assert equal(row(observation, lane), expected)
            assert [rewards[lane], terminations[lane], truncations[lane]] == list(outcome)
            assert infos["seed"][lane] == info["seed"]
            ended[lane] = any(outcome[1:])
    assert resets > LANES
    envs.close()


def test_autoreset_at_the_same_step_is_gymnasiums():
    ours: Any = make(AutoresetMode.SAME_STEP)
    theirs = SyncVectorEnv([Noise] * LANES, autoreset_mode=AutoresetMode.SAME_STEP)
    wanted, found = theirs.reset(seed=[3, 4])[0], ours.reset(seed=[np.int64(3), 4])[0]
    assert equal(found, wanted)
    ended = 0
    for actions in ACTIONS:
        wanted, found = theirs.step(actions), ours.step(actions)
        assert all(equal(a, b) for a, b in zip(found[:4], wanted[:4], strict=True))
        assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        assert found[4].keys() == wanted[4].keys()
        for lane in np.flatnonzero(wanted[4].get("_final_obs", [])):
            ended += 1
            assert equal(found[4]["final_obs"][lane], wanted[4]["final_obs"][lane])
            assert equal(found[4]["seed"][lane], wanted[4]["seed"][lane])
        assert equal(row(found[4], 0)["seed"], row(wanted[4], 0)["seed"])
    assert ended > 2
    ours.close()


def test_a_copy_of_a_vector_environment_has_processes_of_its_own(envs):
    wanted = envs.reset(seed=[3, 4])[0]
    twin = pickle.loads(pickle.dumps(envs))
    assert equal(twin.reset(seed=[3, 4])[0], wanted)
    assert twin.envs[0].worker is not envs.envs[0].worker
    lane = copy.deepcopy(twin.envs[1])
    twin.close()
    assert equal(lane.reset(seed=np.int64(4))[0], row(wanted, 1))
    lane.close()


def test_lanes_are_reset_with_seeds_of_choice(envs):
    alone = [Noise() for _ in range(LANES)]
    envs.reset(seed=[4, 7])  # 3 and 6 steps
    for actions in ACTIONS[:3]:
        observation, _, terminations, *_ = envs.step(actions)
    assert terminations.tolist() == [True, False]
    with pytest.raises(ResetNeeded, match=r"lanes \[0\] have ended"):
        envs.step(ACTIONS[0])
    again, infos = envs.reset(seed=[9, None], options={"reset_mask": terminations})
    assert equal(row(again, 0), alone[0].reset(seed=9)[0])
    assert equal(row(again, 1), row(observation, 1))
    assert infos["_seed"].tolist() == [True, False]
    observation, *_ = envs.step(ACTIONS[0])
    assert equal(row(observation, 0), alone[0].step(ACTIONS[0, 0])[0])


def test_the_batch_is_what_the_agent_reads(envs):
    observation, _ = envs.reset(seed=6)
    assert envs.observation_space.contains(observation)
    assert observation["pixels"]["left"].shape == (LANES, 16, 24, 3)
    assert observation["agent_pos"].shape == (LANES, 3)
    assert observation["task"] == (f"{WORDS} 6", f"{WORDS} 7")
    assert envs.action_space.shape == (LANES, 7)


def test_a_chunk_is_stepped_in_every_lane_to_its_end(envs):
    alone = [Noise(), Noise()]
    envs.reset(seed=[4, 7])  # 3 and 6 steps
    for lane, env in enumerate(alone):
        env.reset(seed=[4, 7][lane])
    observation, rewards, terminations, _, infos = envs.step_chunk(ACTIONS[:5].swapaxes(0, 1))
    for lane, env in enumerate(alone):
        expected, reward, terminated, _, info = step_chunk(env, ACTIONS[:5, lane])
        assert equal(row(observation, lane), expected)
        assert (rewards[lane], terminations[lane]) == (reward, terminated)
        assert infos["chunk_steps"][lane] == info["chunk_steps"] == [3, 5][lane]


def test_a_crash_names_its_lane_and_the_others_go_on(envs):
    envs.reset(seed=[8, 9])
    other = envs.envs[0].worker
    _, infos = envs.reset(
        seed=[None, 5],
        options={"reset_mask": np.array([False, True]), "trouble": "segfault"},
    )
    envs.step(ACTIONS[0])
    with pytest.raises(WorkerDied, match=r"^lane 1: the worker was killed by SIGSEGV"):
        envs.step(ACTIONS[1])
    with pytest.raises(ResetNeeded, match=r"lanes \[1\]"):
        envs.step(ACTIONS[2])
    _, infos = envs.reset(options={"reset_mask": np.array([False, True])})
    assert infos["seed"][1] == 5
    observation, *_ = envs.step(ACTIONS[2])
    assert envs.envs[0].worker is other
    alone = Noise()
    alone.reset(seed=8)
    for actions in ACTIONS[:2]:
        alone.step(actions[0])
    assert equal(row(observation, 0), alone.step(ACTIONS[2, 0])[0])


def test_what_does_not_fit_the_lanes_is_refused(envs):
    envs.reset(seed=0)
    with pytest.raises(ActionError, match="2 lanes need as many actions, not 3"):
        envs.step(np.zeros((3, 7)))
    with pytest.raises(ConfigError, match="2 seeds"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ConfigError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.array([True])})
    with pytest.raises(ConfigError, match="num_envs"):
        WorkerVectorEnv(TOY, num_envs=0)
    with pytest.raises(ConfigError, match="NextStep, SameStep, Disabled, not 'Never'"):
        WorkerVectorEnv(TOY, num_envs=1, autoreset_mode="Never")
    for actions in (None, 3.0, np.array(1.0), np.zeros((1, 7))):
        with pytest.raises(ActionError, match="2 lanes need as many actions"):
            envs.step(actions)


def test_make_vec_starts_workers_and_close_ends_them(monkeypatch):
    toy = Family(name="toy", entry_point="", environments={TOY: {}}, missing=lambda: None)
    monkeypatch.setattr(interpreters, "FAMILIES", (toy,))
    monkeypatch.setenv("PYTHONPATH", TESTS["PYTHONPATH"])
    envs = make_vector_env(env_id=TOY, num_envs=1, deadline_s=30, horizon=4)
    assert envs.envs[0]._max_episode_steps == 4
    assert envs.envs[0].deadline_s == 30
    pid = envs.envs[0].worker.pid  # type: ignore[union-attr]
    envs.close()
    assert gone(pid)


def test_an_interrupted_start_ends_the_workers(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    started, start = [], Worker.__init__

    def note(worker, *args, **kwargs):
        start(worker, *args, **kwargs)
        started.append(worker.pid)

    monkeypatch.setattr(Worker, "__init__", note)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        with pytest.raises(KeyboardInterrupt):
            WorkerVectorEnv(TOY, num_envs=2, place=Place(env=TESTS), kwargs={"trouble": "hang"})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert all(gone(pid) for pid in started)
