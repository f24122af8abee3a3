"""Observations in the words of LeRobot's datasets and policies."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from vp_agent.errors import ConfigError

IMAGES, STATE, TASK = "observation.images.", "observation.state", "task"


class LeRobotKeys(gym.ObservationWrapper):
    """`{"pixels": {view: image}, "agent_pos", "task"}` becomes `observation.images.<view>`,
    `observation.state` and `task`: flat, as the items of a LeRobot dataset; values are unchanged.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Dict) or "pixels" not in space.spaces:
            raise ConfigError(f"the environment has no views (pixels: a Dict of images): {space}")
        self.observation_space = gym.spaces.Dict(self.observation(space.spaces))

    def observation(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The observation, flat."""
        views = {IMAGES + view: image for view, image in observation["pixels"].items()}
        rest = {STATE: "agent_pos", TASK: "task"}
        rest = {new: observation[old] for new, old in rest.items() if old in observation}
        return {**views, **rest}
