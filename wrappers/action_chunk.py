"""Several actions per step, for policies that plan chunks."""

# K action steps, A action dim

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from vp_agent.errors import ActionError, ConfigError
from vp_agent.read_numbers import read_array

Stepped = tuple[Any, float, bool, bool, dict[str, Any]]


class ActionChunk(gym.Wrapper):
    """`step` takes up to `length` actions (k, A) and returns the observation after the last one.

    Ends early with the episode; the reward is the sum and `info["chunk_steps"]` the number of
    actions executed. An environment of this package draws its images only once per chunk.
    """

    def __init__(self, env: gym.Env, length: int = 16) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"ActionChunk needs a flat Box as action space, not {space}")
        if length < 1:
            raise ConfigError(f"length must be at least 1, not {length}")
        self.length = length
        rows = (length, 1)
        self.action_space = gym.spaces.Box(
            np.tile(space.low, rows), np.tile(space.high, rows), dtype=space.dtype.type
        )

    def step(self, action: np.ndarray) -> Stepped:
        """Executes the chunk's actions in order."""
        try:
            actions = read_array(action)
        except ValueError as error:
            raise ActionError(f"a chunk must be numbers, {error}") from error
        if actions.ndim != 2 or not 1 <= len(actions) <= self.length:
            raise ActionError(
                f"a chunk has the shape (1 to {self.length}, {self.env.action_space.shape}), "
                f"not {actions.shape}"
            )
        return step_chunk(self.env, actions)


def step_chunk(env: gym.Env, actions_KA: np.ndarray) -> Stepped:
    """Steps until the actions are used up or the episode ends; see `ActionChunk`."""
    inner = env
    while isinstance(inner, OrderEnforcing | PassiveEnvChecker):  # gym.make's own: they look on
        inner = inner.env
    at_once = getattr(inner, "step_chunk", None)  # of a wrapper that may change things: not used
    if at_once is not None and inner is env.unwrapped:
        return at_once(actions_KA)
    total, stepped = 0.0, None
    for count, action in enumerate(actions_KA, start=1):
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        info = {**info, "chunk_steps": count}
        stepped = observation, total, terminated, truncated, info
        if terminated or truncated:
            break
    if stepped is None:
        raise ActionError("an empty chunk; give at least one action")
    return stepped
