"""Corruptions of the tables, clips and files of `telling_data`, none of which needs decoding."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dataset_damage import DATA, EPISODES, LEFT, edit_json, edit_video

GRIPPER = LEFT.replace("left", "gripper")
CLIP = "videos/observation.images.left/"
Corruption = Callable[[Path], object]


def table(name: str, change: Callable[[Any], Any], *, index: bool = False) -> Corruption:
    """Changes a parquet file by pandas; the change may return another table."""

    def corrupt(root: Path) -> None:
        import pandas as pd

        before = pd.read_parquet(root / name)
        after = change(before)
        (before if after is None else after).to_parquet(root / name, index=index)

    return corrupt


def info(change: Callable[[Any], Any]) -> Corruption:
    return lambda root: edit_json(root, "meta/info.json", lambda x: change(x))


def stats(change: Callable[[Any], Any]) -> Corruption:
    return lambda root: edit_json(root, "meta/stats.json", lambda x: change(x))


def tasks(change: Callable[[Any], Any], *, index: bool = True) -> Corruption:
    return table("meta/tasks.parquet", change, index=index)


def rows(change: Callable[[Any], Any]) -> Corruption:
    return table(DATA, change)


def episodes(change: Callable[[Any], Any]) -> Corruption:
    return table(EPISODES, change)


def cell(name: str, row: int, value: Any) -> Callable[[Any], None]:
    """Sets one cell, of a column of any type."""

    def change(found: Any) -> None:
        values = found[name].tolist()
        values[row] = value
        found[name] = values

    return change


def number(name: str, row: int, place: int, value: float) -> Callable[[Any], None]:
    """Sets one number of a vector."""

    def change(found: Any) -> None:
        values = [np.array(x, np.float64) for x in found[name]]
        values[row][place] = value
        found[name] = values

    return change


def both(*corruptions: Corruption) -> Corruption:
    def corrupt(root: Path) -> None:
        for corruption in corruptions:
            corruption(root)

    return corrupt


def _renumbered(found: Any) -> Any:
    found = found.reset_index(drop=True)
    if "length" in found:
        ends = found["length"].cumsum()
        found["dataset_to_index"], found["dataset_from_index"] = ends, ends - found["length"]
    else:
        found["index"] = np.arange(len(found))
    return found


def _gap(then: Callable[[Any], Any]) -> Corruption:
    """Episode 1 taken out of the tables by hand."""
    keep = lambda found: then(found[found["episode_index"] != 1])  # noqa: E731
    counts = info(lambda x: x.update(total_episodes=3, total_frames=27))
    return both(rows(keep), episodes(keep), counts)


def _late(found: Any) -> None:
    for end in ("from", "to"):
        found[f"{CLIP}{end}_timestamp"] += 0.05


def _drift(found: Any) -> None:
    for end in ("from", "to"):
        found[f"{CLIP}{end}_timestamp"] += 60e-6 * np.arange(len(found))


def _swapped(found: Any) -> None:
    """Episodes 0 and 1 show each other's clips, cut to their own lengths."""
    found.loc[0, [f"{CLIP}from_timestamp", f"{CLIP}to_timestamp"]] = 0.6, 1.1
    found.loc[1, [f"{CLIP}from_timestamp", f"{CLIP}to_timestamp"]] = 0.0, 0.6


def _restart(found: Any) -> None:
    """A converter that counts again from every file's start."""
    found["dataset_from_index"], found["dataset_to_index"] = [0, 10, 0, 8], [10, 22, 8, 17]


def _swap_tasks(found: Any) -> None:
    found["task_index"] = found["task_index"].replace({0: 1, 1: 0})


def _stray(root: Path) -> None:
    shutil.copy(root / DATA, (root / DATA).with_name("file-001.parquet"))


def _write(name: str, text: str) -> Corruption:
    return lambda root: (root / name).write_text(text)


def _cut(name: str, keep: float) -> Corruption:
    return lambda root: (root / name).write_bytes(
        (root / name).read_bytes()[: int(keep * (root / name).stat().st_size)]
    )


def _video(change: Callable[[np.ndarray, int], Any]) -> Corruption:
    return lambda root: edit_video(root, LEFT, change)


def _as_strings(found: Any) -> None:
    found["action"] = [[str(x) for x in action] for action in found["action"]]


def _nan_json(name: str, value: str) -> Corruption:
    """Numbers that JSON has no word for and Python's reader takes."""

    def corrupt(root: Path) -> None:
        path = root / "meta/info.json"
        found = json.loads(path.read_text())
        found[name] = value
        path.write_text(json.dumps(found).replace(f'"{value}"', value))

    return corrupt


def _twice(name: str, column: str) -> Corruption:
    def corrupt(root: Path) -> None:
        from pyarrow import parquet

        found = parquet.read_table(root / name)
        parquet.write_table(found.append_column(column, found[column]), root / name)

    return corrupt


def _notes(text: str) -> Corruption:
    return lambda root: (root / "meta/vp_agent.json").write_text(text)


def _fps_twice(root: Path) -> None:
    path = root / "meta/info.json"
    path.write_text(path.read_text().replace("{", '{"fps": 30, ', 1))


REFUSED: dict[str, Corruption] = {
    "notes that are no JSON": _notes("{"),
    "notes of an unknown orientation": _notes('{"env_kwargs": {"transform": "diagonal"}}'),
    "a key that comes twice": _fps_twice,
    "actions of texts": info(lambda x: x["features"]["action"].update(dtype="string")),
    "actions of an unknown type": info(lambda x: x["features"]["action"].update(dtype="float33")),
    "states of bools": info(lambda x: x["features"]["observation.state"].update(dtype="bool")),
    "a name no file can have": info(lambda x: x.update(video_path="v" * 5000 + "{video_key}")),
    # instructions
    "a task_index of two rows": tasks(cell("task_index", 1, 0)),
    "a task_index of one half": tasks(cell("task_index", 1, 0.5)),
    "rows of a task that is not listed": rows(cell("task_index", 3, 7)),
    "an empty instruction": tasks(lambda t: t.rename(index=dict.fromkeys(t.index[:1], " "))),
    "an instruction that is no text": tasks(lambda t: t.reset_index(drop=True)),
    "an instruction that is missing": tasks(
        lambda t: t.reset_index().replace("push the button", None), index=False
    ),
    "tasks swapped in the rows": rows(_swap_tasks),
    "no task at all": tasks(lambda t: t.iloc[:0]),
    "a task_index without end": tasks(cell("task_index", 1, float("inf"))),
    # episodes
    "a length without end": episodes(cell("length", 1, float("inf"))),
    "a length past every integer": episodes(cell("length", 1, 1e300)),
    "a column of the episodes twice": _twice(EPISODES, "length"),
    "a gap in the episodes, index kept": _gap(lambda t: t),
    "a gap in the episodes, renumbered": _gap(_renumbered),
    "from and to restart": episodes(_restart),
    "an episode table in another order": episodes(lambda t: t.iloc[[0, 2, 1, 3]]),
    "an episode table backwards": episodes(lambda t: t.iloc[::-1]),
    "an episode listed twice": episodes(lambda t: t.iloc[[0, 1, 1, 2, 3]]),
    "an episode that is not listed": episodes(lambda t: t.iloc[:3]),
    "two episodes of one number": episodes(cell("episode_index", 2, 1)),
    "a length too large": episodes(cell("length", 1, 13)),
    "a length of nothing": episodes(cell("length", 1, 0)),
    "a length of half a frame": episodes(cell("length", 1, 11.5)),
    "a length that is missing": episodes(cell("length", 1, None)),
    "a data file that is not there": episodes(cell("data/file_index", 3, 5)),
    "a data file that no episode names": _stray,
    # rows
    "rows of the last episode first": rows(
        lambda t: t.sort_values(["episode_index", "frame_index"], ascending=[False, True])
    ),
    "rows of the episodes interleaved": rows(
        lambda t: t.sort_values(["frame_index", "episode_index"])
    ),
    "lost rows": rows(lambda t: t.drop(index=[20, 21])),
    "a row twice": rows(lambda t: t.iloc[[0, 0, *range(1, len(t))]]),
    "index from 1": rows(lambda t: t.__setitem__("index", t["index"] + 1)),
    "a column of the rows twice": _twice(DATA, "action"),
    "a frame number without end": rows(cell("frame_index", 5, float("inf"))),
    "an index twice": rows(cell("index", 5, 4)),
    "a frame left out": rows(cell("frame_index", 9, 10)),
    "an episode number within another": rows(cell("episode_index", 5, 2)),
    "an episode number that is missing": rows(cell("episode_index", 5, None)),
    "a repeated timestamp": rows(cell("timestamp", 5, 0.2)),
    "a timestamp that is no number": rows(cell("timestamp", 5, float("nan"))),
    "timestamps of another rate": rows(lambda t: t.__setitem__("timestamp", t["timestamp"] * 2)),
    # numbers
    "an action that is no number": rows(number("action", 5, 3, np.nan)),
    "an endless state": rows(number("observation.state", 5, 1, np.inf)),
    "an action past float32": rows(number("action", 5, 3, 1e300)),
    "an action that is missing": rows(cell("action", 5, None)),
    "actions of six numbers": rows(lambda t: t.__setitem__("action", [x[:6] for x in t["action"]])),
    "actions of words": rows(_as_strings),
    "no action column": rows(lambda t: t.drop(columns="action")),
    # clips
    "a clip that begins in words": episodes(
        lambda t: t.__setitem__(f"{CLIP}from_timestamp", t[f"{CLIP}from_timestamp"].astype(str))
    ),
    "one video for two views": info(
        lambda x: x.update(video_path="videos/observation.images.left/chunk-000/file-000.mp4")
    ),
    "clips a frame late": episodes(_late),
    "clips that drift by 60 microseconds": episodes(_drift),
    "a clip longer than its rows": episodes(cell(f"{CLIP}to_timestamp", 3, 2.0)),
    "a clip that begins at no number": episodes(cell(f"{CLIP}from_timestamp", 2, float("nan"))),
    "a clip that ends at no number": episodes(cell(f"{CLIP}to_timestamp", 2, None)),
    "clips swapped": episodes(_swapped),
    "a clip that begins with the file": episodes(
        lambda t: t.__setitem__(f"{CLIP}from_timestamp", 0.0)
    ),
    "a video file that is not there": episodes(cell(f"{CLIP}file_index", 3, 1)),
    "no column of a view": episodes(lambda t: t.drop(columns=f"{CLIP}file_index")),
    # video files, without decoding
    "a video with a frame less": _video(lambda frame, n: None if n == 38 else frame),
    "a video with a hole": _video(lambda frame, n: None if n == 20 else frame),
    "a video of another size": _video(lambda frame, n: frame[::2, ::2]),
    "a video cut short": _cut(LEFT, 0.6),
    "a video cut by a byte": lambda root: (root / LEFT).write_bytes(
        (root / LEFT).read_bytes()[:-1]
    ),
    "a video of nothing": _cut(LEFT, 0.0),
    "a video of text": _write(LEFT, "no video"),
    "a video that is missing": lambda root: (root / LEFT).unlink(),
    # info and statistics
    "fps of 10": info(lambda x: x.update(fps=10)),
    "fps of nothing": info(lambda x: x.update(fps=0)),
    "fps of no number": _nan_json("fps", "NaN"),
    "fps past every float": _nan_json("fps", "1" + 400 * "0"),
    "fps without end": _nan_json("fps", "Infinity"),
    "fps in words": info(lambda x: x.update(fps="20")),
    "another number of episodes": info(lambda x: x.update(total_episodes=9)),
    "another number of frames": info(lambda x: x.update(total_frames=1)),
    "an older format": info(lambda x: x.update(codebase_version="v2.1")),
    "features as a list": info(lambda x: x.update(features=[])),
    "a feature without a shape": info(lambda x: x["features"]["action"].pop("shape")),
    "a shape in words": info(lambda x: x["features"]["action"].update(shape="7")),
    "another shape": info(lambda x: x["features"]["action"].update(shape=[8])),
    "pictures of another shape": info(
        lambda x: x["features"]["observation.images.left"].update(shape=[64, 64, 3])
    ),
    "paths of another version": info(lambda x: x.update(data_path="data/{episode_index}.parquet")),
    "paths that ask for what a number has not": info(
        lambda x: x.update(data_path="data/{chunk_index.foo}/{file_index}.parquet")
    ),
    "paths that look into a number": info(
        lambda x: x.update(video_path="{video_key}/{chunk_index[0]}/{file_index}.mp4")
    ),
    "info that is endlessly deep": _write("meta/info.json", "[" * 100_000),
    "statistics that are endlessly deep": _write("meta/stats.json", "[" * 100_000),
    "a statistic past every float": stats(lambda x: x["action"]["max"].__setitem__(2, 10**400)),
    "info that is no object": _write("meta/info.json", "[]"),
    "info that is no JSON": _write("meta/info.json", "{"),
    "a wrong statistic": stats(lambda x: x["action"]["max"].__setitem__(2, 7.0)),
    "a statistic that is no number": stats(lambda x: x["action"]["mean"].__setitem__(2, np.nan)),
    "a statistic in words": stats(lambda x: x["action"].update(max="large")),
    "a statistic of six numbers": stats(lambda x: x["action"]["max"].pop()),
    "statistics that are missing": lambda root: (root / "meta/stats.json").unlink(),
    "statistics that are a list": _write("meta/stats.json", "[]"),
    "no table of tasks": lambda root: (root / "meta/tasks.parquet").unlink(),
    "no table of episodes": lambda root: (root / EPISODES).unlink(),
    "a data file cut short": _cut(DATA, 0.7),
}


def _with_a_gap(root: Path) -> None:
    tasks(lambda t: t.__setitem__("task_index", [0, 1, 7]))(root)
    rows(lambda t: t.__setitem__("task_index", t["task_index"].replace({2: 7})))(root)


# What our own readers read right, and LeRobot, which looks up by place, does not.
READ_BY_KEY: dict[str, Corruption] = {
    "tasks in another order": tasks(lambda t: t.iloc[[2, 0, 1]]),
    "a gap in task_index": _with_a_gap,
    "the instruction in a column": tasks(lambda t: t.reset_index(), index=False),
}


def _channels_first(root: Path) -> None:
    def change(found: Any) -> None:
        feature = found["features"]["observation.images.left"]
        feature.update(shape=[3, 32, 32], names=["channels", "height", "width"])

    edit_json(root, "meta/info.json", change)


def _short_names(root: Path) -> None:
    def change(found: Any) -> None:
        feature = found["features"]["observation.images.left"]
        feature.update(shape=[3, 32, 32], names=["c", "h", "w"])

    edit_json(root, "meta/info.json", change)


# What everybody reads right.
READ: dict[str, Corruption] = {
    "a shape with the channels first and short names": _short_names,
    "episode numbers as categories": rows(
        lambda t: t.__setitem__("episode_index", t["episode_index"].astype("category"))
    ),
    "nothing": lambda root: None,
    "an index without a name": tasks(lambda t: t.rename_axis(None)),
    "a shape with the channels first": _channels_first,
    "episodes whose tasks are not said": episodes(lambda t: t.__setitem__("tasks", np.nan)),
    "a table of episodes in two files": lambda root: _split_episodes(root),
}


def _split_episodes(root: Path) -> None:
    import pandas as pd

    found = pd.read_parquet(root / EPISODES)
    found.iloc[2:].to_parquet((root / EPISODES).with_name("file-001.parquet"), index=False)
    found.iloc[:2].to_parquet(root / EPISODES, index=False)
