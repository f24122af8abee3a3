"""Checks of a dataset's files and tables: is everything there, and does it agree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vp_agent.train.dataset_files import IMAGES, DatasetFiles, Unreadable

Found = Iterator[tuple[str, str, str]]
"""Where, what, and how to mend it."""
AGAIN = "download or write the dataset again"


def edit(files: DatasetFiles, operation: str, **arguments: object) -> str:
    """LeRobot's command that edits the dataset."""
    options = [f"--operation.{name} '{value}'" for name, value in arguments.items()]
    return " ".join(
        [
            f"lerobot-edit-dataset --repo_id local/{files.root.name} --root {files.root}",
            f"--operation.type {operation}",
            *options,
        ]
    )


def leave_out(files: DatasetFiles, *episodes: int) -> str:
    """The command that removes episodes."""
    return "leave it out: " + edit(files, "delete_episodes", episode_indices=list(episodes))


def format_version(files: DatasetFiles) -> Found:
    version = files.info.get("codebase_version")
    if version != "v3.0":
        fix = "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=..."
        yield str(files.root / "meta/info.json"), f"format {version!r}, expected 'v3.0'", fix


def unreadable(files: DatasetFiles) -> Found:
    for part in ("info", "stats", "tasks", "episodes", "columns"):
        try:
            getattr(files, part)
        except Unreadable as damage:
            yield str(damage.file), damage.reason, AGAIN


def missing_files(files: DatasetFiles) -> Found:
    missing: dict[Path, list[int]] = {}
    for number, row in files.episodes.iterrows():
        for file in _named(files, row):
            if not file.is_file():
                missing.setdefault(file, []).append(int(number))
    for file, episodes in missing.items():
        yield str(file), f"is missing; episodes {episodes} need it", AGAIN


def stray_files(files: DatasetFiles) -> Found:
    named = {file for _, row in files.episodes.iterrows() for file in _named(files, row)}
    views = [f"videos/{view}/**/*.mp4" for view in files.views]  # of other folders "views" tells
    for pattern in ("data/*/*.parquet", *views):
        for file in sorted(files.root.glob(pattern)):
            if file not in named:
                yield str(file), "no episode refers to it", "remove it, or write the dataset again"


def _named(files: DatasetFiles, episode: Any) -> list[Path]:
    videos = [files.video_file(episode, view) for view in files.recorded_views]
    return [files.data_file(episode), *videos]


def views(files: DatasetFiles) -> Found:
    info = str(files.root / "meta/info.json")
    if not any(name.startswith(IMAGES) for name in files.info["features"]):
        yield info, f"no view ({IMAGES}...) among its features", "rename_feature or record again"
    for view in files.views:
        if view not in files.recorded_views:
            yield info, f"the view {view} is listed, but no episode has it", AGAIN
    for folder in sorted((files.root / "videos").glob("*")):
        if folder.name not in files.info["features"]:
            yield str(folder), "this view's videos are there, info.json does not list it", AGAIN


def totals(files: DatasetFiles) -> Found:
    have = {
        "total_episodes": len(files.episodes),
        "total_frames": len(files.columns["index"]),
        "total_tasks": len(files.tasks),
    }
    for name, value in have.items():
        if files.info.get(name) != value:
            what = f"{name} is {files.info.get(name, 'missing')}, the tables have {value}"
            yield str(files.root / "meta/info.json"), what, f"write {value}, if nothing is lost"


def instructions(files: DatasetFiles) -> Found:
    where = str(files.root / "meta/tasks.parquet")
    modify = edit(files, "modify_tasks", episode_tasks='{"0": "..."}')
    of_row = files.columns["task_index"]
    for task in np.unique(of_row):
        episodes = np.unique(files.columns["episode_index"][of_row == task]).tolist()
        if task not in files.tasks:
            yield where, f"task {task} of episodes {episodes} has no instruction", modify
        elif not files.tasks[task].strip():
            yield where, f"the instruction of episodes {episodes} is empty", modify


def episode_table(files: DatasetFiles) -> Found:
    where, start = str(files.root / "meta/episodes"), 0
    for number, row in files.episodes.iterrows():
        if row["episode_index"] != number:
            yield where, f"episode {row['episode_index']} where {number} is expected", AGAIN
        first, last = int(row["dataset_from_index"]), int(row["dataset_to_index"])
        if (first, last) != (start, start + row["length"]):
            what = f"episode {number} has rows {first}..{last} and length {row['length']}"
            yield where, f"{what}; expected rows from {start}", AGAIN
        start = last


def row_indices(files: DatasetFiles) -> Found:
    columns, expected = files.columns, {"index": [], "frame_index": [], "episode_index": []}
    for number, length in enumerate(files.episodes["length"]):
        expected["frame_index"] += range(length)
        expected["episode_index"] += [number] * length
    expected["index"] = list(range(len(expected["frame_index"])))
    rows = len(columns["index"])
    if rows != len(expected["index"]):
        what = f"{rows} rows, the episodes' lengths add up to {len(expected['index'])}"
        yield str(files.root / "data"), what, AGAIN
        return
    for name, wanted in expected.items():
        wrong = np.flatnonzero(columns[name] != np.array(wanted))
        if len(wrong):
            row = int(wrong[0])
            what = f"{name} of row {row} is {columns[name][row]}, expected {wanted[row]}"
            where = f"{data_of_row(files, row)}, episode {expected['episode_index'][row]}"
            yield where, f"{what} ({len(wrong)} rows)", AGAIN


def data_of_row(files: DatasetFiles, row: int) -> str:
    ends = np.asarray(files.episodes["dataset_to_index"])
    episode = files.episodes.iloc[min(int((ends <= row).sum()), len(ends) - 1)]
    return str(files.data_file(episode))


def timestamps(files: DatasetFiles) -> Found:
    wanted = files.columns["frame_index"] / files.fps
    wrong = np.flatnonzero(np.abs(files.columns["timestamp"] - wanted) > 1e-4)
    if len(wrong):
        row = int(wrong[0])
        episode, frame = (int(files.columns[n][row]) for n in ("episode_index", "frame_index"))
        what = (
            f"frame {frame} is at {files.columns['timestamp'][row]:.4f} s, at {files.fps:g} fps "
            f"expected {wanted[row]:.4f} s ({len(wrong)} rows)"
        )
        fix = "correct fps in meta/info.json, or resample the episodes to a steady rate"
        yield f"{data_of_row(files, row)}, episode {episode}", what, fix
