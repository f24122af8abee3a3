"""What an HDF5 file says of all its demonstrations: task, rate, robot, orientation, action meaning.

robomimic, RoboCasa and LIBERO write it into attributes of the group `data`. Flags of `vp-agent data
convert` supply what a file does not say; nothing is guessed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp_agent.envs.libero_tasks import LiberoTask
from vp_agent.errors import DatasetError, closest
from vp_agent.train.action_meaning import settle_action
from vp_agent.train.hdf5_attributes import read_object, read_text, told_object, told_text

# The renderer's first row is the lowest. robomimic and RoboCasa turn images upright before they
# store them; LIBERO does not, and says so.
_UPSIDE_DOWN = {"opengl": True, "opencv": False}
_CONVENTION = "macros_image_convention"
_LIBEROS = ("problem_info", "bddl_file_name")  # attributes that no other writer has
_MOST_HZ = 1000  # no arm is steered faster


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the user says of files that do not say it; None: the file is to say it."""

    control_hz: float | None = None
    instruction: str | None = None
    upside_down: bool | None = None
    action_kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What one file says, or was told, of all its demonstrations."""

    task: str
    """The simulator's name of the task."""
    instruction: str
    """Of demonstrations that hold none themselves; may be empty."""
    control_hz: int
    robot: str
    upside_down: bool
    action: Mapping[str, Any]
    """What the actions mean, as the notes of a dataset have it; empty if nobody says."""


def task_of(data: Any, file: Path) -> str:
    """The simulator's name of a file's task, or else the file's own name."""
    place = f"{file} data"
    env = read_object(data, "env_args", place=place)
    name = told_text(env.get("env_name"), f"{place}: env_args env_name")
    return name or read_text(data, "env", place=place) or file.stem


def read_facts(data: Any, file: Path, told: Told) -> FileFacts:
    """The facts of the group `data` of a file.

    Raises:
        DatasetError: an attribute cannot be read, or something is said neither there nor by a flag.
    """
    place = f"{file} data"
    env = read_object(data, "env_args", place=place)
    if not env and (told.control_hz is None or told.upside_down is None):
        raise DatasetError(
            f"{file} is not in robomimic's layout: its group 'data' has no 'env_args', so it does "
            "not say its rate and how its images lie; if you know, --control-hz 20 --images "
            "upright (or: upside down); for a raw robosuite demo.hdf5 run robomimic's "
            "convert_robosuite.py first"
        )
    kwargs = told_object(env.get("env_kwargs"), f"{place}: env_args env_kwargs")
    return FileFacts(
        task=task_of(data, file),
        instruction=told.instruction or _libero_instruction(data, file),
        control_hz=_control_hz(kwargs.get("control_freq"), told.control_hz, place=place),
        robot=_robot(kwargs.get("robots"), place=place),
        upside_down=_upside_down(data, env, told.upside_down, place=place),
        action=settle_action(_controller(env, kwargs), told.action_kind, place=place),
    )


def _controller(env: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Any:
    """The controller's settings, wherever a writer put them: robosuite's own place comes first."""
    for of in (kwargs, env):
        for name in ("controller_configs", "controller_config", "controller"):
            if of.get(name):
                return of[name]
    return None


def _control_hz(said: Any, told: float | None, *, place: str) -> int:
    if said is None:
        if told is None:
            raise DatasetError(
                f"{place}: env_args say no control_freq (steps per second); "
                "if you know it: --control-hz 20"
            )
        said = told
    try:
        rate = math.nan if isinstance(said, bool) else float(said)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not 0 < rate <= _MOST_HZ:
        raise DatasetError(
            f"{place}: control_freq is {said!r:.60}, expected the steps of a second; download the "
            "file again, or correct its env_args"
        )
    if rate != int(rate):
        raise DatasetError(
            f"{place}: control_freq is {rate}; LeRobot's format keeps whole frames per second "
            "only, and rounding would move every frame: resample the demonstrations to a whole rate"
        )
    if told is not None and told != rate:
        raise DatasetError(
            f"{place}: control_freq is {rate:g}, --control-hz says {told:g}; leave the flag out"
        )
    return int(rate)


def _robot(robots: Any, *, place: str) -> str:
    names = robots if isinstance(robots, list) else [robots]
    told = [told_text(name, f"{place}: env_args robots") for name in names]
    return "+".join(name for name in told if name) or "panda"


def _upside_down(data: Any, env: Mapping[str, Any], told: bool | None, *, place: str) -> bool:
    if told is not None:
        return told
    kwargs = told_object(env.get("env_kwargs"), f"{place}: env_args env_kwargs")
    said = {
        read_text(data, _CONVENTION, place=place).strip(),
        read_text(data.file, _CONVENTION, place=place).strip(),
        *(told_text(of.get(_CONVENTION), f"{place}: {_CONVENTION}") for of in (env, kwargs)),
    } - {""}
    for word in said:
        if word not in _UPSIDE_DOWN or len(said) > 1:
            words = " and ".join(sorted(map(repr, said)))
            raise DatasetError(
                f"{place}: {_CONVENTION} is {words}{closest(word, _UPSIDE_DOWN)}; expected "
                f"{' or '.join(_UPSIDE_DOWN)}; if you know how images lie: --images upright"
            )
    libero = [name for name in _LIBEROS if read_text(data, name, place=place).strip()]
    if not said and libero:
        raise DatasetError(
            f"{place} has LIBERO's {libero[0]}, but no {_CONVENTION}, so it does not say how its "
            "images lie; LIBERO's own are --images 'upside down', rendered again they may be "
            "--images upright"
        )
    return _UPSIDE_DOWN[said.pop() if said else "opencv"]


def _libero_instruction(data: Any, file: Path) -> str:
    """In the words of LIBERO's benchmark, which its tasks' names have and its BDDL files do not."""
    place = f"{file} data"
    problem = read_object(data, "problem_info", place=place)
    if not problem:
        return ""
    task = Path(read_text(data, "bddl_file_name", place=place)).stem
    if not task and file.stem.endswith("_demo"):
        task = file.stem.removesuffix("_demo")
    if task:
        return LiberoTask("", task).instruction
    return told_text(problem.get("language_instruction"), f"{place}: language_instruction")
