"""`vp-agent data stats`: how much there is, of which tasks, and the range of every number."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from vp_agent.train.check_values import number_names
from vp_agent.train.clips import IMAGES
from vp_agent.train.gate import open_dataset
from vp_agent.train.pictures import image_size


@dataclass(frozen=True, kw_only=True)
class StatsSettings:
    """Prints the size, the tasks and the ranges of a LeRobot v3 dataset."""

    root: tyro.conf.Positional[Path]
    """Folder of the dataset."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one instruction has of the dataset."""

    episodes: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Range:
    """One number of a vector over all frames."""

    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class DatasetStats:
    """A dataset in numbers."""

    episodes: int
    frames: int
    fps: float
    hours: float
    shortest: int
    median: float
    longest: int
    views: dict[str, tuple[int, int]]
    """Height and width."""
    tasks: dict[str, Share]
    ranges: dict[str, dict[str, Range]]
    """Feature -> name of the number -> its range."""

    def __str__(self) -> str:
        views = ", ".join(f"{name} {size[0]}x{size[1]}" for name, size in self.views.items())
        lines = [
            f"{self.episodes} episodes, {self.frames} frames, {self.hours:.2f} h, {self.fps:g} fps",
            f"frames of an episode: {self.shortest} to {self.longest}, median {self.median:g}",
            f"views (height x width): {views or 'none'}",
            "",
            f"{'episodes':>8}  {'frames':>8}  instruction",
        ]
        for task, share in self.tasks.items():
            lines.append(f"{share.episodes:>8}  {share.frames:>8}  {task}")
        for feature, ranges in self.ranges.items():
            width = max(map(len, [feature, *ranges]))
            heads = "".join(f"{head:>10}" for head in ("min", "max", "mean", "std"))
            lines += ["", f"{feature:<{width}}{heads}"]
            for name, r in ranges.items():
                values = "".join(f"{value:>10.3f}" for value in (r.min, r.max, r.mean, r.std))
                lines.append(f"{name:<{width}}{values}")
        return "\n".join(lines)


def dataset_stats(root: Path) -> DatasetStats:
    """Reads the tables of a dataset; its videos are not opened.

    Raises:
        DatasetError: it is no dataset, or damaged.
    """
    files = open_dataset(root)
    lengths = np.asarray(files.episodes["length"])
    columns = files.columns
    tasks = {}
    for task, instruction in files.tasks.items():
        rows = columns["task_index"] == task
        episodes = len(np.unique(columns["episode_index"][rows]))
        before = tasks.get(instruction, Share(episodes=0, frames=0))
        tasks[instruction] = Share(
            episodes=before.episodes + episodes, frames=before.frames + int(rows.sum())
        )
    features = files.info["features"]
    return DatasetStats(
        episodes=len(lengths),
        frames=int(lengths.sum()),
        fps=files.fps,
        hours=float(lengths.sum() / files.fps / 3600),
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        longest=int(lengths.max()),
        views={
            name.removeprefix(IMAGES): image_size(features[name])[:2]
            for name in (*files.views, *files.image_views)
        },
        tasks=tasks,
        ranges={
            feature: {
                name: Range(
                    min=float(values.min()),
                    max=float(values.max()),
                    mean=float(values.mean()),
                    std=float(values.std()),
                )
                for name, values in zip(
                    number_names(files, feature), columns[feature].T, strict=True
                )
            }
            for feature in files.vectors
        },
    )


def print_stats(settings: StatsSettings) -> None:
    """Prints `dataset_stats` as tables or as JSON."""
    stats = dataset_stats(settings.root)
    print(json.dumps(asdict(stats), indent=2) if settings.json else stats)
