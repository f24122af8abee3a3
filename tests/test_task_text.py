"""Instructions in Gymnasium's own vector environments, shared memory included."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from vp_agent.envs.task_text import TaskText
from vp_agent.envs.worker_spaces import space_from_message, space_to_message


class Told(gym.Env):
    """Its instruction names the episode."""

    observation_space = gym.spaces.Dict({"task": TaskText(20, charset="episod 0123456789")})
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = seed or 0
        return {"task": f"episode {self.count}"}, {}

    def step(self, action):
        self.count += 10
        return {"task": f"episode {self.count}"}, 0.0, False, False, {}


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_processes_show_the_instruction_of_now(shared, copies):
    envs = AsyncVectorEnv([Told, Told], shared_memory=shared, copy=copies, context="forkserver")
    assert tuple(envs.reset(seed=[3, 4])[0]["task"]) == ("episode 3", "episode 4")
    first = deepcopy(envs.step(np.zeros(2, int))[0]["task"])
    envs.step(np.zeros(2, int))
    assert first == ("episode 13", "episode 14")
    envs.close()


def test_one_process_shows_it_as_before():
    envs = SyncVectorEnv([Told, Told])
    assert envs.reset(seed=[3, 4])[0]["task"] == ("episode 3", "episode 4")


def test_it_is_a_text_to_gymnasium_and_to_a_worker():
    space = TaskText(20, charset="abc")
    assert space == gym.spaces.Text(20, charset="abc")
    assert isinstance(space_from_message(space_to_message(space)), TaskText)
