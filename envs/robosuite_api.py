"""Importing robosuite without its noise, and the words in which 1.4 (LIBERO's) and 1.5 differ."""

import importlib
import logging
from typing import Any

import numpy as np

from vp_agent.envs.rendering import choose_gl, gl_error

# bounds of `arm_state`
ARM_REACH = (10.0,) * 3 + (2 * np.pi,) * 3 + (1.0,) * 2


def import_robosuite() -> Any:
    """The module `robosuite`, ready to draw.

    Raises:
        SimulatorError: the GL library that MuJoCo draws with is not there.
    """
    choose_gl()
    logging.getLogger("robosuite_logs").addFilter(_is_error)
    try:
        return importlib.import_module("robosuite")
    except Exception as error:  # PyOpenGL without its library raises AttributeError and others
        raise gl_error(error) from error


def _is_error(record: logging.LogRecord) -> bool:
    # robosuite logs a dozen lines at import and at every make
    return record.levelno >= logging.ERROR


def right(parts: Any) -> Any:
    """What robosuite 1.5 keeps per arm and 1.4 only once."""
    return parts["right"] if isinstance(parts, dict) else parts


def arm_state(sim_env: Any) -> np.ndarray:
    """State (8,) of the Panda: end-effector position 3, axis-angle 3, finger positions 2."""
    robot, data = sim_env.robots[0], sim_env.sim.data
    hand = sim_env.sim.model.body_name2id(right(robot.robot_model.eef_name))
    return np.concatenate(
        [
            data.site_xpos[right(robot.eef_site_id)],
            axis_angle(data.body_xquat[hand]),
            data.qpos[right(robot._ref_gripper_joint_pos_indexes)],
        ]
    )


def axis_angle(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """Rotation vector of a MuJoCo quaternion, with an angle between 0 and 2 pi."""
    # The angle runs to 2 pi: the hand points down (angle about pi), where the shorter of the two
    # equal rotations would jump from +pi to -pi. MuJoCo's quaternion itself is continuous.
    w, xyz = float(np.clip(quaternion_wxyz[0], -1, 1)), quaternion_wxyz[1:]
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if sine < 1e-9 else xyz * (2 * np.arccos(w) / sine)
