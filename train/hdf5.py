"""Demonstrations in robomimic's HDF5 layout, which RoboCasa 0.2 and LIBERO share.

`data/demo_N` holds `actions` (steps, 7 or 12) and `obs/<camera>_image` (steps, H, W, 3), `data` the
attribute `env_args`; RoboCasa adds `ep_meta` with the instruction to every demonstration.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vp_agent.envs.libero_tasks import LiberoTask
from vp_agent.envs.robocasa_env import CAMERAS, STATE
from vp_agent.envs.robocasa_tasks import instruction_0_2
from vp_agent.errors import DatasetError, closest, need
from vp_agent.train.demonstrations import ACTION_NAMES, IMAGE, Episode

VIEWS = {view: f"{camera}_image" for view, camera in CAMERAS.items()}
ARM_WIDTH = len(ACTION_NAMES)
# RoboCasa 0.2's order. 1.0's LeRobot datasets are base-first, and are no HDF5.
BASE_NAMES = ("base_x", "base_y", "base_yaw", "torso", "base_mode")
_BASE_MODE = ARM_WIDTH + len(BASE_NAMES) - 1
_BLOCK = 32  # frames read at a time: robomimic's chunks hold several
_LEAVE_OUT = "leave it out: --skip FILE.json"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One demonstration that was checked: what it is and how its frames become a dataset's."""

    file: Path
    name: str
    task: str
    """The simulator's name of the task."""
    instruction: str
    steps: int
    control_hz: float
    robot: str
    image_shapes: tuple[tuple[int, ...], ...]
    action_width: int
    state: tuple[str, ...]
    """Observations that make `observation.state`, and their widths in `state_widths`."""
    state_widths: tuple[int, ...]
    upside_down: bool
    base_steps: int
    """Steps in which the base moves, which the arm's seven numbers leave out."""

    @property
    def place(self) -> str:
        """File and name, for messages."""
        return f"{self.file} {self.name}"

    def layout(self) -> dict[str, Any]:
        """What all demonstrations of one dataset must share."""
        names = ("control_hz", "robot", "image_shapes", "action_width", "state", "state_widths")
        return {name: getattr(self, name) for name in names}


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    h5py: Any = need("h5py", extra="hdf5")
    if not file.is_file():
        raise DatasetError(f"no file {file}")
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise DatasetError(
            f"{file} is no HDF5 file or is cut off ({error}); download it again"
        ) from error
    with opened:
        yield opened


def list_demos(file: Path) -> tuple[str, list[str]]:
    """The simulator's name of a file's task, and the names of all that lies beside its demos."""
    with _opened(file) as opened:
        data = _data_of(opened, file)
        return _told(data, "env_args", place=f"{file} data")["env_name"], list(data)


def _data_of(opened: Any, file: Path) -> Any:
    if "data" not in opened or "env_args" not in opened["data"].attrs:
        raise DatasetError(
            f"{file} is not in robomimic's layout: no group 'data' with 'env_args'; "
            "for a raw robosuite demo.hdf5 run robomimic's convert_robosuite.py first"
        )
    return opened["data"]


def _told(group: Any, name: str, *, place: str) -> dict[str, Any]:
    """What an attribute says in JSON; nothing where there is none."""
    try:
        told = json.loads(group.attrs.get(name, "{}"))
    except ValueError as error:
        raise DatasetError(
            f"{place}: {name} is no JSON ({error}); download the file again"
        ) from error
    if not isinstance(told, dict) or (name == "env_args" and "env_name" not in told):
        raise DatasetError(
            f"{place}: {name} says nothing of use ({str(told)[:60]}); download the file again"
        )
    return told


def _libero_instruction(data: Any, file: Path, problem: Mapping[str, Any]) -> str:
    """In the words of LIBERO's benchmark, which its tasks' names have and its BDDL files do not."""
    if not problem:
        return ""
    task = Path(str(data.attrs.get("bddl_file_name", ""))).stem
    if not task and file.stem.endswith("_demo"):
        task = file.stem.removesuffix("_demo")
    return LiberoTask("", task).instruction if task else problem.get("language_instruction", "")


def read_demos(
    file: Path,
    *,
    views: Mapping[str, str],
    skip: Collection[str] = (),
    instruction: str | None = None,
    upside_down: bool | None = None,
) -> list[Demo]:
    """The demonstrations of a file in the order of their numbers, each checked to its last pixel.

    `views` maps each view to the name of its images in `obs`; those named in `skip` are not looked
    at; `instruction` is for files that hold none; `upside_down` tells that images are stored bottom
    row first (None believes the file).
    """
    with _opened(file) as opened:
        data = _data_of(opened, file)
        env = _told(data, "env_args", place=f"{file} data")
        if upside_down is None:
            # robomimic and RoboCasa turn the renderer's images upright before they store them;
            # LIBERO does not, and says so.
            upside_down = data.attrs.get("macros_image_convention") == "opengl"
        kwargs = env.get("env_kwargs", {})
        robots = kwargs.get("robots", "panda")
        common = {
            "file": file,
            "task": env["env_name"],
            "control_hz": float(kwargs.get("control_freq", 20)),
            "robot": robots if isinstance(robots, str) else "+".join(robots),
            "upside_down": upside_down,
        }
        problem = _told(data, "problem_info", place=f"{file} data")
        told = instruction or _libero_instruction(data, file, problem)
        names = [name for name in data if name not in skip]
        for name in names:
            if not re.fullmatch(r"demo_\d+", name):
                raise DatasetError(
                    f"{file}: data/{name} is no demonstration (demo_0, demo_1, ...); {_LEAVE_OUT}"
                )
        names.sort(key=lambda name: int(name.rpartition("_")[2]))
        bar = tqdm(names, desc=f"check {file.name}", unit="episode", leave=False)
        return [_checked(data, name, common, views=views, told=told) for name in bar]


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Names the demonstration whose bytes HDF5 cannot read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:  # data, attributes, groups
        raise DatasetError(
            f"{place} is damaged ({error}); download the file again, or {_LEAVE_OUT}"
        ) from error


def _checked(
    data: Any, name: str, common: dict[str, Any], *, views: Mapping[str, str], told: str
) -> Demo:
    with _reading(f"{common['file']} {name}"):
        demo = _described(data[name], name, common, views=views, told=told)
        for key in views.values():
            for start in range(0, demo.steps, _BLOCK):
                data[name]["obs"][key][start : start + _BLOCK]
    return demo


def _described(
    group: Any, name: str, common: dict[str, Any], *, views: Mapping[str, str], told: str
) -> Demo:
    place = f"{common['file']} {name}"
    observations = group.get("obs", {})
    if "actions" not in group:
        raise DatasetError(f"{place} has no 'actions'; download the file again, or {_LEAVE_OUT}")
    for key in views.values():
        if key not in observations:
            have = [have for have in observations if observations[have].ndim == 4]
            raise DatasetError(
                f"{place} has no images obs/{key}{closest(key, have)}; it has "
                f"{', '.join(have) or 'none: render them by robomimic dataset_states_to_obs.py'}. "
                "Name them: --views gripper robot0_eye_in_hand_image ..."
            )
    actions = group["actions"][()]
    width = actions.shape[-1]
    if actions.ndim != 2 or not len(actions) or width not in (ARM_WIDTH, _BASE_MODE + 1):
        raise DatasetError(
            f"{place} has actions of shape {actions.shape}; expected (steps, {ARM_WIDTH}) or "
            f"RoboCasa's (steps, {_BASE_MODE + 1})"
        )
    if not np.isfinite(actions).all():
        step = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise DatasetError(f"{place}: action {step} is not finite; {_LEAVE_OUT}")
    images = [observations[key] for key in views.values()]
    for key, image in zip(views.values(), images, strict=True):
        if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3:
            raise DatasetError(
                f"{place}: obs/{key} is {image.dtype} {image.shape}; "
                "expected uint8 (steps, height, width, 3)"
            )
        if len(image) != len(actions):
            raise DatasetError(f"{place}: {len(image)} images in obs/{key}, {len(actions)} actions")
    lang = _told(group, "ep_meta", place=place).get("lang") or told
    if not lang.strip():
        raise DatasetError(f"{place} has no instruction (ep_meta lang); give --instruction TEXT")
    # A part of it would be another state than that of our environments.
    state = STATE if all(key in observations for key in STATE) else ()
    for key in state:
        numbers = observations[key][()]
        if numbers.ndim != 2 or len(numbers) != len(actions):
            raise DatasetError(
                f"{place}: obs/{key} has shape {numbers.shape}; expected ({len(actions)}, ...), a "
                f"row for every action; {_LEAVE_OUT}"
            )
        if not np.isfinite(numbers).all():
            step = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
            raise DatasetError(f"{place}: obs/{key} of step {step} is not finite; {_LEAVE_OUT}")
    moves = actions[:, _BASE_MODE] > 0 if width > ARM_WIDTH else np.zeros(0)
    return Demo(
        **common,
        name=name,
        instruction=instruction_0_2(lang),
        steps=len(actions),
        image_shapes=tuple(image.shape[1:] for image in images),
        action_width=width,
        state=state,
        state_widths=tuple(observations[key].shape[1] for key in state),
        base_steps=int(moves.sum()),
    )


def episode_of(demo: Demo, *, views: Mapping[str, str], action_width: int) -> Episode:
    """The demonstration with its frames still in the file."""
    facts = {
        "file": demo.file.name,
        "demo": demo.name,
        "env": demo.task,
        "steps": demo.steps,
        "base_steps": demo.base_steps,
    }
    frames = _frames(demo, views=views, action_width=action_width)
    return Episode(task=demo.instruction, frames=frames, facts=facts)


def _frames(
    demo: Demo, *, views: Mapping[str, str], action_width: int
) -> Iterator[dict[str, np.ndarray]]:
    with _opened(demo.file) as opened, _reading(demo.place):
        group = opened["data"][demo.name]
        vectors = {"action": group["actions"][:, :action_width]}
        if demo.state:
            parts = [group["obs"][key][()] for key in demo.state]
            vectors["observation.state"] = np.concatenate(parts, axis=1)
        vectors = {key: value.astype(np.float32) for key, value in vectors.items()}
        for start in range(0, demo.steps, _BLOCK):
            block = slice(start, start + _BLOCK)
            images = {view: group["obs"][key][block] for view, key in views.items()}
            if demo.upside_down:
                images = {view: stack[:, ::-1] for view, stack in images.items()}
            for i in range(min(_BLOCK, demo.steps - start)):
                frame = {IMAGE + view: stack[i] for view, stack in images.items()}
                yield frame | {key: value[start + i] for key, value in vectors.items()}


def number_names(demo: Demo, *, action_width: int) -> dict[str, list[str]]:
    """Names of the numbers of every vector feature."""
    names = {"action": [*ACTION_NAMES, *BASE_NAMES][:action_width]}
    if demo.state:
        parts = zip(demo.state, demo.state_widths, strict=True)
        names["observation.state"] = [
            f"{key.removeprefix('robot0_')}.{i}" for key, width in parts for i in range(width)
        ]
    return names
