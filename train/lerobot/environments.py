"""Our Gymnasium environments for LeRobot's commands: `--env.type=vp_agent --env.task=ID`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from lerobot.configs import FeatureType, PolicyFeature, parser
from lerobot.envs import EnvConfig
from lerobot.envs.utils import freeze_after_episode_end
from lerobot.utils.constants import ACTION

from vp_agent.envs.arm_env import ACTION_SIZE
from vp_agent.errors import UnknownNameError, closest
from vp_agent.folder import read_config
from vp_agent.locate import locate
from vp_agent.presets import preset
from vp_agent.wrappers.lerobot_keys import IMAGES


@EnvConfig.register_subclass("vp_agent")
@dataclass
class VPAgentEnv(EnvConfig):
    """One environment id; its images are as the policy of the same command wants them."""

    task: str | None = "Robosuite-Lift-v0"
    """Environment id; `vp-agent envs` lists them."""
    fps: int = 20
    episode_length: int | None = None
    """Steps until an episode is given up, instead of the environment's own."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment that the policy does not say, such as {"protocol": "uva"}."""

    def __post_init__(self) -> None:
        if self.task not in gym.registry:
            raise UnknownNameError(
                f"no environment {self.task!r}{closest(str(self.task), gym.registry)} "
                "List: vp-agent envs"
            )
        self.kwargs = {**_images_of_policy(), **self.kwargs}
        self.features = {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_SIZE,))}
        for view in self.kwargs["views"]:
            shape = (*self.kwargs["resolution"], 3)
            self.features[IMAGES + view] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)
        self.features_map = {key: key for key in self.features}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        length = {} if self.episode_length is None else {"horizon": self.episode_length}
        return {"render_mode": "rgb_array", **self.kwargs, **length}

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, gym.vector.VectorEnv]]:
        """Environments side by side, or in a process each."""
        makers = [partial(make_episodes, self.task, **self.gym_kwargs)] * n_envs
        makers = [freeze_after_episode_end(maker) for maker in makers]
        mode = gym.vector.AutoresetMode.NEXT_STEP
        if use_async_envs and n_envs > 1:
            # A forked GL context does not work.
            envs = gym.vector.AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode)
        else:
            envs = gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
        return {self.type: {0: envs}}


class Episodes(gym.Wrapper):
    """Every episode in a newly made environment, as `vp-agent eval` flies them.

    robosuite draws some things, such as the size of a cube, only when an environment is made.
    """

    task_description = ""  # for LeRobot; our `task` is the simulator's name of it

    def __init__(self, make: Callable[[], gym.Env]) -> None:
        super().__init__(make())
        self._make, self._used = make, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if self._used:
            renew = getattr(self.env.unwrapped, "renew", None)
            if renew is not None:  # a worker need not import its simulator again
                renew()
            else:
                self.env.close()
                self.env = self._make()
        self._used = True
        observation, info = self.env.reset(seed=seed)  # LeRobot's option is for its own wrapper
        self.task_description = observation["task"]
        return observation, info


def make_episodes(name: str, **kwargs: Any) -> gym.Env:
    """At the top of a module, so that a process can be given it."""
    return Episodes(partial(gym.make, name, disable_env_checker=True, **kwargs))


def _images_of_policy() -> dict[str, Any]:
    """Views, size and drawing of the policy that the command names: it is made only afterwards."""
    name = parser.get_path_arg("policy") or parser.parse_arg("policy.agent")
    if name is not None:
        return read_config(locate(name)).env_kwargs
    return preset(parser.parse_arg("policy.preset") or "svd-robocasa").env_kwargs
