"""Flags of `vp-agent data convert`: files, views, what to leave out, what the files do not say."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro

from vp_agent.errors import ConfigError, UnknownNameError, closest, need, require
from vp_agent.train.hdf5 import VIEWS
from vp_agent.train.hdf5_facts import Told
from vp_agent.train.hdf5_listing import Listing
from vp_agent.train.notes import ACTION_KINDS

_UPSIDE_DOWN = {"as the file says": None, "upright": False, "upside down": True}


@dataclass(frozen=True, kw_only=True)
class ConvertDataSettings:
    """Turns HDF5 files of robomimic, RoboCasa 0.2 or LIBERO into one LeRobot v3 dataset."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """HDF5 files, usually one per task; one that is named twice, or by a link, counts once."""
    out: Path
    """Folder of the new dataset; must not exist."""
    views: dict[str, str] = field(default_factory=dict)
    """View and the images it is made of, in pairs: agent agentview_image gripper ...; without it
    RoboCasa's gripper, left and right."""
    action: Literal["arm", "full"] = "arm"
    """arm: the first 7 numbers (hand and gripper), what an agent flies; full: all that are stored
    (RoboCasa's 12 with base, torso and mode)."""
    mask: str | None = None
    """Only the demonstrations that this mask of every file lists: train, valid, 20_percent."""
    skip: Path | None = None
    """JSON file of demonstrations to leave out: {"TurnOnStove": ["demo_33", "demo_37"]}."""
    skip_bad: bool = False
    """Leave out demonstrations that are damaged or cannot be written, and name them."""
    instruction: str | None = None
    """Instruction of files that hold none."""
    control_hz: float | None = None
    """Steps per second of files that do not say it."""
    action_kind: str | None = None
    """What the actions of files are that do not say it: delta_pose, absolute_pose,
    joint_velocity, ..."""
    images: Literal["as the file says", "upright", "upside down"] = "as the file says"
    """How images are stored. robomimic and RoboCasa store them upright, LIBERO upside down and
    says so in the file; the dataset's are upright."""
    resume: bool = False
    """Go on with a conversion that was killed or met a bad demonstration; --skip and --skip-bad
    may be others than before."""

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "name at least one HDF5 file")
        for view in self.views:
            require(
                re.fullmatch(r"\w[\w.-]*", view) is not None,
                f"--views: {view!r} is no name of a view (letters, digits, _ . -)",
            )
        hz = self.control_hz
        require(
            hz is None or (hz >= 1 and hz % 1 == 0),
            f"--control-hz is {hz}; LeRobot's format keeps whole frames per second only",
        )
        if self.action_kind is not None and self.action_kind not in ACTION_KINDS:
            raise UnknownNameError(
                f"--action-kind: no {self.action_kind!r}{closest(self.action_kind, ACTION_KINDS)}; "
                f"kinds: {', '.join(ACTION_KINDS)}"
            )

    @property
    def images_of_view(self) -> dict[str, str]:
        """`views`, or RoboCasa's."""
        return self.views or dict(VIEWS)

    @property
    def unique_files(self) -> tuple[Path, ...]:
        """`files`, each once, under the first of its names."""
        unique: dict[object, Path] = {}
        for file in self.files:
            unique.setdefault(_inode(file), file)
        return tuple(unique.values())

    @property
    def told(self) -> Told:
        """What the user says of files that do not say it."""
        return Told(
            control_hz=self.control_hz,
            instruction=self.instruction,
            upside_down=_UPSIDE_DOWN[self.images],
            action_kind=self.action_kind,
        )

    def source(self) -> dict[str, Any]:
        """Everything that changes the dataset, as JSON."""
        need("lerobot", extra="lerobot")
        fields = asdict(self)
        for name in ("out", "resume"):
            del fields[name]
        stats = [(path, path.stat()) for path in self.unique_files if path.is_file()]
        fields["files"] = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        fields["skip"] = self.skip_list()
        fields["lerobot"] = version("lerobot")
        return json.loads(json.dumps(fields))

    def identity(self) -> dict[str, Any]:
        """What must be as before on --resume; shards say for themselves what they leave out."""
        fields = self.source()
        return {name: fields[name] for name in fields if name not in ("skip", "skip_bad")}

    def skip_list(self) -> dict[str, list[str]]:
        """Names of demonstrations to leave out, by task."""
        if self.skip is None:
            return {}
        try:
            skip = json.loads(self.skip.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"--skip {self.skip} cannot be read: {error}") from error
        if not isinstance(skip, dict) or not all(map(_are_names, skip.values())):
            raise ConfigError(
                f'--skip {self.skip}: expected {{"TurnOnStove": ["demo_33", "demo_37"]}}'
            )
        return skip

    def check_skip(self, listed: Mapping[Path, Listing]) -> None:
        """Refuses tasks and demonstrations of the skip list that no file has."""
        by_task: dict[str, set[str]] = {}
        for listing in listed.values():
            by_task.setdefault(listing.task, set()).update(listing.names)
        for task, names in self.skip_list().items():
            if task not in by_task:
                raise UnknownNameError(
                    f"{self.skip}: no file has the task {task!r}{closest(task, by_task)}; "
                    f"tasks: {', '.join(by_task)}"
                )
            for name in names:
                if name not in by_task[task]:
                    raise UnknownNameError(f"{self.skip}: {task} has no {name!r}")


def _inode(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return file  # it is missed later, by its name
    return stat.st_dev, stat.st_ino


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
