"""The agent: plans as pure functions, chunks in lanes, seeds."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import SMALL, small_model, small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.errors import ConfigError
from vp_agent.folder import save_agent


def test_a_plan_depends_on_the_observation_and_the_seed_only(agent):
    first = agent.plan(small_observation(), seed=1).actions
    agent.act(small_observation(seed=9))
    agent.plan(small_observation(seed=5), seed=7)
    assert np.array_equal(agent.plan(small_observation(), seed=1).actions, first)
    assert not np.array_equal(agent.plan(small_observation(), seed=2).actions, first)
    assert not np.array_equal(agent.plan(small_observation(seed=5), seed=1).actions, first)


def test_the_video_is_decoded_only_when_asked_for(agent, monkeypatch):
    decoded = []
    decode = agent.model.decode_video
    monkeypatch.setattr(agent.model, "decode_video", lambda x: decoded.append(1) or decode(x))
    assert agent.plan(small_observation(), seed=0).video is None
    assert not decoded
    video = agent.plan(small_observation(), seed=0, video=True).video
    assert decoded
    assert {view: clip.shape for view, clip in video.items()} == {
        "gripper": (3, 32, 32, 3),
        "left": (3, 32, 32, 3),
    }
    assert video["left"].dtype == np.uint8


def test_an_instruction_is_encoded_once(agent, monkeypatch):
    encoded = []
    encode = agent.model.encode_text
    monkeypatch.setattr(agent.model, "encode_text", lambda x: encoded.append(x) or encode(x))
    for seed in range(3):
        agent.plan(small_observation(), seed=seed)
    assert encoded == [["lift the cube"]]


def test_a_batch_row_equals_the_single_plan_of_its_seed(agent):
    batch = agent.plan(small_observation(lanes=2), seed=[4, 8], video=True)
    assert batch.actions.shape == (2, 8, 7)
    for row, seed in enumerate((4, 8)):
        single = small_observation()
        single["pixels"] = {k: v[row] for k, v in small_observation(lanes=2)["pixels"].items()}
        plan = agent.plan(single, seed=seed, video=True)
        # Another batch size takes other kernels, which round differently.
        assert np.allclose(batch.actions[row], plan.actions, atol=1e-4)
        assert np.abs(batch.video["left"][row].astype(int) - plan.video["left"]).max() <= 1


def test_given_start_noise_replaces_the_seeds(agent):
    noise = np.random.default_rng(0).standard_normal
    video, action = noise((7, 4, 4, 4)), noise((8, 7))
    plans = [
        agent.plan(small_observation(), seed=s, video_noise=video, action_noise=action).actions
        for s in (1, 2)
    ]
    assert np.array_equal(*plans)


def test_act_executes_its_part_of_the_chunk_and_plans_again(agent):
    agent.reset(seed=5)
    plans, actions = [], []
    for step in range(9):
        actions.append(agent.act(small_observation(seed=step)))
        if not plans or plans[-1] is not agent.current_plan:
            plans.append(agent.current_plan)
    assert len(plans) == 3  # at steps 0, 4 and 8
    assert np.array_equal(actions[:4], plans[0].actions[:4])
    assert np.array_equal(actions[4:8], plans[1].actions[:4])
    assert actions[0].dtype == np.float32


def test_lanes_fly_like_separate_agents_and_reset_one_by_one(agent, agent_folder):
    agent.reset(seed=10)
    together = [agent.act(small_observation(seed=s, lanes=2)) for s in range(6)]
    other = VideoPolicyAgent.from_pretrained(agent_folder, device="cpu")
    other.reset(seed=11)  # lane 1's seed
    for step in range(6):
        single = small_observation()
        pixels = small_observation(seed=step, lanes=2)["pixels"]
        single["pixels"] = {view: image[1] for view, image in pixels.items()}
        assert np.allclose(other.act(single), together[step][1], atol=1e-4)
    agent.reset(lanes=[0])
    before = agent.current_plan
    agent.act(small_observation(lanes=2))
    assert agent.current_plan is not before
    assert len(agent.current_plan.actions) == 1  # only the reset lane planned


def test_actions_stay_in_the_training_range(agent):
    actions = agent.plan(small_observation(), seed=0).actions
    assert np.abs(actions).max() <= 1


def test_an_agent_without_action_statistics_cannot_act(tmp_path):
    save_agent(small_model(SMALL.replace(action_stats=None)), tmp_path / "video", card="")
    agent = VideoPolicyAgent.from_pretrained(tmp_path / "video", device="cpu")
    with pytest.raises(ConfigError, match="vp-agent train --stage action"):
        agent.act(small_observation())


def test_a_chunk_is_the_actions_until_the_next_plan(agent):
    agent.reset(seed=4)
    singles = [agent.act(small_observation()) for _ in range(agent.config.execute)]
    agent.reset(seed=4)
    assert np.array_equal(agent.act(small_observation(), chunk=True), np.stack(singles))
    agent.reset(seed=4)
    assert np.array_equal(agent.act(small_observation()), singles[0])
    assert np.array_equal(agent.act(small_observation(), chunk=True), np.stack(singles[1:]))


def test_the_environments_arguments_name_a_transform_only_where_there_is_one(agent, agent_folder):
    assert "transform" not in agent.env_kwargs
    agent.model.config = agent.config.replace(image_transform="raw")
    assert agent.env_kwargs["transform"] == "raw"


def test_a_chunk_needs_lanes_that_are_equally_far(agent):
    agent.reset(seed=4)
    together = agent.act(small_observation(lanes=2), chunk=True)
    assert together.shape == (2, agent.config.execute, 7)
    agent.act(small_observation(lanes=2))
    agent.reset(lanes=[0])
    with pytest.raises(ConfigError, match=r"steps \[0, 1\] of their chunks"):
        agent.act(small_observation(lanes=2), chunk=True)


def test_seeds_are_whole_numbers_of_any_kind(agent):
    wanted = agent.plan(small_observation(), seed=3).actions
    for seed in (np.int64(3), np.array([3]), [3]):
        assert np.array_equal(agent.plan(small_observation(), seed=seed).actions, wanted)
    agent.reset(seed=np.int64(3))
    first = agent.act(small_observation())
    agent.reset(seed=3)
    assert np.array_equal(agent.act(small_observation()), first)
    for seed in (0.5, "x", None, {3}, b"3", [0.5], torch.tensor(3.0)):
        with pytest.raises(ConfigError, match="a seed is a whole number"):
            agent.plan(small_observation(), seed=seed)
    agent.reset(seed=[])
    with pytest.raises(ConfigError, match="reset was given 0 seeds; there is a lane 0"):
        agent.act(small_observation())


def test_start_noise_of_another_shape_is_refused(agent):
    noise = np.zeros((agent.config.horizon, agent.config.action_dim), np.float32)
    agent.plan(small_observation(), seed=0, action_noise=noise)
    for wrong in (noise.T, noise[:-1]):
        with pytest.raises(ConfigError, match=r"start noise must have shape \(\d+, 7\)"):
            agent.plan(small_observation(), seed=0, action_noise=wrong)
    with pytest.raises(ConfigError, match="finite"):
        agent.plan(small_observation(), seed=0, action_noise=noise * np.nan)


class Short(gym.Env):
    """Episodes of three steps; an image is of the brightness of episode and step."""

    observation_space = gym.spaces.Dict(
        {
            "pixels": gym.spaces.Dict(
                dict.fromkeys(SMALL.views, gym.spaces.Box(0, 255, (*SMALL.resolution, 3), np.uint8))
            ),
            "agent_pos": gym.spaces.Box(-1, 1, (8,)),
            "task": gym.spaces.Text(9),
        }
    )
    action_space = gym.spaces.Box(-1, 1, (7,))
    episode, at = 0, 0

    def reset(self, *, seed=None, options=None):
        self.episode, self.at = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        self.at += 1
        return self._observation(), 0.0, self.at == 3, False, {}

    def _observation(self):
        image = np.full((*SMALL.resolution, 3), 10 * self.episode + self.at, np.uint8)
        return {
            "pixels": dict.fromkeys(SMALL.views, image),
            "agent_pos": np.zeros(8, np.float32),
            "task": "push",
        }


def test_a_vector_environment_is_flown_as_the_page_on_workers_says(agent, monkeypatch):
    planned, plan = [], agent._plan
    monkeypatch.setattr(
        agent,
        "_plan",
        lambda obs, *a, **k: planned.append(obs.images_BVHW3[0, 0, 0, 0, 0]) or plan(obs, *a, **k),
    )
    envs = gym.vector.SyncVectorEnv([Short])
    obs, _ = envs.reset(seed=0)
    agent.reset(seed=0)
    ended = np.zeros(1, bool)
    for _ in range(12):
        obs, _, terminated, truncated, _ = envs.step(agent.act(obs))
        agent.reset(np.flatnonzero(ended))
        ended = terminated | truncated
    assert planned == [10, 20, 30]  # the first observation of each episode


def test_seeds_may_be_of_any_size(agent):
    plans = {}
    for seed in (-1, 0, 1, 2**64 - 1, 2**64, 2**64 + 1, -(2**70), 10**5000):
        plans[seed] = agent.plan(small_observation(), seed=seed).actions.tobytes()
        agent.reset(seed=seed)
        agent.act(small_observation())
    assert len(set(plans.values())) == len(plans) - 1  # torch takes -1 for 2^64 - 1
    assert plans[-1] == plans[2**64 - 1]
    batch = small_observation(lanes=2)
    counted, named = (agent.plan(batch, seed=s).actions for s in (2**64 - 1, [2**64 - 1, 2**64]))
    assert np.array_equal(counted, named)
