"""Experts that pick a cube up: Lift, and Stack which also puts it down."""

from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts.arm import CLOSE, OPEN, Arm, above

_HOVER = 0.06  # metres above the cube
_ALIGNED, _LOST = 0.012, 0.025  # horizontal error that starts the descent, and that ends it
_TURNED = 0.12  # radians
_LOW_ENOUGH = 0.008
_CLOSING_STEPS = 8  # the fingers need 4 to 6 steps to reach a cube
_MISSED = 0.035  # metres between hand and cube which say that it is not in the hand


class Grasp:
    """Hover, descend, close; starts over when the cube is not in the hand."""

    def __init__(self) -> None:
        self._phase = "hover"
        self._closing = 0

    @property
    def done(self) -> bool:
        return self._phase == "held"

    def act(self, arm: Arm, cube: np.ndarray, rotation: np.ndarray) -> np.ndarray | None:
        """The next action, or None when the cube is held."""
        error = cube - arm.position
        away = float(np.linalg.norm(error[:2]))
        turn = arm.square_turn(rotation)
        if self._phase in ("close", "held") and np.linalg.norm(error) > _MISSED:
            self._phase = "hover"
        if self._phase == "hover" and away < _ALIGNED and abs(turn) < _TURNED:
            self._phase = "descend"
        if self._phase == "descend" and away > _LOST and -error[2] < _HOVER:
            self._phase = "hover"
        if self._phase == "descend" and away < _ALIGNED and -error[2] < _LOW_ENOUGH:
            self._phase, self._closing = "close", 0
        if self._phase == "close":
            self._closing += 1
            if self._closing > _CLOSING_STEPS:
                self._phase = "held"
        if self._phase == "held":
            return None
        if self._phase == "close":
            return arm.action(cube, gripper=CLOSE)
        height = 0.0 if self._phase == "descend" else _HOVER
        return arm.action(above(cube, height), turn=turn, gripper=OPEN)


def _body(arm: Arm, body_id: int) -> tuple[np.ndarray, np.ndarray]:
    position = np.array(arm.data.body_xpos[body_id])
    return position, np.array(arm.data.body_xmat[body_id]).reshape(3, 3)


class LiftExpert:
    """Grasps the cube and raises it 12 cm above the table."""

    _RAISE = 0.12

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""
        self._grasp = Grasp()

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        cube, rotation = _body(arm, arm.sim_env.cube_body_id)
        action = self._grasp.act(arm, cube, rotation)
        if action is not None:
            return action
        table = arm.sim_env.model.mujoco_arena.table_offset[2]
        up = np.array([*arm.position[:2], table + self._RAISE])
        return arm.action(up, gripper=CLOSE)


class StackExpert:
    """Grasps the red cube, carries it over the green one, lowers it, lets go and retreats."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""
        self._grasp = Grasp()
        self._releasing = 0

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        sim: Any = arm.sim_env
        red, red_rotation = _body(arm, sim.cubeA_body_id)
        green, green_rotation = _body(arm, sim.cubeB_body_id)
        if self._releasing:
            return self._release(arm, red, green)
        action = self._grasp.act(arm, red, red_rotation)
        if action is not None:
            return action
        stacked = sim.cubeA.size[2] + sim.cubeB.size[2]  # centre over centre when they touch
        hand_from_red = arm.position - red
        over = green - red
        away = float(np.linalg.norm(over[:2]))
        turn = arm.square_turn(green_rotation)
        if away < 0.008 and -over[2] > 0 and red[2] - green[2] < stacked + 0.004:
            self._releasing = 1
            return self._release(arm, red, green)
        clear = red[2] > green[2] + stacked + 0.02
        target = green + hand_from_red
        if away < 0.008 and abs(turn) < _TURNED:
            return arm.action(above(target, stacked), turn=turn, gripper=CLOSE, speed=0.4)
        high = above(target, stacked + 0.035)
        if clear or away < 0.02:
            return arm.action(high, turn=turn, gripper=CLOSE)
        up = np.array([*arm.position[:2], high[2]])
        return arm.action(up, gripper=CLOSE)

    def _release(self, arm: Arm, red: np.ndarray, green: np.ndarray) -> np.ndarray:
        self._releasing += 1
        if self._releasing < 6:
            return arm.action(arm.position, gripper=OPEN)
        if red[2] < green[2] + 0.02 and self._releasing > 15:  # it fell: pick it up again
            self._grasp, self._releasing = Grasp(), 0
        return arm.action(above(arm.position, 0.05), gripper=OPEN)
