"""The files of a LeRobot v3 dataset, read one by one, so that damage can be named.

LeRobot's own reader stops at the first damaged file; `vp-agent data check` wants them all.
"""

# N rows (frames) of the dataset, D numbers of a vector

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vp_agent.errors import DatasetError, need
from vp_agent.strict_json import once
from vp_agent.train.clips import Clip, decode

_STATE = "observation.state"
_EPISODE_COLUMNS = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
_EPISODE_COLUMNS += ("data/chunk_index", "data/file_index")
_MOST_HZ = 1e6  # no camera is faster, and whole numbers of JSON may be longer than any float
_NO_FORMAT = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
_LONGEST_NAME = 255
_PLACE = ("chunk_index", "file_index")  # what names an episode's file
_COUNTS = ("frame_index", "episode_index", "index", "task_index")  # whole numbers of every row


class Unreadable(DatasetError):
    """A file of a dataset that is missing or damaged."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}; copy the dataset again")
        self.file, self.reason = file, reason


def read_json(file: Path) -> Any:
    """What a JSON file holds, or it is `Unreadable`."""
    try:
        return json.loads(file.read_text(), object_pairs_hook=once)
    except FileNotFoundError:
        raise Unreadable(file, "is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(file, f"cannot be read ({error})") from error


def whole_numbers(values: Any, *, file: Path, name: str) -> np.ndarray:
    """A column that counts something, or it is `Unreadable`: nothing is cut off or rounded."""
    found = np.asarray(values)
    if found.dtype.kind in "iu" and found.ndim == 1:
        return found.astype(np.int64)
    for row, value in enumerate(found.tolist()):
        whole = isinstance(value, int | float) and abs(value) < 2**63 and value == int(value)
        if not whole:  # NaN and inf are not below anything
            raise Unreadable(file, f"{name} of row {row} is {value!r}, expected a whole number")
    return found.astype(np.int64)


def feature_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a vector's numbers; none if they do not count up.

    They are a list, a list under one heading (LeRobot's older way), or each with its place.
    """
    names = feature.get("names") or ()
    if isinstance(names, Mapping):
        by_place = all(isinstance(place, int) for place in names.values())
        names = sorted(names, key=names.__getitem__) if by_place else next(iter(names.values()))
    if not isinstance(names, list | tuple):
        return ()
    names = tuple(map(str, names))
    return names if [len(names)] == list(feature["shape"]) else ()


def _check_feature(file: Path, name: str, feature: Any) -> None:
    if not isinstance(feature, dict) or not {"dtype", "shape"} <= feature.keys():
        raise Unreadable(file, f"feature {name!r} has no dtype or no shape")
    dtype, shape = feature["dtype"], feature["shape"]
    whole = isinstance(shape, list) and all(type(x) is int and x > 0 for x in shape)
    if not isinstance(dtype, str) or not whole:
        raise Unreadable(file, f"feature {name!r} has dtype {dtype!r} and shape {shape!r:.60}")
    if name in ("action", _STATE) and dtype not in ("float16", "float32", "float64"):
        raise Unreadable(file, f"{name} has dtype {dtype!r:.60}, expected float32")


class DatasetFiles:
    """A dataset folder; every part is read when it is first asked for, or is `Unreadable`.

    Whoever learns from a dataset or shows it has it from `vp_agent.train.gate.open_dataset`, which
    has checked it. Everything is looked up by its number, not by its place in a table.
    """

    def __init__(self, root: Path, *, name: str = "") -> None:
        self.root = Path(root)
        self.name = name or self.root.resolve().name

    @cached_property
    def info(self) -> dict[str, Any]:
        """`meta/info.json`."""
        file = self.root / "meta/info.json"
        info = read_json(file)
        needed = {"fps": (int, float), "features": dict, "data_path": str}
        if isinstance(info, dict) and isinstance(info.get("features"), dict):
            for name, feature in info["features"].items():
                _check_feature(file, name, feature)
            if any(feature["dtype"] == "video" for feature in info["features"].values()):
                needed["video_path"] = str
        for name, kind in needed.items():
            if not isinstance(info, dict) or name not in info:
                raise Unreadable(file, f"no {name!r}")
            if not isinstance(info[name], kind) or isinstance(info[name], bool):
                raise Unreadable(file, f"{name} is {info[name]!r:.60}")
        if not 0 < info["fps"] <= _MOST_HZ:
            raise Unreadable(
                file, f"fps is {info['fps']!r:.60}, expected above 0 and up to {_MOST_HZ:g}"
            )
        return info

    @cached_property
    def stats(self) -> dict[str, dict[str, list[float]]]:
        """`meta/stats.json`."""
        file = self.root / "meta/stats.json"
        stats = read_json(file)
        if not isinstance(stats, dict) or not all(isinstance(x, dict) for x in stats.values()):
            raise Unreadable(file, "it is no object of objects")
        return stats

    @cached_property
    def tasks(self) -> dict[int, str]:
        """Instructions by task index, in its order.

        They stand in the table's index, under any name or none, or in a column `task`.
        """
        file = self.root / "meta/tasks.parquet"
        table = self.parquet(file).to_pandas()
        if "task_index" not in table:
            raise Unreadable(file, "no column 'task_index'")
        numbers = whole_numbers(table["task_index"], file=file, name="task_index")
        words = list(table.get("task", table.index))
        for row, text in enumerate(words):
            if not isinstance(text, str):
                raise Unreadable(file, f"the instruction of row {row} is {text!r}, expected words")
        if len(set(numbers.tolist())) < len(numbers):
            twice = next(x for x in numbers.tolist() if (numbers == x).sum() > 1)
            raise Unreadable(file, f"task_index {twice} has several rows")
        return dict(sorted(zip(numbers.tolist(), words, strict=True)))

    @cached_property
    def episodes(self) -> Any:
        """The table of episodes, without their statistics (pandas), by their numbers."""
        pandas: Any = need("pandas", extra="lerobot")
        files = sorted((self.root / "meta/episodes").rglob("*.parquet"))
        if not files:
            raise Unreadable(self.root / "meta/episodes", "no parquet file is there")
        tables = []
        for file in files:
            table = self.parquet(file).to_pandas()
            for name in _EPISODE_COLUMNS:
                if name not in table:
                    raise Unreadable(file, f"no column {name!r}")
            for name in table:
                if str(name).endswith("_timestamp"):
                    for value in table[name].tolist():
                        if not isinstance(value, float | int | None):
                            raise Unreadable(file, f"{name} is {value!r:.40}, expected a number")
                if name in _EPISODE_COLUMNS or str(name).endswith(_PLACE):
                    table[name] = whole_numbers(table[name], file=file, name=name)
            tables.append(table[[name for name in table if not name.startswith("stats/")]])
        table = pandas.concat(tables, ignore_index=True)
        if table.empty:
            raise Unreadable(files[0], "it lists no episode")
        return table.set_index("episode_index", drop=False)

    def episode(self, number: int) -> Any:
        """The row of `episodes` of this number."""
        at = np.flatnonzero(self.episodes["episode_index"].to_numpy() == number)
        if not len(at):
            raise Unreadable(self.root / "meta/episodes", f"no episode {number}")
        return self.episodes.iloc[int(at[0])]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return float(self.info["fps"])

    @property
    def views(self) -> list[str]:
        """Names of the video features."""
        features = self.info["features"]
        return [name for name in features if features[name]["dtype"] == "video"]

    @property
    def image_views(self) -> list[str]:
        """Names of the features that are images, kept one by one among the numbers."""
        features = self.info["features"]
        return [name for name in features if features[name]["dtype"] == "image"]

    @property
    def recorded_views(self) -> list[str]:
        """The views that the table of episodes has, too."""
        return [view for view in self.views if f"videos/{view}/file_index" in self.episodes]

    @property
    def vectors(self) -> list[str]:
        """Names of the features that are numbers of the robot: actions, states."""
        features = self.info["features"]
        bookkeeping = ("timestamp", "frame_index", "episode_index", "index", "task_index")
        return [
            name
            for name in features
            if (features[name]["dtype"].startswith("float") or name in ("action", _STATE))
            and len(features[name]["shape"]) == 1
            and name not in bookkeeping
        ]

    def data_file(self, episode: Any) -> Path:
        """The parquet file that a row of `episodes` names."""
        return self._named(
            "data_path",
            chunk_index=episode["data/chunk_index"],
            file_index=episode["data/file_index"],
        )

    def video_file(self, episode: Any, view: str) -> Path:
        """The video file that a row of `episodes` names."""
        return self._named(
            "video_path",
            video_key=view,
            chunk_index=int(episode[f"videos/{view}/chunk_index"]),
            file_index=int(episode[f"videos/{view}/file_index"]),
        )

    def _named(self, pattern: str, **numbers: Any) -> Path:
        try:
            path = Path(self.info[pattern].format(**numbers))
            if max(map(len, path.parts), default=0) > _LONGEST_NAME:
                raise ValueError("a name longer than a file's can be")
            return self.root / path
        except _NO_FORMAT as error:  # of another version of the format
            info = self.root / "meta/info.json"
            raise Unreadable(info, f"{pattern} {self.info[pattern]!r} asks for {error}") from error

    def _files(self, prefix: str, pattern: str, **names: str) -> dict[Path, np.ndarray]:
        """Every file of one kind, with the places in `episodes` of those that lie in it."""
        for name in _PLACE:
            if f"{prefix}/{name}" not in self.episodes:
                raise Unreadable(self.root / "meta/episodes", f"no column '{prefix}/{name}'")
        places = np.stack([self.episodes[f"{prefix}/{name}"].to_numpy() for name in _PLACE], axis=1)
        found, first, which = np.unique(places, axis=0, return_index=True, return_inverse=True)
        return {
            self._named(
                pattern, chunk_index=int(found[i][0]), file_index=int(found[i][1]), **names
            ): np.flatnonzero(which.reshape(-1) == i)
            for i in np.argsort(first)
        }

    @cached_property
    def data_files(self) -> dict[Path, np.ndarray]:
        """The parquet files in the episodes' order, and the places of these in `episodes`."""
        return self._files("data", "data_path")

    def video_files(self, view: str) -> dict[Path, np.ndarray]:
        """The same of the video files of a view."""
        return self._files(f"videos/{view}", "video_path", video_key=view)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All rows: numbers (N,) and vectors (N, D), in the order of the files."""
        wanted = [*self.vectors, "timestamp", *_COUNTS]
        parts = list(self._parts(wanted).values())
        first = next(iter(self.data_files))
        for file, part in zip(self.data_files, parts, strict=True):
            for name in self.vectors:
                if part[name].shape[1:] != parts[0][name].shape[1:]:
                    before, width = parts[0][name].shape[1], part[name].shape[1]
                    raise Unreadable(file, f"{name} has rows of {width} numbers, {first} {before}")
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    @cached_property
    def rows_in(self) -> dict[Path, int]:
        """Rows of every data file."""
        parquet: Any = need("pyarrow.parquet", extra="lerobot")
        return {file: parquet.read_metadata(file).num_rows for file in self.data_files}

    def _parts(self, names: list[str]) -> dict[Path, dict[str, np.ndarray]]:
        return {file: self.columns_of(file, names) for file in self.data_files}

    def column(self, name: str) -> np.ndarray:
        """One feature's numbers of all rows, (N, D)."""
        if name in self.columns:
            return self.columns[name]
        return np.concatenate([part[name] for part in self._parts([name]).values()])

    def rows_of(self, episode: int) -> np.ndarray:
        """Which rows are an episode's, by the number that they bear."""
        return self._rows_by_episode.get(episode, np.arange(0))

    @cached_property
    def _rows_by_episode(self) -> dict[int, np.ndarray]:
        numbers = self.columns["episode_index"]
        order = np.argsort(numbers, kind="stable")
        found, first = np.unique(numbers[order], return_index=True)
        rows = np.split(order, first[1:])
        return dict(zip(found.tolist(), rows, strict=True))

    def columns_of(self, file: Path, names: list[str]) -> dict[str, np.ndarray]:
        """Columns of one file: numbers (N,) and vectors (N, D)."""
        compute: Any = need("pyarrow.compute", extra="lerobot")
        types: Any = need("pyarrow.types", extra="lerobot")
        table, columns = self.parquet(file, columns=names), {}
        for name in names:
            if name not in table.column_names:
                raise Unreadable(file, f"no column {name!r}")
            values = table[name]
            count = name in (*_COUNTS, "timestamp")
            kind = values.type
            if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
                found = compute.unique(compute.list_value_length(values)).to_pylist()
                widths = sorted(width or 0 for width in found)
                if len(widths) > 1:
                    raise Unreadable(file, f"{name} has rows of {widths} numbers")
                flat = compute.list_flatten(values).to_numpy()
                column = flat.reshape(len(values), -1) if len(values) else np.zeros((0, 0))
                column = column[:, 0] if count and column.shape[1] == 1 else column
            else:
                column = values.to_numpy()
                if not count:  # LeRobot writes vectors of one number without a list
                    column = column[:, None]
            if column.dtype.kind not in "iufb" or column.ndim != (1 if count else 2):
                raise Unreadable(file, f"{name} holds {values.type}, expected numbers")
            if name in _COUNTS:
                column = whole_numbers(column, file=file, name=name)
            columns[name] = column
        return columns

    def images_of(self, file: Path, view: str) -> dict[int, bytes]:
        """The encoded images of an image view in one file, by row of the dataset."""
        table = self.parquet(file, columns=["index", view])
        cells = [cell["bytes"] for cell in table[view].to_pylist()]
        return dict(zip(table["index"].to_pylist(), cells, strict=True))

    def parquet(self, file: Path, *, columns: list[str] | None = None) -> Any:
        """A file's table, or those of the `columns` that it has."""
        parquet: Any = need("pyarrow.parquet", extra="lerobot")
        arrow: Any = need("pyarrow", extra="lerobot")
        if not file.is_file():
            raise Unreadable(file, "is missing")
        try:
            table = parquet.ParquetFile(file).read(columns=columns)
        except (OSError, ValueError, arrow.ArrowException) as error:
            raise Unreadable(file, f"cannot be read ({error})") from error
        for name in table.column_names:
            if table.column_names.count(name) > 1:
                raise Unreadable(file, f"it has the column {name!r} twice")
        return table

    @cached_property
    def clips(self) -> list[Clip]:
        """All episodes of all views, every video file decoded once; those of missing files not."""
        by_file: dict[Path, list[Clip]] = {}
        for view in self.recorded_views:
            starts = self.episodes[f"videos/{view}/from_timestamp"].to_numpy()
            lengths = self.episodes["length"].to_numpy()
            for file, places in self.video_files(view).items():
                by_file[file] = [
                    Clip(
                        view=view,
                        episode=int(self.episodes.index[at]),
                        file=file,
                        first=round(starts[at] * self.fps) if np.isfinite(starts[at]) else 0,
                        length=int(lengths[at]),
                    )
                    for at in places
                ]
        files = [file for file in by_file if file.is_file()]
        for file in tqdm(files, desc="decode", unit="file", leave=False):
            decode(file, sorted(by_file[file], key=lambda clip: clip.first), fps=self.fps)
        return [clip for file in files for clip in by_file[file]]
