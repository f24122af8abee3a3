"""The expert that opens a door: grasp the lever, press it down, pull."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts.arm import CLOSE, OPEN, UP, Arm, above

_GRASP = np.array([0.115, -0.1, 0.0])  # on the lever, in the latch's frame, near the lever's end
_HINGE = np.array([0.255, 0.0, 0.0])  # in the door's frame
_HOVER = 0.09  # metres above the lever
_LEAN = 0.35  # radians: the palm is wider than the gap to the door, so it leans outwards
_PRESSED = 1.1  # radians of the lever at which the latch lets the door go
# radians between where they are and where they are led; a faster pull slips off the lever's end
_AHEAD_LEVER, _AHEAD_DOOR = 0.35, 0.12
_CLOSING_STEPS = 8
_LOST = 0.05


@dataclass(frozen=True)
class _Door:
    """Where the lever is, and where it would be after the lever and the door moved on."""

    axes: np.ndarray
    hinge: np.ndarray
    latch: np.ndarray
    lever_angle: float
    hinge_angle: float

    @classmethod
    def see(cls, arm: Arm) -> "_Door":
        sim: Any = arm.sim_env
        ids, data = sim.object_body_ids, arm.data
        axes = np.array(data.body_xmat[ids["door"]]).reshape(3, 3)
        return cls(
            axes=axes,
            hinge=np.array(data.body_xpos[ids["door"]]) + axes @ _HINGE,
            latch=np.array(data.body_xpos[ids["latch"]]),
            lever_angle=float(data.qpos[sim.handle_qpos_addr]),
            hinge_angle=float(data.qpos[sim.hinge_qpos_addr]),
        )

    @property
    def outward(self) -> np.ndarray:
        return -self.axes[:, 1]

    def grasp_point(self, *, lever: float = 0.0, hinge: float = 0.0) -> np.ndarray:
        """The point to hold when the lever and the hinge have turned by so much more."""
        angle = self.lever_angle + lever
        cosine, sine = np.cos(angle), np.sin(angle)
        about_y = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
        arm_of_hinge = self.latch + self.axes @ about_y @ _GRASP - self.hinge
        cosine, sine = np.cos(hinge), np.sin(hinge)
        about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        return self.hinge + about_z @ arm_of_hinge


class DoorExpert:
    """Straddles the lever from above, closes, presses it down and pulls the door along its arc."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""
        self._phase = "hover"
        self._closing = 0

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        door = _Door.see(arm)
        grasp = door.grasp_point()
        error = grasp - arm.position
        away = float(np.linalg.norm(error[:2]))
        pointing = -np.cos(_LEAN) * UP - np.sin(_LEAN) * door.outward
        closing_axis = door.outward - door.outward @ pointing * pointing
        pose = {
            "pointing": pointing,
            "closing_axis": closing_axis / np.linalg.norm(closing_axis),
        }
        if self._phase in ("close", "open door") and np.linalg.norm(error) > _LOST:
            self._phase = "rise"
        if self._phase == "rise" and -error[2] > _HOVER / 2:
            self._phase = "hover"
        turned = abs(arm.closing_axis @ pose["closing_axis"]) > 0.98
        if self._phase == "hover" and away < 0.015 and turned and -error[2] < 1.5 * _HOVER:
            self._phase = "descend"
        if self._phase == "descend" and np.linalg.norm(error) < 0.012:
            self._phase, self._closing = "close", 0
        if self._phase == "close":
            self._closing += 1
            if self._closing > _CLOSING_STEPS:
                self._phase = "open door"
        if self._phase == "rise":
            return arm.action(above(arm.position, 0.05), gripper=OPEN, **pose)
        if self._phase == "hover":
            return arm.action(above(grasp, _HOVER), gripper=OPEN, **pose)
        if self._phase == "descend":
            return arm.action(grasp, gripper=OPEN, **pose)
        if self._phase == "close":
            return arm.action(grasp, gripper=CLOSE, **pose)
        lever = float(np.clip(_PRESSED + 0.15 - door.lever_angle, -_AHEAD_LEVER, _AHEAD_LEVER))
        free = door.lever_angle > _PRESSED or door.hinge_angle > 0.03
        target = door.grasp_point(lever=lever, hinge=_AHEAD_DOOR if free else 0.0)
        return arm.action(target, gripper=CLOSE, **pose)
