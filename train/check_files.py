"""Checks of a dataset's files and tables: is everything there, and does it agree."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vp_agent.errors import DatasetError
from vp_agent.train.clips import IMAGES
from vp_agent.train.dataset_files import DatasetFiles, Unreadable
from vp_agent.train.notes import FILE, read_notes

Found = Iterator[tuple[str, str, str]]
"""Where, what, and how to mend it."""
TOLERANCE_S = 1e-4  # LeRobot's own, when it looks for a frame
AGAIN = "copy the dataset again, or write it anew"


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
    version = str(files.info.get("codebase_version"))
    if not version.startswith("v3."):
        fix = "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=..."
        yield str(files.root / "meta/info.json"), f"format {version!r}, expected 'v3.0'", fix


def unreadable(files: DatasetFiles) -> Found:
    parts = ["info", "tasks", "episodes", "columns", "stats"]
    if not (files.root / "meta/stats.json").exists():  # "statistics" says so
        parts.remove("stats")
    for part in parts:
        try:
            getattr(files, part)
        except Unreadable as damage:
            yield str(damage.file), damage.reason, AGAIN


def missing_files(files: DatasetFiles) -> Found:
    numbers = files.episodes["episode_index"].to_numpy()
    for file, places in _named(files):
        if not file.is_file():
            yield str(file), f"is missing; episodes {numbers[places].tolist()} need it", AGAIN


def data_order(files: DatasetFiles) -> Found:
    """LeRobot reads all files of data/ in the order of their names, whatever the episodes say."""
    for file in sorted((files.root / "data").glob("*/*.parquet")):
        if file not in files.data_files:
            fix = "remove it, or write the dataset again"
            yield str(file), "no episode refers to it, and LeRobot reads it all the same", fix
    before = None
    for file in files.data_files:
        if before is not None and file < before:
            what = f"its episodes come after those of {before}, LeRobot reads it first"
            yield str(file), what, AGAIN
        before = file


def stray_videos(files: DatasetFiles) -> Found:
    named = {file for file, _ in _named(files)}
    for view in files.views:  # of other folders "views" tells
        for file in sorted(files.root.glob(f"videos/{view}/**/*.mp4")):
            if file not in named:
                fix = "remove it, or write the dataset again"
                yield str(file), "no episode refers to it", fix


def _named(files: DatasetFiles) -> Iterator[tuple[Path, np.ndarray]]:
    yield from files.data_files.items()
    for view in files.recorded_views:
        yield from files.video_files(view).items()


def some_view(files: DatasetFiles) -> Found:
    if not any(name.startswith(IMAGES) for name in files.info["features"]):
        info = str(files.root / "meta/info.json")
        yield info, f"no view ({IMAGES}...) among its features", "rename_feature or record again"


def views(files: DatasetFiles) -> Found:
    info = str(files.root / "meta/info.json")
    for view in files.views:
        if view not in files.recorded_views:
            yield info, f"the view {view} is listed, but no episode has it", AGAIN
    shown: dict[Path, str] = {}
    for view in files.recorded_views:
        for file in files.video_files(view):
            if shown.setdefault(file, view) != view:
                yield str(file), f"it is named for {shown[file]} and for {view}", AGAIN
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
    rows = np.stack([files.columns["task_index"], files.columns["episode_index"]], axis=1)
    changes = np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1
    pairs = np.unique(rows[[0, *changes][: len(rows)]], axis=0)
    for task in np.unique(pairs[:, 0]).tolist():
        episodes = pairs[pairs[:, 0] == task, 1].tolist()
        if task not in files.tasks:
            yield where, f"task {task} of episodes {episodes} has no instruction", modify
        elif not files.tasks[task].strip():
            yield where, f"the instruction of episodes {episodes} is empty", modify
    if "tasks" not in files.episodes:
        return
    listed = dict(zip(files.episodes["episode_index"], files.episodes["tasks"], strict=True))
    for task, episode in pairs.tolist():
        words = listed.get(episode)
        said = [words] if isinstance(words, str) else list(words if np.iterable(words) else ())
        if said and files.tasks.get(task, said[0]) not in said:
            what = (
                f"episode {episode} is {files.tasks[task]!r} by its rows, {said} by meta/episodes"
            )
            yield where, what, modify


def episode_table(files: DatasetFiles) -> Found:
    """Numbers count up from 0 without a gap, and the rows of one follow those of the last."""
    where, table = str(files.root / "meta/episodes"), files.episodes
    numbers, lengths = (table[name].to_numpy() for name in ("episode_index", "length"))
    first, last = (table[f"dataset_{end}_index"].to_numpy() for end in ("from", "to"))
    ends = np.cumsum(lengths)
    for place in np.flatnonzero(numbers != np.arange(len(numbers))):
        what = f"row {place} is episode {numbers[place]}, expected {place}"
        yield where, f"{what} (LeRobot finds episodes by their place)", AGAIN
    for place in np.flatnonzero((first != ends - lengths) | (last != ends) | (lengths < 1)):
        what = f"episode {numbers[place]} has rows {first[place]}..{last[place]} and length "
        what += f"{lengths[place]}; expected rows from {ends[place] - lengths[place]}"
        yield where, what, AGAIN


def row_indices(files: DatasetFiles) -> Found:
    columns, lengths = files.columns, files.episodes["length"].to_numpy()
    if (lengths < 1).any():  # "episode table" says so
        return
    start, rows = 0, len(columns["index"])
    if rows != lengths.sum():
        what = f"{rows} rows, the episodes' lengths add up to {lengths.sum()}"
        yield str(files.root / "data"), what, AGAIN
        return
    for file, places in files.data_files.items():
        have, start = files.rows_in[file], start + files.rows_in[file]
        if have != lengths[places].sum():
            what = f"{have} rows, the lengths of its episodes add up to {lengths[places].sum()}"
            yield str(file), what, AGAIN
    numbers = files.episodes["episode_index"].to_numpy()
    expected = {
        "index": np.arange(rows),
        "frame_index": np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths, lengths),
        "episode_index": np.repeat(numbers, lengths),
    }
    for name, wanted in expected.items():
        wrong = np.flatnonzero(columns[name] != wanted)
        if len(wrong):
            row = int(wrong[0])
            what = f"{name} of row {row} is {columns[name][row]}, expected {wanted[row]}"
            where = f"{file_of_row(files, row)}, episode {expected['episode_index'][row]}"
            yield where, f"{what} ({len(wrong)} rows)", AGAIN


def file_of_row(files: DatasetFiles, row: int) -> str:
    """The parquet file that a row of `columns` comes from."""
    ends = np.cumsum(list(files.rows_in.values()))
    return str(list(files.rows_in)[int(np.searchsorted(ends, row, side="right"))])


def timestamps(files: DatasetFiles) -> Found:
    wanted = files.columns["frame_index"] / files.fps
    wrong = np.flatnonzero(~(np.abs(files.columns["timestamp"] - wanted) <= TOLERANCE_S))
    if len(wrong):
        row = int(wrong[0])
        episode, frame = (int(files.columns[n][row]) for n in ("episode_index", "frame_index"))
        what = (
            f"frame {frame} is at {files.columns['timestamp'][row]:.4f} s, at {files.fps:g} fps "
            f"expected {wanted[row]:.4f} s ({len(wrong)} rows)"
        )
        fix = "correct fps in meta/info.json, or resample the episodes to a steady rate"
        yield f"{file_of_row(files, row)}, episode {episode}", what, fix


def notes(files: DatasetFiles) -> Found:
    """Orientation, render quality and meaning of the actions, where the dataset says them."""
    try:
        read_notes(files.root)
    except Unreadable:
        raise
    except DatasetError as error:
        yield str(files.root / FILE), str(error), "correct what is wrong, or remove the notes"
