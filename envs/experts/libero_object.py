"""The expert of LIBERO-Object: picks the named thing up and puts it into the basket."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts.arm import CLOSE, OPEN, Arm, above

_HIGH = 0.04  # metres between finger tips and the tallest thing on the way
_DEPTH = 0.035  # how far the finger tips reach below the top of a tall thing
_SLICE = 0.01  # what lies so close to the height of the finger tips is between the fingers
# What a grasp may cost: a turn of one radian is worth a centimetre of width, a shift of the hand
# along the thing a third of it, and touching something else is worse than any of them.
_TURN_COST, _SHIFT_COST, _TOUCH_COST = 0.01, 0.3, 1.0
_ANGLES = np.linspace(0, np.pi, 36, endpoint=False)
_SHIFTS = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
_WIDEST = 0.074
# half length along the closing axis, half width across it, height above the finger tips
_PALM, _FINGERS = (0.11, 0.04, 0.03), (0.065, 0.018, -0.015)
_ALIGNED, _TURNED = 0.008, 0.1  # metres and radians that start the descent
_STUCK_STEPS = 50
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
    bottom: float
    safe: float  # height at which nothing is in the way

    @classmethod
    def of(cls, arm: Arm, thing: str) -> "_Grasp":
        """Across the narrowest part at the height of the finger tips, clear of other things."""
        corners = _corners(arm, thing)
        others = [
            _corners(arm, n) for n in arm.sim_env.objects_dict if n not in (thing, "basket_1")
        ]
        around = np.concatenate(others).reshape(-1, 3)
        heights = corners[..., 2]
        top, bottom = float(heights.max()), float(heights.min())
        height = max(top - _DEPTH, (top + bottom) / 2)
        near = (heights.max(axis=1) > height - _SLICE) & (heights.min(axis=1) < height + _SLICE)
        outline = corners[near].reshape(-1, 3)[:, :2]
        best, chosen = np.inf, None
        for angle in _ANGLES:
            axis = np.array([np.cos(angle), np.sin(angle)])
            along = np.array([-axis[1], axis[0]])
            width = float(np.ptp(outline @ axis))
            turn = np.arccos(min(1.0, abs(float(arm.closing_axis[:2] @ axis))))
            middle = _middle(outline, axis) + _middle(outline, along)
            room = max(0.0, float(np.ptp(outline @ along)) / 2 - 0.015)  # the fingers stay on it
            for shift in _SHIFTS[np.abs(_SHIFTS) <= room]:
                point = np.append(middle + shift * along, height)
                touches = sum(_reaches(part, point, axis, around) for part in (_PALM, _FINGERS))
                cost = width + _TURN_COST * turn + _SHIFT_COST * abs(shift)
                cost += _TOUCH_COST * (touches + (width > _WIDEST))
                if cost < best:
                    best, chosen = cost, (point, np.append(axis, 0.0))
        assert chosen is not None  # a shift of zero always fits
        return cls(*chosen, bottom, max(top, float(around[:, 2].max())) + _HIGH)


def _corners(arm: Arm, thing: str) -> np.ndarray:
    """(boxes, 8, 3): LIBERO's collision geoms are boxes."""
    sim: Any = arm.sim_env.sim
    geoms = [sim.model.geom_name2id(name) for name in arm.sim_env.objects_dict[thing].contact_geoms]
    axes = np.array(arm.data.geom_xmat[geoms]).reshape(-1, 3, 3)
    offsets = np.einsum("gij,gcj->gci", axes, _CORNERS * sim.model.geom_size[geoms][:, None, :])
    return offsets + np.array(arm.data.geom_xpos[geoms])[:, None, :]


def _middle(outline: np.ndarray, axis: np.ndarray) -> np.ndarray:
    along = outline @ axis
    return (along.max() + along.min()) / 2 * axis


def _reaches(
    part: tuple[float, float, float], point: np.ndarray, axis: np.ndarray, around: np.ndarray
) -> bool:
    """Whether a part of the hand, with the finger tips at `point`, would meet things."""
    length, width, above_tips = part
    offset = around[:, :2] - point[:2]
    inside = (np.abs(offset @ axis) < length) & (
        np.abs(offset @ np.array([-axis[1], axis[0]])) < width
    )
    return bool((inside & (around[:, 2] > point[2] + above_tips)).any())


class LiberoObjectExpert:
    """Hovers, descends, closes, lifts, carries, lowers and lets go; starts over after a miss."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""
        self._phase, self._count = "hover", 0
        self._grasp: _Grasp | None = None

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        sim_env: Any = arm.sim_env
        _, thing, region = sim_env.parsed_problem["goal_state"][0]
        place = np.array(arm.data.body_xpos[sim_env.obj_body_id[thing]])
        if self._grasp is None:
            self._grasp = _Grasp.of(arm, thing)
        if self._phase in ("hover", "descend"):
            return self._approach(arm, self._grasp, place)
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
        return self._put(arm, self._grasp, place, basket, rim)

    def _approach(self, arm: Arm, grasp: _Grasp, place: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(arm.position[:2] - grasp.point[:2])
        turned = abs(arm.closing_axis @ grasp.axis) > np.cos(_TURNED)
        if self._phase == "hover" and away < _ALIGNED and turned:
            self._phase, self._count = "descend", 0
        if self._phase == "descend":
            self._count += 1
            if away > 4 * _ALIGNED or self._count > _STUCK_STEPS:
                self._phase, self._grasp = "hover", None  # look again
            elif arm.position[2] - grasp.point[2] < _LOW_ENOUGH:
                self._phase, self._count = "close", 0
                self._in_hand = place - arm.position
        high = np.append(grasp.point[:2], grasp.safe)
        target = high if self._phase == "hover" else grasp.point
        return arm.action(target, gripper=OPEN, closing_axis=grasp.axis)

    def _put(
        self, arm: Arm, grasp: _Grasp, place: np.ndarray, basket: np.ndarray, rim: float
    ) -> np.ndarray:
        hand, axis = arm.position, grasp.axis
        # how far the thing hangs below the finger tips, and where they are when it is in the middle
        hanging = float(grasp.point[2]) - grasp.bottom
        over = np.append(basket[:2] + (hand - place)[:2], rim + _CLEAR + hanging)
        away = np.linalg.norm(over[:2] - hand[:2])
        if self._phase == "carry":
            if away < _OVER:
                self._phase = "lower"
            elif hand[2] < over[2] - _CLEAR / 2:
                over[:2] = hand[:2]  # straight up first
            return arm.action(over, gripper=CLOSE, closing_axis=axis)
        down = np.append(over[:2], max(rim - 0.03, basket[2] + hanging - 0.03))
        if self._phase == "lower":
            if hand[2] - down[2] > 0.01:
                return arm.action(down, gripper=CLOSE, closing_axis=axis)
            self._phase, self._count = "release", 0
        self._count += 1
        target = hand if self._count <= _OPENING_STEPS else above(hand, 0.05)
        return arm.action(target, gripper=OPEN, closing_axis=axis)
