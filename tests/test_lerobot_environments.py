"""Our environments as LeRobot's commands make them."""

import gymnasium as gym
import pytest
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="the plug-in needs the extra [lerobot]")

from lerobot.envs import make_env_config

from vp_agent.errors import UnknownNameError
from vp_agent.folder import save_agent
from vp_agent.train.lerobot import VPAgentEnv
from vp_agent.train.lerobot.environments import Episodes


def test_the_environment_takes_its_images_from_the_commands_policy(tmp_path, monkeypatch):
    save_agent(small_model(), tmp_path / "agent", card="")
    monkeypatch.setattr("sys.argv", ["lerobot-eval", f"--policy.agent={tmp_path / 'agent'}"])
    env = make_env_config("vp_agent", task="Robosuite-Lift-v0", episode_length=9)
    assert env.gym_kwargs["resolution"] == [32, 32]
    assert env.gym_kwargs["horizon"] == 9
    assert [key for key in env.features if "images" in key] == [
        f"observation.images.{view}" for view in SMALL.views
    ]


class Room(gym.Env):
    """Knows how often one was made."""

    made = 0

    def __init__(self):
        Room.made += 1
        self.observation_space = self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"task": f"tidy room {Room.made}"}, {}


def test_each_episode_has_an_environment_made_for_it_and_tells_lerobot_its_instruction():
    Room.made = 0
    episodes = Episodes(Room)
    for number in (1, 2):
        episodes.reset(seed=number, options={"lerobot_new_rollout": True})
        assert Room.made == number
        assert episodes.get_wrapper_attr("task_description") == f"tidy room {number}"


def test_an_environment_id_nobody_knows_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'Robosuite-Lift-v0'"):
        VPAgentEnv(task="Robosuite-Lft-v0")
