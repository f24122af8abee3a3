"""The expert of LIBERO-Object: picks the named thing up and puts it into the basket."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts.arm import CLOSE, OPEN, Arm, above

_HIGH = 0.05  # metres between finger tips and the top of the thing before the descent
_DEPTH = 0.035  # how far the finger tips reach below the top of a tall thing
_SLICE = 0.01  # what lies so close to the height of the finger tips is between the fingers
_TURN_COST = 0.01  # metres of width that a turn of one radian may save
_ALIGNED, _TURNED = 0.008, 0.1  # metres and radians that start the descent
_LOW_ENOUGH = 0.006  # thin things need to be met low
_CLOSING_STEPS = 10
_LOST = 0.03  # metres that the thing may shift in the hand
_CLEAR = 0.04  # metres between the bottom of the thing and the basket's rim
_OVER = 0.015  # metres from the basket's middle at which the thing may be lowered
_OPENING_STEPS = 6

_CORNERS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T


@dataclass(frozen=True)
class _Grasp:
    """Where the finger tips go, and the direction in which they close."""

    point: np.ndarray
    axis: np.ndarray
    top: float
    bottom: float

    @classmethod
    def of(cls, arm: Arm, thing: str) -> "_Grasp":
        """Across the narrowest part at the height of the finger tips."""
        sim: Any = arm.sim_env.sim
        geoms = [sim.model.geom_name2id(g) for g in arm.sim_env.objects_dict[thing].contact_geoms]
        sizes = sim.model.geom_size[geoms][:, None, :]
        axes = np.array(arm.data.geom_xmat[geoms]).reshape(-1, 3, 3)
        corners = np.einsum("gij,gcj->gci", axes, _CORNERS * sizes)
        corners += np.array(arm.data.geom_xpos[geoms])[:, None, :]
        heights = corners[..., 2]
        top, bottom = float(heights.max()), float(heights.min())
        height = max(top - _DEPTH, (top + bottom) / 2)
        near = (heights.max(axis=1) > height - _SLICE) & (heights.min(axis=1) < height + _SLICE)
        outline = corners[near].reshape(-1, 3)[:, :2]
        angles = np.linspace(0, np.pi, 36, endpoint=False)
        across = np.stack([np.cos(angles), np.sin(angles)])
        widths = np.ptp(outline @ across, axis=0)
        turns = np.arccos(np.clip(np.abs(arm.closing_axis[:2] @ across), 0, 1))
        axis = across[:, np.argmin(widths + _TURN_COST * turns)]
        along = np.array([-axis[1], axis[0]])
        middle = [(np.max(outline @ a) + np.min(outline @ a)) / 2 * a for a in (axis, along)]
        return cls(np.append(sum(middle), height), np.append(axis, 0.0), top, bottom)


class LiberoObjectExpert:
    """Hovers, descends, closes, lifts, carries, lowers and lets go; starts over after a miss."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""
        self._phase, self._count = "hover", 0

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        sim_env: Any = arm.sim_env
        _, thing, region = sim_env.parsed_problem["goal_state"][0]
        place = np.array(arm.data.body_xpos[sim_env.obj_body_id[thing]])
        if self._phase in ("hover", "descend"):
            return self._approach(arm, thing, place)
        shift = place - arm.position - self._in_hand
        if self._phase != "release" and np.linalg.norm(shift) > _LOST:
            self.reset(env)
            return arm.action(above(arm.position, 0.05), gripper=OPEN)
        if self._phase == "close":
            self._count += 1
            if self._count > _CLOSING_STEPS:
                self._phase = "carry"
            return arm.action(self._grasp.point, gripper=CLOSE, closing_axis=self._grasp.axis)
        basket = np.array(arm.data.get_site_xpos(region))
        rim = basket[2] + sim_env.object_sites_dict[region].size[2]
        return self._put(arm, place, basket, rim)

    def _approach(self, arm: Arm, thing: str, place: np.ndarray) -> np.ndarray:
        if self._phase == "hover":
            self._grasp = _Grasp.of(arm, thing)
        grasp = self._grasp
        away = np.linalg.norm(arm.position[:2] - grasp.point[:2])
        turned = abs(arm.closing_axis @ grasp.axis) > np.cos(_TURNED)
        if self._phase == "hover" and away < _ALIGNED and turned:
            self._phase = "descend"
        if self._phase == "descend":
            if away > 4 * _ALIGNED:
                self._phase = "hover"
            elif arm.position[2] - grasp.point[2] < _LOW_ENOUGH:
                self._phase, self._count = "close", 0
                self._in_hand = place - arm.position
        high = np.append(grasp.point[:2], grasp.top + _HIGH)
        target = high if self._phase == "hover" else grasp.point
        return arm.action(target, gripper=OPEN, closing_axis=grasp.axis)

    def _put(self, arm: Arm, place: np.ndarray, basket: np.ndarray, rim: float) -> np.ndarray:
        hand = arm.position
        # how far the thing hangs below the finger tips, and where they are when it is in the middle
        hanging = self._grasp.point[2] - self._grasp.bottom
        over = np.append(basket[:2] + (hand - place)[:2], rim + _CLEAR + hanging)
        away = np.linalg.norm(over[:2] - hand[:2])
        pose = {"closing_axis": self._grasp.axis}
        if self._phase == "carry":
            if away < _OVER:
                self._phase = "lower"
            elif hand[2] < over[2] - _CLEAR / 2:
                straight_up = np.append(hand[:2], over[2])
                return arm.action(straight_up, gripper=CLOSE, **pose)
            return arm.action(over, gripper=CLOSE, **pose)
        down = np.append(over[:2], max(rim - 0.03, basket[2] + hanging - 0.03))
        if self._phase == "lower":
            if hand[2] - down[2] > 0.01:
                return arm.action(down, gripper=CLOSE, **pose)
            self._phase, self._count = "release", 0
        self._count += 1
        if self._count <= _OPENING_STEPS:
            return arm.action(hand, gripper=OPEN, **pose)
        return arm.action(above(hand, 0.05), gripper=OPEN, **pose)
