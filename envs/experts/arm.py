"""What an expert needs of the arm: where the hand is, and the action that moves it somewhere."""

from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.robosuite_api import right

OPEN, CLOSE = -1.0, 1.0
_METRES_PER_UNIT = 0.05  # robosuite's OSC_POSE: what one unit of action asks for
_RADIANS_PER_UNIT = 0.5
UP = np.array([0.0, 0.0, 1.0])
_DOWN = -UP


def above(point: np.ndarray, height: float) -> np.ndarray:
    """The point `height` metres above `point`."""
    return point + height * UP


class Arm:
    """The Panda of a `RobosuiteEnv` or a `LiberoEnv`, read from the simulator's state."""

    def __init__(self, env: gym.Env) -> None:
        self.sim_env: Any = getattr(env.unwrapped, "sim_env")  # noqa: B009  (gym.Env has no such name)
        self._robot = self.sim_env.robots[0]
        prefix = right(self._robot.gripper).naming_prefix
        self._fingers = [prefix + "leftfinger", prefix + "rightfinger"]
        self._hand = right(self._robot.robot_model.eef_name)

    @property
    def data(self) -> Any:
        """MuJoCo's data; a hard reset replaces it, so never keep it."""
        return self.sim_env.sim.data

    @property
    def position(self) -> np.ndarray:
        """The point between the finger tips."""
        return np.array(self.data.site_xpos[right(self._robot.eef_site_id)])

    @property
    def closing_axis(self) -> np.ndarray:
        """Unit vector from finger to finger."""
        # from the finger bodies: the site's y axis is not the closing axis of every gripper model
        left, right = (np.array(self.data.get_body_xpos(name)) for name in self._fingers)
        return (right - left) / np.linalg.norm(right - left)

    @property
    def pointing(self) -> np.ndarray:
        """Unit vector from the hand to the finger tips."""
        return np.array(self.data.get_body_xmat(self._hand)).reshape(3, 3)[:, 2]

    def square_turn(self, rotation: np.ndarray) -> float:
        """Smallest turn about the vertical that sets the fingers flat on a box of this rotation."""
        axes = sorted(rotation.T, key=lambda axis: abs(axis[2]))  # the last one points up
        angle = np.arctan2(axes[0][1], axes[0][0]) - np.arctan2(*self.closing_axis[[1, 0]])
        return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)

    def action(
        self,
        target: np.ndarray,
        *,
        gripper: float,
        turn: float = 0.0,
        pointing: np.ndarray = _DOWN,
        closing_axis: np.ndarray | None = None,
        speed: float = 1.0,
    ) -> np.ndarray:
        """One step towards `target`, the hand pointing along `pointing`.

        About that direction it turns by `turn`, or until its fingers lie along `closing_axis`.
        """
        step = (target - self.position) / _METRES_PER_UNIT
        # a straight line, not each axis clipped
        step /= max(1.0, float(np.abs(step).max()) / speed)
        rotation = np.cross(self.pointing, pointing)
        if closing_axis is not None:
            now = self.closing_axis
            wanted = closing_axis * np.sign(now @ closing_axis)  # the fingers are interchangeable
            rotation += np.cross(now, wanted) @ pointing * pointing
        else:
            rotation += turn * UP
        action = np.concatenate([step, rotation / _RADIANS_PER_UNIT, [gripper]])
        return np.clip(action, -1.0, 1.0).astype(np.float32)
