"""The robot's state in HDF5 demonstrations: keys of RoboCasa, robomimic and LIBERO.

`observation.state` is what the `agent_pos` of the same family's environments is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_agent.envs.robocasa_env import STATE
from vp_agent.envs.robosuite_api import axis_angle
from vp_agent.errors import DatasetError
from vp_agent.train.demonstrations import NAMES

_ARM = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
_LAYOUTS = (  # the first that is there whole
    STATE,
    _ARM,
    ("ee_pos", "ee_ori", "gripper_states"),
    ("ee_states", "gripper_states"),
)


@dataclass(frozen=True)
class StateKeys:
    """Observations that make up the state, in their order, and the names of its numbers."""

    keys: tuple[str, ...]
    names: tuple[str, ...]

    def rows(self, observations: Any) -> np.ndarray:
        """The state of every step (steps, n), float32."""
        parts = [observations[key][()] for key in self.keys]
        if self.keys == _ARM:
            parts[1] = np.stack([axis_angle(np.roll(row, 1)) for row in parts[1]])  # x y z w
        return np.concatenate(parts, axis=1).astype(np.float32)


def find_state(observations: Mapping[str, Any], *, place: str) -> StateKeys | None:
    """What of a demonstration's observations is the state of our environments; None if nothing.

    A part of it would be another state than theirs.
    """
    kitchen = any(key in observations for key in STATE if key not in _ARM)
    for keys in (STATE,) if kitchen else _LAYOUTS:
        if all(key in observations for key in keys):
            return StateKeys(keys, _names(keys, observations, place))
    return None


def _names(keys: tuple[str, ...], observations: Mapping[str, Any], place: str) -> tuple[str, ...]:
    shapes: list[tuple[int, ...]] = [getattr(observations[key], "shape", ()) for key in keys]
    for key, shape in zip(keys, shapes, strict=True):
        if len(shape) != 2:
            raise DatasetError(f"{place}: obs/{key} has shape {shape}; expected (steps, n)")
    widths = [shape[1] for shape in shapes]
    if keys == _ARM:
        if widths[:2] != [3, 4]:
            raise DatasetError(
                f"{place}: {' and '.join(_ARM[:2])} have {widths[:2]} numbers, expected [3, 4]"
            )
        widths[1] = 3
    if keys != STATE and sum(widths) == len(NAMES["observation.state"]):
        return NAMES["observation.state"]
    return tuple(
        f"{key.removeprefix('robot0_')}.{i}"
        for key, width in zip(keys, widths, strict=True)
        for i in range(width)
    )
