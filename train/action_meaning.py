"""What an action means (delta or absolute pose, joints, velocities), by robosuite's controllers.

The settings of the controller stand in the `env_args` of an HDF5 file: one controller up to
robosuite 1.4 (`control_delta`), a composite of the body's parts from 1.5 on (`input_type`).
"""

import math
from collections.abc import Mapping
from typing import Any

from vp_agent.errors import DatasetError, closest
from vp_agent.train.hdf5_attributes import told_object
from vp_agent.train.notes import ARM

AGENT_KIND = "delta_pose"  # what every simulated arm here takes
OURS = {"kind": AGENT_KIND, "controller": "OSC_POSE", "output_max": [0.05] * 3 + [0.5] * 3}
# What the arm's numbers are for each type of controller: two where it can be set, the default first
_KINDS = {
    "OSC_POSE": ("delta_pose", "absolute_pose"),
    "IK_POSE": ("delta_pose", "absolute_pose"),
    "OSC_POSITION": ("delta_position", "absolute_position"),
    "JOINT_POSITION": ("delta_joints", "absolute_joints"),
    "JOINT_VELOCITY": ("joint_velocity",),
    "JOINT_TORQUE": ("joint_torque",),
}
# Composites that pass an arm's numbers on to its own controller; others compute them from all.
_COMPOSITES = ("BASIC", "HYBRID_MOBILE_BASE")
_PARTS = ("body_parts", "body_parts_controller_configs")
_ARMS = ("right", "left")
_POSE = ("x", "y", "z", "rx", "ry", "rz")
_SAY = "say what the actions are: --action-kind delta_pose"


def read_controller(configs: Any, *, place: str) -> dict[str, Any]:
    """`controller_configs` of `env_args` as the notes of a dataset have it; empty if unsaid.

    Raises:
        DatasetError: the settings contradict each other, or are of a controller not known here.
    """
    what = f"{place}: controller_configs"
    if isinstance(configs, list):  # one for each robot
        read = [read_controller(config, place=place) for config in configs]
        return _one_of(read, what)
    if isinstance(configs, str):
        configs = {"type": configs}
    config = told_object(configs, what)
    for name in _PARTS:
        if config.get(name) is not None:
            return _of_parts(config, told_object(config[name], f"{what}: {name}"), what)
    return _of_part(config, what) if config else {}


def settle_action(configs: Any, told_kind: str | None, *, place: str) -> dict[str, Any]:
    """What the file says of its actions, or else what the user says (`told_kind`).

    Raises:
        DatasetError: neither can be read, or the two contradict each other.
    """
    if told_kind is None:
        return read_controller(configs, place=place)
    try:
        read = read_controller(configs, place=place)
    except DatasetError:
        read = {}
    if read and read["kind"] != told_kind:
        raise DatasetError(
            f"{place}: its controller {read['controller']} takes {read['kind']}, "
            f"--action-kind says {told_kind}; leave the flag out"
        )
    return read or {"kind": told_kind}


def _of_parts(config: Mapping[str, Any], parts: Mapping[str, Any], what: str) -> dict[str, Any]:
    kind = config.get("type")
    if kind is not None and kind not in _COMPOSITES:
        raise DatasetError(
            f"{what}: type {kind!r} is none of {', '.join(_COMPOSITES)}, whose actions are known "
            f"here; {_SAY}"
        )
    arms = {**told_object(parts.get("arms"), f"{what}: arms"), **parts}
    found = [told_object(arms[arm], f"{what}: {arm}") for arm in _ARMS if arms.get(arm)]
    if not found:
        raise DatasetError(f"{what} has no part 'right' or 'left'; {_SAY}")
    return _one_of([_of_part(arm, what) for arm in found], what)


def _of_part(config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """One arm's controller: its type, and where it can be set whether it takes changes."""
    name = config.get("type")
    if not isinstance(name, str) or name not in _KINDS:
        raise DatasetError(
            f"{what}: type {name!r} is none of {', '.join(_KINDS)}{closest(str(name), _KINDS)}; "
            f"{_SAY}"
        )
    delta, said = config.get("control_delta"), config.get("input_type")
    if delta not in (None, True, False) or said not in (None, "delta", "absolute"):
        raise DatasetError(
            f"{what}: control_delta is {delta!r} and input_type {said!r}; expected true or false, "
            f"and 'delta' or 'absolute'; {_SAY}"
        )
    changes = {value for value in (delta, said and said == "delta") if value is not None}
    if len(changes) > 1:
        raise DatasetError(f"{what}: control_delta {delta} contradicts input_type {said!r}; {_SAY}")
    kinds = _KINDS[name]
    read: dict[str, Any] = {"kind": kinds[-1] if False in changes else kinds[0], "controller": name}
    scale = config.get("output_max")
    if scale is not None:
        numbers = scale if isinstance(scale, list) else [scale]
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
            raise DatasetError(f"{what}: output_max is {scale!r}, expected numbers")
        read["output_max"] = [float(x) for x in numbers]
    return read


def _one_of(read: list[dict[str, Any]], what: str) -> dict[str, Any]:
    for one in read:
        if one != read[0]:
            raise DatasetError(f"{what}: one arm takes {read[0]}, another {one}; {_SAY}")
    return read[0] if read else {}


def action_names(kind: str, *, width: int) -> tuple[str, ...]:
    """Names of an arm's `width` numbers, the gripper's last."""
    if kind == "absolute_pose":
        return (*_POSE, "gripper")
    if kind in ("", AGENT_KIND):
        return ARM
    return (*(f"{kind}_{i}" for i in range(1, width)), "gripper")
