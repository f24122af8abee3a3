"""Arm actions for a robot that has more to move."""

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from vp_agent.errors import ConfigError
from vp_agent.wrappers.finite_action import finite_numbers

BASE_AT_REST = (0.0, 0.0, 0.0, 0.0, -1.0)  # RoboCasa: base 3, torso, mode (-1: the arm moves)


class PadAction(gym.ActionWrapper):
    """Takes the leading numbers of the action; the others are always `tail`.

    With RoboCasa's own 12-D environments the default turns 7-D arm actions into theirs.
    """

    def __init__(self, env: gym.Env, *, tail: Sequence[float] = BASE_AT_REST) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, gym.spaces.Box) or space.shape[:1] <= (len(tail),):
            raise ConfigError(
                f"PadAction needs a flat Box of more than {len(tail)} numbers, not {space}"
            )
        self._tail = np.asarray(tail, space.low.dtype)
        arm = space.shape[0] - len(tail)
        self.action_space = gym.spaces.Box(
            space.low[:arm], space.high[:arm], dtype=space.dtype.type
        )

    def action(self, action: np.ndarray) -> np.ndarray:
        """The action with its tail."""
        numbers = finite_numbers(action, self.action_space.shape or ())
        return np.concatenate([numbers.astype(self._tail.dtype), self._tail])
