"""The files of a LeRobot v3 dataset, read one by one, so that damage can be named.

LeRobot's own reader stops at the first damaged file; `vp-agent data check` wants them all.
"""

# N rows (frames) of the dataset, D numbers of a vector

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vp_agent.errors import DatasetError, need

IMAGES = "observation.images."
_EPISODE_COLUMNS = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
_EPISODE_COLUMNS += ("data/chunk_index", "data/file_index")
THUMB = 16  # side of the thumbnails that frames are compared by
_GREY = 64  # side of the grey pictures that motion is measured on


class Unreadable(DatasetError):
    """A file of a dataset that is missing or damaged."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}; copy the dataset again")
        self.file, self.reason = file, reason


def read_json(file: Path) -> Any:
    """What a JSON file holds, or it is `Unreadable`."""
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise Unreadable(file, "is missing") from None
    except (OSError, ValueError) as error:
        raise Unreadable(file, f"cannot be read ({error})") from error


def feature_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a vector's numbers; none if they do not count up.

    They are a list, a list under one heading (LeRobot's older way), or each with its place.
    """
    names = feature.get("names") or ()
    if isinstance(names, Mapping):
        by_place = all(isinstance(place, int) for place in names.values())
        names = sorted(names, key=names.__getitem__) if by_place else next(iter(names.values()))
    names = tuple(map(str, names))
    return names if len(names) == feature["shape"][0] else ()


def strict_frames(file: Path) -> Iterator[Any]:
    """PyAV's frames of a video, in order; damage is an `av.FFmpegError`, not concealed.

    A file without a video stream is an `IndexError`.
    """
    av: Any = need("av", extra="lerobot")
    with av.open(str(file), options={"err_detect": "explode"}) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        yield from container.decode(stream)


@dataclass(kw_only=True)
class Clip:
    """One episode of one view, as decoded; `first` is its first frame's number in the file."""

    view: str
    episode: int
    file: Path
    first: int
    length: int
    seen: set[int] = field(default_factory=set)
    error: str = ""
    size: tuple[int, int] = (0, 0)
    late: int = 0
    """Frames whose time is not a multiple of 1 / fps."""
    dark: list[int] = field(default_factory=list)
    bright: list[int] = field(default_factory=list)
    flat: list[int] = field(default_factory=list)
    start: np.ndarray | None = None
    total: np.ndarray = field(default_factory=lambda: np.zeros((THUMB, THUMB, 3)))
    motion: float = 0.0
    """Largest mean difference of a thumbnail to the first one, in grey levels."""
    small: np.ndarray = field(init=False)
    """A grey thumbnail of every frame, uint8 (length, THUMB, THUMB)."""
    change: np.ndarray = field(init=False)
    """Mean difference of a frame to the one before, in grey levels (length,); NaN: unknown."""
    last: tuple[int, np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.small = np.zeros((max(0, self.length), THUMB, THUMB), np.uint8)
        self.change = np.full(max(0, self.length), np.nan, np.float32)

    @property
    def name(self) -> str:
        """View, file and episode, for messages."""
        return f"{self.file}, episode {self.episode}, view {self.view.removeprefix(IMAGES)}"

    @property
    def mean(self) -> np.ndarray:
        """Mean thumbnail."""
        return self.total / max(1, len(self.seen))

    def add(self, number: int, thumb: np.ndarray, grey: np.ndarray) -> None:
        """Takes note of frame `number` of the episode."""
        self.seen.add(number)
        self.small[number] = np.rint(thumb.mean(axis=2))
        if self.last is not None and self.last[0] == number - 1:
            self.change[number] = np.abs(grey - self.last[1]).mean()
        self.last = (number, grey) if number < self.length - 1 else None  # a clip keeps no picture
        level, spread = thumb.mean(), thumb.std(axis=(0, 1)).max()
        if level < 6:
            self.dark.append(number)
        elif level > 249:
            self.bright.append(number)
        elif spread < 1.5:
            self.flat.append(number)
        self.total += thumb
        if self.start is None:
            self.start = thumb
        self.motion = max(self.motion, float(np.abs(thumb - self.start).mean()))


class DatasetFiles:
    """A dataset folder; every part is read when it is first asked for, or is `Unreadable`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @cached_property
    def info(self) -> dict[str, Any]:
        """`meta/info.json`."""
        file = self.root / "meta/info.json"
        info = read_json(file)
        features = info.get("features", {})
        for name, feature in features.items():
            if not {"dtype", "shape"} <= feature.keys():
                raise Unreadable(file, f"feature {name!r} has no dtype or no shape")
        needed = ["fps", "features", "data_path"]
        if any(feature["dtype"] == "video" for feature in features.values()):
            needed.append("video_path")
        for name in needed:
            if name not in info:
                raise Unreadable(file, f"no {name!r}")
        if not isinstance(info["fps"], int | float) or not info["fps"] > 0:
            raise Unreadable(file, f"fps is {info['fps']!r}, expected a positive number")
        return info

    @cached_property
    def stats(self) -> dict[str, dict[str, list[float]]]:
        """`meta/stats.json`."""
        return read_json(self.root / "meta/stats.json")

    @cached_property
    def tasks(self) -> dict[int, str]:
        """Instructions by task index."""
        file = self.root / "meta/tasks.parquet"
        table = self._parquet(file).to_pandas()
        if "task_index" not in table:
            raise Unreadable(file, "no column 'task_index'")
        return {int(row["task_index"]): str(name) for name, row in table.iterrows()}

    @cached_property
    def episodes(self) -> Any:
        """The table of episodes, without their statistics (pandas)."""
        pandas: Any = need("pandas", extra="lerobot")
        files = sorted((self.root / "meta/episodes").rglob("*.parquet"))
        if not files:
            raise Unreadable(self.root / "meta/episodes", "no parquet file is there")
        tables = [self._parquet(file).to_pandas() for file in files]
        table = pandas.concat(tables, ignore_index=True)
        for name in _EPISODE_COLUMNS:
            if name not in table:
                raise Unreadable(files[0], f"no column {name!r}")
        if table.empty:
            raise Unreadable(files[0], "it lists no episode")
        return table[[name for name in table if not name.startswith("stats/")]]

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
            if features[name]["dtype"].startswith("float")
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
            return self.root / self.info[pattern].format(**numbers)
        except (KeyError, IndexError, ValueError) as error:  # of another version of the format
            info = self.root / "meta/info.json"
            raise Unreadable(info, f"{pattern} {self.info[pattern]!r} asks for {error}") from error

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All rows: numbers (N,) and vectors (N, D), in the order of the files."""
        files = dict.fromkeys(self.data_file(episode) for _, episode in self.episodes.iterrows())
        wanted = [*self.vectors, "timestamp", "frame_index", "episode_index", "index", "task_index"]
        parts = [self.columns_of(file, wanted) for file in files]
        for file, part in zip(files, parts, strict=True):
            for name in self.vectors:
                if part[name].shape[1:] != parts[0][name].shape[1:]:
                    before, width = parts[0][name].shape[1], part[name].shape[1]
                    raise Unreadable(file, f"{name} has rows of {width} numbers, not {before}")
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    def rows_of(self, episode: int) -> slice:
        """Where the rows of an episode are, by the table of episodes."""
        row = self.episodes.iloc[episode]
        return slice(int(row["dataset_from_index"]), int(row["dataset_to_index"]))

    def columns_of(self, file: Path, names: list[str]) -> dict[str, np.ndarray]:
        """Columns of one file: numbers (N,) and vectors (N, D)."""
        compute: Any = need("pyarrow.compute", extra="lerobot")
        table, columns = self._parquet(file, columns=names), {}
        for name in names:
            if name not in table.column_names:
                raise Unreadable(file, f"no column {name!r}")
            values = table[name]
            if hasattr(values.type, "value_type"):  # lists
                found = compute.unique(compute.list_value_length(values)).to_pylist()
                widths = sorted(width or 0 for width in found)
                if len(widths) > 1:
                    raise Unreadable(file, f"{name} has rows of {widths} numbers")
                columns[name] = compute.list_flatten(values).to_numpy().reshape(-1, *widths)
            else:
                columns[name] = values.to_numpy()
                if name in self.vectors:  # LeRobot writes vectors of one number without a list
                    columns[name] = columns[name][:, None]
        return columns

    def images_of(self, file: Path, view: str) -> dict[int, bytes]:
        """The encoded images of an image view in one file, by row of the dataset."""
        table = self._parquet(file, columns=["index", view])
        cells = [cell["bytes"] for cell in table[view].to_pylist()]
        return dict(zip(table["index"].to_pylist(), cells, strict=True))

    def _parquet(self, file: Path, *, columns: list[str] | None = None) -> Any:
        """A file's table, or those of the `columns` that it has."""
        parquet: Any = need("pyarrow.parquet", extra="lerobot")
        if not file.is_file():
            raise Unreadable(file, "is missing")
        try:
            return parquet.ParquetFile(file).read(columns=columns)
        except (OSError, ValueError) as error:  # pyarrow's own errors are both
            raise Unreadable(file, f"cannot be read ({error})") from error

    @cached_property
    def clips(self) -> list[Clip]:
        """All episodes of all views, every video file decoded once; those of missing files not."""
        by_file: dict[Path, list[Clip]] = {}
        for view in self.recorded_views:
            for number, row in self.episodes.iterrows():
                file = self.video_file(row, view)
                first = round(row[f"videos/{view}/from_timestamp"] * self.fps)
                length = int(row["length"])
                clip = Clip(view=view, episode=int(number), file=file, first=first, length=length)
                by_file.setdefault(file, []).append(clip)
        files = [file for file in by_file if file.is_file()]
        for file in tqdm(files, desc="decode", unit="file", leave=False):
            self._decode(file, sorted(by_file[file], key=lambda clip: clip.first))
        return [clip for file in files for clip in by_file[file]]

    def _decode(self, file: Path, clips: list[Clip]) -> None:
        av: Any = need("av", extra="lerobot")
        firsts, error = np.array([clip.first for clip in clips]), ""
        try:
            for frame in strict_frames(file):
                number = round(frame.time * self.fps)
                clip = clips[max(0, np.searchsorted(firsts, number, side="right") - 1)]
                inside = number - clip.first
                if not 0 <= inside < clip.length:
                    continue
                clip.late += abs(frame.time - number / self.fps) > 1e-4  # LeRobot's tolerance
                clip.size = (frame.height, frame.width)
                thumb = frame.reformat(width=THUMB, height=THUMB, format="rgb24").to_ndarray()
                grey = frame.reformat(width=_GREY, height=_GREY, format="gray").to_ndarray()
                clip.add(inside, thumb.astype(np.float64), grey.astype(np.float32))
        except (av.FFmpegError, IndexError) as failure:  # IndexError: no video stream
            error = str(failure)
        for clip in clips:
            if len(clip.seen) < clip.length:
                clip.error = error or "they are not in the file"
