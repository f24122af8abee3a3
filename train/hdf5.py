"""Demonstrations in robomimic's HDF5 layout, which RoboCasa 0.2 and LIBERO share.

`data/demo_N` holds `actions` (steps, 7 or 12) and `obs/<camera>_image` (steps, H, W, 3), `data` the
attribute `env_args`; RoboCasa adds `ep_meta` with the instruction to every demonstration.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vp_agent.envs.robocasa_env import CAMERAS
from vp_agent.envs.robocasa_tasks import instruction_0_2
from vp_agent.errors import DatasetError, closest, need
from vp_agent.train.action_meaning import action_names
from vp_agent.train.demonstrations import ACTION_NAMES, IMAGE, Episode
from vp_agent.train.hdf5_attributes import checked_text, read_object, told_text
from vp_agent.train.hdf5_facts import FileFacts, Told, read_facts
from vp_agent.train.hdf5_listing import (
    LEAVE_OUT,
    BadDemonstration,
    data_of,
    number_of,
    opened_file,
    reading,
)
from vp_agent.train.hdf5_states import StateKeys, find_state

VIEWS = {view: f"{camera}_image" for view, camera in CAMERAS.items()}
ARM_WIDTH = len(ACTION_NAMES)
# RoboCasa 0.2's order. 1.0's LeRobot datasets are base-first, and are no HDF5.
BASE_NAMES = ("base_x", "base_y", "base_yaw", "torso", "base_mode")
_BASE_MODE = ARM_WIDTH + len(BASE_NAMES) - 1
_BLOCK = 32  # frames read at a time: robomimic's chunks hold several
_NUMBERS = "fiu"  # kinds of NumPy's types


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One demonstration that was checked: what it is and how its frames become a dataset's."""

    file: Path
    name: str
    facts: FileFacts
    instruction: str
    steps: int
    image_shapes: tuple[tuple[int, ...], ...]
    action_width: int
    state: StateKeys | None
    """Observations that make `observation.state`."""
    base_steps: int
    """Steps in which the base moves, which the arm's seven numbers leave out."""
    identity: tuple[int, int, int]
    """Device, inode and address: the same under every name that a link gives it."""

    @property
    def place(self) -> str:
        """File and name, for messages."""
        return f"{self.file} {self.name}"

    def layout(self) -> dict[str, Any]:
        """What all demonstrations of one dataset must share."""
        facts = self.facts
        return {
            "control_hz": facts.control_hz,
            "robot": facts.robot,
            "action meaning": dict(facts.action),
            "image_shapes": self.image_shapes,
            "action_width": self.action_width,
            "state": self.state and self.state.names,
        }


def read_demos(
    file: Path,
    *,
    views: Mapping[str, str],
    names: Collection[str],
    told: Told,
) -> Iterator[Demo | BadDemonstration]:
    """The demonstrations `names` of a file, each checked to its last pixel, or what is wrong.

    `views` maps each view to the name of its images in `obs`; `told` is what the file need not
    say.
    """
    with opened_file(file) as opened:
        data = data_of(opened, file)
        facts = read_facts(data, file, told)
        for name in tqdm(names, desc=f"check {file.name}", unit="episode", leave=False):
            place = f"{file} {name}"
            if number_of(name)[0] == float("inf"):
                yield BadDemonstration(
                    place,
                    f"{file}: data/{name} is no demonstration (demo_0, demo_1, ...); {LEAVE_OUT}",
                )
                continue
            try:
                demo = _checked(data, name, file, facts, views=views)
            except DatasetError as error:
                demo = BadDemonstration(place, error)
            yield demo


def _checked(
    data: Any, name: str, file: Path, facts: FileFacts, *, views: Mapping[str, str]
) -> Demo:
    with reading(f"{file} {name}"):
        demo = _described(data[name], name, file, facts, views=views)
        for key in views.values():
            for start in range(0, demo.steps, _BLOCK):
                data[name]["obs"][key][start : start + _BLOCK]
    return demo


def _described(
    group: Any, name: str, file: Path, facts: FileFacts, *, views: Mapping[str, str]
) -> Demo:
    place = f"{file} {name}"
    if not hasattr(group, "keys"):
        raise DatasetError(f"{place} is no group of arrays; {LEAVE_OUT}")
    observations = group.get("obs")
    if not hasattr(observations, "keys"):
        observations = {}
    if "actions" not in group:
        raise DatasetError(f"{place} has no 'actions'; download the file again, or {LEAVE_OUT}")
    for key in views.values():
        if key not in observations:
            have = [have for have, x in observations.items() if len(getattr(x, "shape", ())) == 4]
            raise DatasetError(
                f"{place} has no images obs/{key}{closest(key, have)}; it has "
                f"{', '.join(have) or 'none: render them by robomimic dataset_states_to_obs.py'}. "
                "Name them: --views gripper robot0_eye_in_hand_image ..."
            )
    actions = _vectors(group["actions"], place, "actions")
    width = actions.shape[1]
    if not len(actions) or width not in (ARM_WIDTH, _BASE_MODE + 1):
        raise DatasetError(
            f"{place} has actions of shape {actions.shape}; expected (steps, {ARM_WIDTH}) or "
            f"RoboCasa's (steps, {_BASE_MODE + 1})"
        )
    if not np.isfinite(actions).all():
        step = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise DatasetError(f"{place}: action {step} is not finite; {LEAVE_OUT}")
    images = [observations[key] for key in views.values()]
    for key, image in zip(views.values(), images, strict=True):
        shape = getattr(image, "shape", None) or ()
        if not shape or image.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise DatasetError(
                f"{place}: obs/{key} is {getattr(image, 'dtype', 'a group')} {shape}; "
                "expected uint8 (steps, height, width, 3)"
            )
        if len(image) != len(actions):
            raise DatasetError(f"{place}: {len(image)} images in obs/{key}, {len(actions)} actions")
    moves = actions[:, _BASE_MODE] > 0 if width > ARM_WIDTH else np.zeros(0)
    return Demo(
        file=file,
        name=name,
        facts=facts,
        instruction=_instruction(group, facts.instruction, place),
        steps=len(actions),
        image_shapes=tuple(image.shape[1:] for image in images),
        action_width=width,
        state=_checked_state(observations, len(actions), place),
        base_steps=int(moves.sum()),
        identity=_identity(group),
    )


def _vectors(found: Any, place: str, key: str) -> np.ndarray:
    """An array of numbers (steps, n) as float32."""
    if getattr(found, "ndim", 0) != 2 or found.dtype.kind not in _NUMBERS:
        shape = getattr(found, "shape", None)
        raise DatasetError(
            f"{place} has {key} of shape {shape} and type {getattr(found, 'dtype', 'group')}; "
            "expected numbers (steps, n)"
        )
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        return found[()].astype(np.float32)


def _checked_state(observations: Any, steps: int, place: str) -> StateKeys | None:
    keys = find_state(observations, place=place)
    for key in keys.keys if keys else ():
        numbers = _vectors(observations[key], place, f"obs/{key}")
        if len(numbers) != steps:
            raise DatasetError(
                f"{place}: obs/{key} has shape {numbers.shape}; expected ({steps}, ...), a "
                f"row for every action; {LEAVE_OUT}"
            )
        if not np.isfinite(numbers).all():
            step = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
            raise DatasetError(f"{place}: obs/{key} of step {step} is not finite; {LEAVE_OUT}")
    return keys


def _instruction(group: Any, told: str, place: str) -> str:
    """Of the demonstration itself, or else of its file or of the user."""
    lang = read_object(group, "ep_meta", place=place).get("lang")
    if not (told and isinstance(lang, list) and len(lang) > 1):  # several: nobody can tell which
        told = told_text(lang, f"{place}: ep_meta lang").strip() or told
    instruction = instruction_0_2(checked_text(told, "--instruction"))
    if not instruction:
        raise DatasetError(f"{place} has no instruction (ep_meta lang); give --instruction TEXT")
    return instruction


def _identity(group: Any) -> tuple[int, int, int]:
    h5py: Any = need("h5py", extra="hdf5")
    file = os.stat(group.file.filename)  # of an external link: the other file
    return file.st_dev, file.st_ino, int(h5py.h5o.get_info(group.id).addr)


def episode_of(demo: Demo, *, views: Mapping[str, str], action_width: int) -> Episode:
    """The demonstration with its frames still in the file."""
    facts = {
        "file": demo.file.name,
        "demo": demo.name,
        "env": demo.facts.task,
        "steps": demo.steps,
        "base_steps": demo.base_steps,
    }
    frames = _frames(demo, views=views, action_width=action_width)
    return Episode(task=demo.instruction, frames=frames, facts=facts, place=demo.place)


def _frames(
    demo: Demo, *, views: Mapping[str, str], action_width: int
) -> Iterator[dict[str, np.ndarray]]:
    with opened_file(demo.file) as opened, reading(demo.place):
        group = opened["data"][demo.name]
        vectors = {"action": group["actions"][:, :action_width].astype(np.float32)}
        if demo.state:
            vectors["observation.state"] = demo.state.rows(group["obs"])
        for start in range(0, demo.steps, _BLOCK):
            block = slice(start, start + _BLOCK)
            images = {view: group["obs"][key][block] for view, key in views.items()}
            if demo.facts.upside_down:
                images = {view: stack[:, ::-1] for view, stack in images.items()}
            for i in range(min(_BLOCK, demo.steps - start)):
                frame = {IMAGE + view: stack[i] for view, stack in images.items()}
                yield frame | {key: value[start + i] for key, value in vectors.items()}


def number_names(demo: Demo, *, action_width: int) -> dict[str, list[str]]:
    """Names of the numbers of every vector feature."""
    arm = action_names(demo.facts.action.get("kind", ""), width=ARM_WIDTH)
    names = {"action": [*arm, *BASE_NAMES][:action_width]}
    if demo.state:
        names["observation.state"] = list(demo.state.names)
    return names
