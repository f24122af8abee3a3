"""Chunked stepping: the same episode as single steps, with fewer images."""

from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pilots
import pytest

from vp_agent.errors import ActionError
from vp_agent.evaluation.episode import fly
from vp_agent.evaluation.recording import Recording
from vp_agent.wrappers.action_chunk import ActionChunk

needs_robosuite = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")


def left(count: int) -> np.ndarray:
    return np.full((count, 7), -1, np.float32)


def test_a_chunk_is_its_actions_one_by_one():
    single, chunked = gym.make("Reach-v0"), ActionChunk(gym.make("Reach-v0"), 4)
    single.reset(seed=1)
    chunked.reset(seed=1)
    for action in left(3):
        one = single.step(action)
    many = chunked.step(left(3))
    assert np.array_equal(one[0]["pixels"]["left"], many[0]["pixels"]["left"])
    assert one[1:4] == many[1:4]
    assert many[4] == {**one[4], "chunk_steps": 3}


def test_a_chunk_ends_with_the_episode():
    env = ActionChunk(gym.make("Reach-v0"), 20)
    env.reset(seed=1)
    _, reward, terminated, _, info = env.step(left(20))
    assert (reward, terminated, info["is_success"]) == (1.0, True, True)
    assert info["chunk_steps"] < 20


@pytest.mark.parametrize("actions", [left(5), left(0), left(1)[0]])
def test_a_chunk_of_another_shape_is_refused(actions):
    env = ActionChunk(gym.make("Reach-v0"), 4)
    env.reset(seed=1)
    with pytest.raises(ActionError, match="1 to 4"):
        env.step(actions)


def test_the_action_space_is_the_chunks():
    env = ActionChunk(gym.make("Reach-v0"), 4)
    assert env.action_space.shape == (4, 7)


def test_a_wrapper_in_between_sees_every_step():
    class Halved(gym.ActionWrapper):
        def action(self, action):
            return action / 2

    env = ActionChunk(Halved(gym.make("Reach-v0")), 4)
    env.reset(seed=1)
    before = env.unwrapped.column  # type: ignore[attr-defined]
    env.step(left(4))
    assert env.unwrapped.column == before - 2  # type: ignore[attr-defined]


def test_an_unrecorded_episode_is_the_recorded_one(tmp_path):
    agent, env = pilots.Looker(), gym.make("Reach-v0")
    recorded = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    episode = pilots.episode(3)
    flights = [fly(agent, env, episode, recording=recording) for recording in (None, recorded)]
    lines = [dict(vars(flight)) for flight in flights]
    assert [line.pop("video") for line in lines] == [None, "videos/Reach-00003.mp4"]
    assert [len(line.pop("video_sha256") or "") for line in lines] == [0, 64]
    assert [line.pop("wall_s") > 0 for line in lines] == [True, True]
    assert lines[0] == lines[1]


@needs_robosuite
def test_a_simulated_chunk_draws_once_and_gives_the_same_pixels(monkeypatch):
    from vp_agent.envs.rendering import Cameras

    drawn = []
    draw = Cameras.draw
    monkeypatch.setattr(Cameras, "draw", lambda *args: drawn.append(1) or draw(*args))
    env = gym.make("Robosuite-Lift-v0", views=("left",), resolution=(32, 32), horizon=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)
    env.reset(seed=2)
    for action in actions:
        one = env.step(action)
    drawn.clear()
    chunked = ActionChunk(env, 8)
    chunked.reset(seed=2)
    many = chunked.step(actions)
    env.close()
    assert len(drawn) == 2  # the reset's and the chunk's
    assert np.array_equal(one[0]["pixels"]["left"], many[0]["pixels"]["left"])
    assert np.array_equal(one[0]["agent_pos"], many[0]["agent_pos"])
    assert one[3]
    assert many[3]
