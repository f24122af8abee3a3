"""The motions of the Tabletop tasks: when each is done, and the scripted expert that does it."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts.arm import CLOSE, OPEN, Arm, above
from vp_agent.envs.experts.pick import Grasp

# The scene is a `TabletopScene`, whose module imports robosuite and so cannot be imported here.

_TABLE = 0.8
_LEAD = 2.0  # the arm covers a quarter of a small step it is asked for
_STILL = 0.03  # metres that a cube which was not named may have moved
_AHEAD = np.array([1.0, 0.0, 0.0])


class Motion(Protocol):
    """One way to move the named cube; an object of it is the expert of one episode."""

    @staticmethod
    def solved(scene: Any, name: str) -> bool:
        """Whether the cube is where the motion brings it."""
        ...

    def act(self, arm: Arm, scene: Any, name: str) -> np.ndarray:
        """The next action."""
        ...


def solved(scene: Any, motion: str, name: str) -> bool:
    """Whether the named cube was moved as asked, and no other was moved."""
    if not MOTIONS[motion].solved(scene, name):
        return False
    return all(
        np.linalg.norm(scene.moved(other)) < _STILL for other in scene.start if other != name
    )


class Lift:
    """Grasps the cube and raises it."""

    @staticmethod
    def solved(scene: Any, name: str) -> bool:
        return bool(scene.moved(name)[2] > 0.04)

    def __init__(self) -> None:
        self._grasp = Grasp()

    def act(self, arm: Arm, scene: Any, name: str) -> np.ndarray:
        action = self._grasp.act(arm, *scene.pose(name))
        if action is not None:
            return action
        return arm.action(np.array([*arm.position[:2], _TABLE + 0.12]), gripper=CLOSE)


class Push:
    """Comes down between the robot and the cube, and pushes it away from the robot."""

    _TOWARDS = _AHEAD
    _FAR = 0.07  # metres: what the expert aims at
    _ENOUGH = 0.05
    _HEIGHT = 0.03  # of the finger tips over the table; lower, the palm touches the cube beside

    @classmethod
    def solved(cls, scene: Any, name: str) -> bool:
        moved = scene.moved(name)
        return bool(moved @ cls._TOWARDS > cls._ENOUGH and abs(moved[2]) < 0.01)

    def __init__(self) -> None:
        self._phase = "hover"

    def act(self, arm: Arm, scene: Any, name: str) -> np.ndarray:
        cube, _ = scene.pose(name)
        way, side = self._TOWARDS, np.array([0.0, 1.0, 0.0])
        behind = float((cube - arm.position) @ way)
        beside = float((cube - arm.position) @ side)
        room = scene.half_size(name) * 1.3 + 0.025  # turned, and half the thickness of a finger
        begin = cube - room * way
        begin[2] = _TABLE + self._HEIGHT
        if self._phase == "hover" and abs(beside) < 0.012 and abs(behind - room) < 0.015:
            self._phase = "descend"
        if self._phase == "descend" and (behind < 0.015 or abs(beside) > 0.03):
            self._phase = "hover"
        if self._phase == "descend" and arm.position[2] < _TABLE + self._HEIGHT + 0.01:
            self._phase = "push"
        if self._phase == "push" and (behind < 0.0 or abs(beside) > 0.03):
            self._phase = "hover"
        if self._phase == "hover":
            return arm.action(above(begin, 0.07), gripper=CLOSE)
        if self._phase == "descend":
            return arm.action(begin, gripper=CLOSE)
        left = self._FAR - float(scene.moved(name) @ way)
        target = arm.position + np.clip(left, 0, 0.04) * way + beside * side
        target[2] = begin[2]
        return arm.action(target, gripper=CLOSE)


class Pull(Push):
    """Comes down beyond the cube, and pulls it towards the robot."""

    _TOWARDS = -_AHEAD


class PutInto:
    """Carries the cube over the bin and lets it fall."""

    _LET_GO = 0.065  # height of the cube's middle over the table
    _NEAR, _LEVEL = 0.02, 0.015  # horizontal and vertical error at which it is let go
    _CARRY = 0.085

    @staticmethod
    def solved(scene: Any, name: str) -> bool:
        away = np.abs(scene.pose(name)[0] - scene.bin)
        inside = away[:2].max() < 0.06 - scene.half_size(name) * 0.8 and away[2] < 0.05
        return bool(inside and name not in scene.touching())

    def __init__(self) -> None:
        self._grasp = Grasp()
        self._releasing = 0

    def goal(self, scene: Any, name: str) -> np.ndarray:
        """Where the cube's middle is let go."""
        return above(scene.bin, self._LET_GO)

    def act(self, arm: Arm, scene: Any, name: str) -> np.ndarray:
        if self._releasing:
            return self._release(arm, scene, name)
        cube, rotation = scene.pose(name)
        action = self._grasp.act(arm, cube, rotation)
        if action is not None:
            return action
        goal = self.goal(scene, name)
        over = goal - cube
        away = float(np.linalg.norm(over[:2]))
        if away < self._NEAR and abs(over[2]) < self._LEVEL:
            self._releasing = 1
            return self._release(arm, scene, name)
        clear = cube[2] > _TABLE + 0.055
        if away < self._NEAR:
            return arm.action(arm.position + _LEAD * over, gripper=CLOSE)
        if clear:
            over[2] = _TABLE + self._CARRY - cube[2]
            return arm.action(arm.position + _LEAD * over, gripper=CLOSE)
        return arm.action(np.array([*arm.position[:2], _TABLE + 0.13]), gripper=CLOSE)

    def _release(self, arm: Arm, scene: Any, name: str) -> np.ndarray:
        self._releasing += 1
        if self._releasing < 8:  # the fingers need as long to open
            return arm.action(arm.position, gripper=OPEN)
        if self._releasing > 15 and not self.solved(scene, name):
            self.__init__()  # it fell elsewhere: once more
        up = np.array([*arm.position[:2], _TABLE + 0.15])
        return arm.action(up, gripper=OPEN)


class PutBeside(PutInto):
    """Carries the cube to the bin and sets it down on the table, on the side it comes from."""

    _NEAR, _LEVEL = 0.02, 0.007

    @staticmethod
    def solved(scene: Any, name: str) -> bool:
        position, half = scene.pose(name)[0], scene.half_size(name)
        x, y = np.abs(position - scene.bin)[:2]
        beside = x < 0.06 and 0.065 + half * 0.8 < y < 0.065 + half + 0.08
        return bool(beside and position[2] < _TABLE + half + 0.01 and name not in scene.touching())

    def goal(self, scene: Any, name: str) -> np.ndarray:
        """Where the cube's middle is let go."""
        half = scene.half_size(name)
        side = -1.0 if scene.start[name][1] < -0.07 else 1.0
        return above(scene.bin + np.array([0.0, side * (0.065 + half + 0.04), 0.0]), half + 0.004)


MOTIONS: dict[str, type[Motion]] = {
    "Lift": Lift,
    "Push": Push,
    "Pull": Pull,
    "PutInto": PutInto,
    "PutBeside": PutBeside,
}


class TabletopExpert:
    """Does what the episode's instruction asks for."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode and reads the new one's instruction."""
        tabletop: Any = env.unwrapped
        self._name: str = tabletop.named
        self._motion: Motion = MOTIONS[tabletop.asked.motion]()

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        arm = Arm(env)
        return self._motion.act(arm, arm.sim_env, self._name)
