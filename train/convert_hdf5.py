"""`vp-agent data convert`: robomimic and RoboCasa HDF5 files as one LeRobot dataset.

Shards of a few episodes are written one by one into `<out>.partial/`, so a killed conversion goes
on with the first shard that is missing; LeRobot then joins them into the dataset.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vp_agent.errors import DatasetError, need
from vp_agent.files import atomic_dir
from vp_agent.train.convert_settings import ConvertDataSettings
from vp_agent.train.demonstrations import BadEpisode, write_dataset
from vp_agent.train.hdf5 import ARM_WIDTH, Demo, episode_of, number_names, read_demos
from vp_agent.train.hdf5_listing import BadDemonstration, list_demos
from vp_agent.train.notes import FILE, write_notes
from vp_agent.train.partial import LOCK, check_unused, open_partial
from vp_agent.train.read_back import confirm_written

SHARD_EPISODES = 10


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
    bad: tuple[str, ...] = ()
    """What is wrong with those left out by --skip-bad."""
    linked: tuple[str, ...] = ()
    """Demonstrations that are others by another name, and left out."""
    unused_masks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.episodes} episodes, {self.frames} frames"]
        lines += [f"  {task}: {count} episodes" for task, count in self.tasks.items()]
        if self.skipped:
            lines.append(f"left out by --skip: {self.skipped}")
        lines += [f"left out by --skip-bad: {what}" for what in self.bad]
        lines += [f"left out: {what}" for what in self.linked]
        if self.unused_masks:
            lines.append(
                f"the files list parts of their demonstrations ({', '.join(self.unused_masks)}); "
                f"all were taken; one part only: --mask {self.unused_masks[0]}"
            )
        if self.moving_base:
            lines.append(
                f"the base moves in {len(self.moving_base)} episodes, which 7 numbers cannot say: "
                f"{', '.join(self.moving_base)}; leave them out: --skip FILE.json"
            )
        return "\n".join(lines)


@dataclass
class _Wanted:
    """The demonstrations to write, and what is left out."""

    demos: list[tuple[int, Demo]] = field(default_factory=list)
    """With the shard that each belongs to, whatever else is left out."""
    skipped: int = 0
    bad: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    masks: set[str] = field(default_factory=set)


def convert_hdf5(settings: ConvertDataSettings) -> ConvertDataSummary:
    """Checks all files, then writes shards and joins them."""
    check_unused(settings.out)  # before all files are read
    identity = settings.identity()
    wanted = _wanted_demos(settings)
    with open_partial(settings.out, identity, resume=settings.resume) as partial:
        demos = _write(settings, wanted, partial)
    tasks = [demo.facts.task for demo in demos]
    moving = [demo.place for demo in demos if demo.base_steps and settings.action == "arm"]
    return ConvertDataSummary(
        settings.out,
        len(demos),
        sum(demo.steps for demo in demos),
        wanted.skipped,
        {task: tasks.count(task) for task in tasks},
        tuple(moving),
        tuple(wanted.bad),
        tuple(wanted.linked),
        tuple(sorted(wanted.masks)) if settings.mask is None else (),
    )


def _write(settings: ConvertDataSettings, wanted: _Wanted, partial: Path) -> list[Demo]:
    """Shard by shard into `partial`, which becomes the dataset; the demonstrations in it."""
    for unfinished in set(partial.glob(".*")) - {partial / LOCK}:  # of a write that was killed
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
    folders, written = [], []
    bar = tqdm(total=len(wanted.demos), desc="convert", unit="episode", mininterval=1.0)
    with bar:
        for number, group in groupby(wanted.demos, key=lambda numbered: numbered[0]):
            folder, shard = partial / f"shard-{number:05d}", [demo for _, demo in group]
            kept = _kept(folder, shard, settings=settings)
            if not kept:
                kept, bad = _write_shard(folder, shard, settings=settings)
                wanted.bad += bad
            folders += [folder] if kept else []
            written += kept
            bar.update(len(shard))
    if not written:
        raise DatasetError(f"no demonstration could be written: {wanted.bad[0]}")
    built = partial / "dataset"
    if built.is_dir() and _held(built) != list(map(_key, written)):
        shutil.rmtree(built)  # joined before something else was left out
    if not built.is_dir():  # else a kill came just before the end
        _join(folders, built, settings=settings, wanted=wanted, action=written[0].facts.action)
    os.rename(built, settings.out)
    shutil.rmtree(partial)
    return written


def _key(demo: Demo) -> tuple[str, str]:
    return demo.file.name, demo.name


def _held(folder: Path) -> list[tuple[str, str]]:
    """File and name of the demonstrations in a dataset that was written here."""
    episodes = json.loads((folder / FILE).read_text())["episodes"]
    return [(episode["file"], episode["demo"]) for episode in episodes]


def _kept(folder: Path, shard: Sequence[Demo], *, settings: ConvertDataSettings) -> list[Demo]:
    """What an earlier run wrote of a shard, if it is what is wanted now; else it is removed."""
    if not folder.is_dir():
        return []
    held = _held(folder)
    kept = [demo for demo in shard if _key(demo) in held]
    if len(kept) == len(held) and (len(kept) == len(shard) or settings.skip_bad):
        return kept
    shutil.rmtree(folder)
    return []


def _write_shard(
    folder: Path, shard: Sequence[Demo], *, settings: ConvertDataSettings
) -> tuple[list[Demo], list[str]]:
    """Writes a shard; what is in it, and what is wrong with those that had to be left out."""
    demos, bad, views = list(shard), [], settings.images_of_view
    while demos:
        first = demos[0]
        width = ARM_WIDTH if settings.action == "arm" else first.action_width
        try:
            write_dataset(
                folder,
                name=settings.out.name,
                episodes=(episode_of(demo, views=views, action_width=width) for demo in demos),
                names=number_names(first, action_width=width),
                meta={},
                fps=first.facts.control_hz,
                robot=first.facts.robot,
            )
            return demos, bad
        except (BadEpisode, BadDemonstration) as error:
            if not settings.skip_bad:
                raise DatasetError(
                    f"{error}; go on without it: --resume --skip-bad, or name it: "
                    "--resume --skip FILE.json"
                ) from error
            demos = [demo for demo in demos if demo.place != error.place]
            bad.append(str(error))
    return [], bad


def _wanted_demos(settings: ConvertDataSettings) -> _Wanted:
    """The demonstrations to write, of one layout, and what is left out."""
    files = settings.unique_files
    listed = {file: list_demos(file, mask=settings.mask) for file in files}
    settings.check_skip(listed)
    skip, wanted, first = settings.skip_list(), _Wanted(), 0
    places: dict[tuple[int, int, int], str] = {}
    for file, listing in listed.items():
        wanted.masks.update(listing.masks)
        numbers = {name: first + i for i, name in enumerate(listing.chosen)}
        first += len(numbers)
        names = [name for name in numbers if name not in skip.get(listing.task, ())]
        wanted.skipped += len(numbers) - len(names)
        for demo in read_demos(
            file, views=settings.images_of_view, names=names, told=settings.told
        ):
            if isinstance(demo, BadDemonstration):
                if not settings.skip_bad:
                    raise demo
                wanted.bad.append(str(demo))
            elif demo.identity in places:
                wanted.linked.append(f"{demo.place} is {places[demo.identity]} by another name")
            else:
                places[demo.identity] = demo.place
                wanted.demos.append((numbers[demo.name] // SHARD_EPISODES, demo))
    if not wanted.demos:
        reason = f": {wanted.bad[0]}" if wanted.bad else ""
        raise DatasetError(f"no demonstrations are left of {', '.join(map(str, files))}{reason}")
    _check_alike([demo for _, demo in wanted.demos])
    return wanted


def _check_alike(demos: Sequence[Demo]) -> None:
    first = demos[0].layout()
    for demo in demos:
        for name, value in demo.layout().items():
            if value != first[name]:
                raise DatasetError(
                    f"{demo.place} has {name} {value}, {demos[0].place} has {first[name]}; "
                    "convert them into datasets of their own"
                )


def _join(
    shards: Sequence[Path],
    target: Path,
    *,
    settings: ConvertDataSettings,
    wanted: _Wanted,
    action: Mapping[str, Any],
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
            **({"action": dict(action)} if action else {}),
            "source": settings.source(),
            "skipped": wanted.skipped,
            "bad": wanted.bad,
            "episodes": facts,
        }
        write_notes(tmp, meta)
        confirm_written(tmp, shown_as=settings.out)
