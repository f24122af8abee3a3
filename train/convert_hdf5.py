"""`vp-agent data convert`: robomimic and RoboCasa HDF5 files as one LeRobot dataset.

Shards of a few episodes are written one by one into `<out>.partial/`, so a killed conversion goes
on with the first shard that is missing; LeRobot then joins them into the dataset.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro
from tqdm import tqdm

from vp_agent.errors import ConfigError, DatasetError, UnknownNameError, closest, need, require
from vp_agent.files import atomic_dir
from vp_agent.train.demonstrations import write_dataset
from vp_agent.train.hdf5 import (
    ARM_WIDTH,
    VIEWS,
    Demo,
    episode_of,
    list_demos,
    number_names,
    read_demos,
)
from vp_agent.train.notes import FILE, write_notes
from vp_agent.train.partial import LOCK, check_unused, open_partial

SHARD_EPISODES = 10


@dataclass(frozen=True, kw_only=True)
class ConvertDataSettings:
    """Turns HDF5 files of robomimic, RoboCasa 0.2 or LIBERO into one LeRobot v3 dataset."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """HDF5 files, usually one per task."""
    out: Path
    """Folder of the new dataset; must not exist."""
    views: dict[str, str] = field(default_factory=dict)
    """View and the images it is made of, in pairs: agent agentview_image gripper ...; without it
    RoboCasa's gripper, left and right."""
    action: Literal["arm", "full"] = "arm"
    """arm: the first 7 numbers (hand and gripper), what an agent flies; full: all that are stored
    (RoboCasa's 12 with base, torso and mode)."""
    skip: Path | None = None
    """JSON file of demonstrations to leave out: {"TurnOnStove": ["demo_33", "demo_37"]}."""
    instruction: str | None = None
    """Instruction of files that hold none."""
    images: Literal["as the file says", "upright", "upside down"] = "as the file says"
    """How images are stored. robomimic and RoboCasa store them upright, LIBERO upside down and
    says so in the file; the dataset's are upright."""
    resume: bool = False
    """Go on with a conversion that was killed."""

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "name at least one HDF5 file")
        require(len(set(self.files)) == len(self.files), "a file is named twice")

    @property
    def images_of_view(self) -> dict[str, str]:
        """`views`, or RoboCasa's."""
        return self.views or dict(VIEWS)

    def identity(self) -> dict[str, Any]:
        """Everything that changes the dataset, as JSON."""
        need("lerobot", extra="lerobot")
        fields = asdict(self)
        for name in ("out", "resume"):
            del fields[name]
        stats = [(path, path.stat()) for path in self.files if path.is_file()]
        fields["files"] = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        fields["skip"] = _skip_list(self.skip)
        fields["lerobot"] = version("lerobot")
        return json.loads(json.dumps(fields))


@dataclass(frozen=True)
class ConvertDataSummary:
    """What a conversion gave."""

    out: Path
    episodes: int
    frames: int
    skipped: int
    tasks: dict[str, int]
    """Episodes by the simulator's name of the task."""
    moving_base: tuple[str, ...]
    """Demonstrations whose base moves, if the dataset has the arm's numbers only."""

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.episodes} episodes, {self.frames} frames"]
        lines += [f"  {task}: {count} episodes" for task, count in self.tasks.items()]
        if self.skipped:
            lines.append(f"left out by --skip: {self.skipped}")
        if self.moving_base:
            lines.append(
                f"the base moves in {len(self.moving_base)} episodes, which 7 numbers cannot say: "
                f"{', '.join(self.moving_base)}; leave them out: --skip FILE.json"
            )
        return "\n".join(lines)


def convert_hdf5(settings: ConvertDataSettings) -> ConvertDataSummary:
    """Checks all files, then writes shards and joins them."""
    check_unused(settings.out)  # before all files are read
    identity = settings.identity()
    demos, skipped = _wanted_demos(settings)
    with open_partial(settings.out, identity, resume=settings.resume) as partial:
        _write(settings, demos, partial, skipped=skipped)
    counts = {demo.task: sum(d.task == demo.task for d in demos) for demo in demos}
    moving = [demo.place for demo in demos if demo.base_steps and settings.action == "arm"]
    frames = sum(demo.steps for demo in demos)
    return ConvertDataSummary(settings.out, len(demos), frames, skipped, counts, tuple(moving))


def _write(
    settings: ConvertDataSettings, demos: Sequence[Demo], partial: Path, *, skipped: int
) -> None:
    """Shard by shard into `partial`, which becomes the dataset."""
    width = ARM_WIDTH if settings.action == "arm" else demos[0].action_width
    shards = [demos[i : i + SHARD_EPISODES] for i in range(0, len(demos), SHARD_EPISODES)]
    folders = [partial / f"shard-{number:05d}" for number in range(len(shards))]
    for unfinished in set(partial.glob(".*")) - {partial / LOCK}:  # of a write that was killed
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
    bar = tqdm(total=len(demos), desc="convert", unit="episode", mininterval=1.0)
    with bar:
        for folder, shard in zip(folders, shards, strict=True):
            if folder.is_dir():
                bar.update(len(shard))
                continue
            write_dataset(
                folder,
                name=settings.out.name,
                episodes=_counted(shard, bar, views=settings.images_of_view, action_width=width),
                names=number_names(demos[0], action_width=width),
                meta={},
                fps=round(demos[0].control_hz),
                robot=demos[0].robot,
            )
    if not (partial / "dataset").is_dir():  # else it is whole, and a kill came just before the end
        _join(folders, partial / "dataset", settings=settings, skipped=skipped)
    os.rename(partial / "dataset", settings.out)
    shutil.rmtree(partial)


def _counted(shard: Sequence[Demo], bar: Any, *, views: Mapping[str, str], action_width: int):
    for demo in shard:
        yield episode_of(demo, views=views, action_width=action_width)
        bar.update()


def _wanted_demos(settings: ConvertDataSettings) -> tuple[list[Demo], int]:
    """The demonstrations to write, of one layout, and how many are left out."""
    turned = {"as the file says": None, "upright": False, "upside down": True}[settings.images]
    skip = _skip_list(settings.skip)
    listed = {file: list_demos(file) for file in settings.files}
    by_task: dict[str, set[str]] = {}
    for task, names in listed.values():
        by_task.setdefault(task, set()).update(names)
    for task, names in skip.items():
        if task not in by_task:
            raise UnknownNameError(
                f"{settings.skip}: no file has the task {task!r}{closest(task, by_task)}; "
                f"tasks: {', '.join(by_task)}"
            )
        for name in names:
            if name not in by_task[task]:
                raise UnknownNameError(f"{settings.skip}: {task} has no {name!r}")
    demos, skipped = [], 0
    for file, (task, names) in listed.items():
        left_out = skip.get(task, ())
        skipped += len(set(left_out) & set(names))
        demos += read_demos(
            file,
            views=settings.images_of_view,
            skip=left_out,
            instruction=settings.instruction,
            upside_down=turned,
        )
    if not demos:
        raise DatasetError(f"no demonstrations are left of {', '.join(map(str, settings.files))}")
    first = demos[0].layout()
    for demo in demos:
        for name, value in demo.layout().items():
            if value != first[name]:
                raise DatasetError(
                    f"{demo.place} has {name} {value}, {demos[0].place} has {first[name]}; "
                    "convert them into datasets of their own"
                )
    return demos, skipped


def _skip_list(path: Path | None) -> dict[str, list[str]]:
    if path is None:
        return {}
    try:
        skip = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--skip {path} cannot be read: {error}") from error
    if not isinstance(skip, dict) or not all(isinstance(names, list) for names in skip.values()):
        raise ConfigError(f'--skip {path}: expected {{"TurnOnStove": ["demo_33", "demo_37"]}}')
    return skip


def _join(
    shards: Sequence[Path], target: Path, *, settings: ConvertDataSettings, skipped: int
) -> None:
    joining: Any = need("lerobot.datasets.aggregate", extra="lerobot")
    facts = [
        fact for shard in shards for fact in json.loads((shard / FILE).read_text())["episodes"]
    ]
    with atomic_dir(target) as tmp:
        tmp.rmdir()  # LeRobot insists on making it
        joining.aggregate_datasets(
            [f"local/{settings.out.name}"] * len(shards),
            f"local/{settings.out.name}",
            roots=list(shards),
            aggr_root=tmp,
            concatenate_videos=False,  # joining them would copy every file many times
        )
        meta = {
            # what images went through since the renderer, as `vp-agent collect` says it
            "env_kwargs": {"transform": "flip_v"},
            "source": settings.identity(),
            "skipped": skipped,
            "episodes": facts,
        }
        write_notes(tmp, meta)
