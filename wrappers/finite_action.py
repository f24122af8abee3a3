"""The gate in front of the motors."""

from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.errors import ActionError, ConfigError
from vp_agent.read_numbers import read_floats


class FiniteAction(gym.ActionWrapper):
    """Refuses actions of a wrong shape or with NaN or infinite numbers; clips the rest to the box.

    Args:
        env: an environment with a Box of actions.
        step_limit: largest absolute value of a number, or one per number, in the units of the
            action; for a delta action that is the longest step. None: the box alone.
    """

    def __init__(self, env: gym.Env, *, step_limit: float | np.ndarray | None = None) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, gym.spaces.Box):
            raise ConfigError(f"FiniteAction needs a Box as action space, not {space}")
        self._low, self._high = space.low, space.high
        if step_limit is not None:
            limit = np.asarray(step_limit, space.low.dtype)
            if limit.shape not in ((), space.shape) or not (limit > 0).all():
                raise ConfigError(
                    f"step_limit must be > 0, one number or {space.shape} of them, "
                    f"not {step_limit!r}"
                )
            self._low, self._high = np.maximum(-limit, space.low), np.minimum(limit, space.high)
        self.action_space = gym.spaces.Box(self._low, self._high, dtype=space.dtype.type)

    def action(self, action: Any) -> np.ndarray:
        """The action that passes."""
        numbers = finite_numbers(action, self._low.shape)
        return np.clip(numbers, self._low, self._high).astype(self._low.dtype)


def finite_numbers(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The action as float64; `ActionError` if it has another shape, NaN or infinite numbers."""
    try:
        numbers = read_floats(action)
    except ValueError as error:
        raise ActionError(f"the action must be {shape} numbers, {error}") from error
    if numbers.shape != shape:
        raise ActionError(f"the action must have shape {shape}, not {numbers.shape}")
    if not np.isfinite(numbers).all():  # np.clip would let NaN through
        raise ActionError(f"the action must be finite, not {numbers}")
    return numbers


def finite_rows(actions_KA: Any, width: int) -> list[np.ndarray]:
    """The actions of a chunk, each by `finite_numbers`; `ActionError` if there is none."""
    try:
        rows = list(actions_KA)
    except Exception as error:  # a foreign object's methods may raise anything
        kind = type(actions_KA).__name__
        raise ActionError(f"a chunk is a sequence of actions, not a {kind}") from error
    if not rows:
        raise ActionError("an empty chunk; give at least one action")
    return [finite_numbers(row, (width,)) for row in rows]
