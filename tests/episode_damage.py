"""Damage of a LeRobot dataset that no table shows: shifted, swapped, reversed, frozen, grey."""

# T frames of an episode, H W height and width

import json
import shutil
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd

from vp_agent.train.dataset_files import DatasetFiles

Pictures = dict[str, dict[int, np.ndarray]]
"""Frames (T, H, W, 3) by view and episode."""


class Copy:
    """A copy of a dataset whose columns and pictures can be changed."""

    def __init__(self, clean: Path, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(clean, root)
        self.root, self.files = root, DatasetFiles(root)
        self.views: list[str] = self.files.recorded_views

    def column(self, name: str, change: Callable[[list[np.ndarray]], None]) -> None:
        """Changes a column in place, given as rows by episode, and its statistics."""
        values = self.files.columns[name]
        rows = [self.files.rows_of(e) for e in range(len(self.files.episodes))]
        parts = [values[r].copy() for r in rows]
        change(parts)
        changed, start = np.concatenate(parts), 0
        for file in sorted((self.root / "data").rglob("*.parquet")):
            table = pd.read_parquet(file)
            table[name] = list(changed[start : start + len(table)])
            start += len(table)
            table.to_parquet(file)
        stats = json.loads((self.root / "meta/stats.json").read_text())
        for key in ("min", "max", "mean", "std"):
            stats[name][key] = getattr(changed.astype(np.float64), key)(axis=0).tolist()
        (self.root / "meta/stats.json").write_text(json.dumps(stats))

    def drop_state(self) -> None:
        """Leaves the state out, as if none had been recorded."""
        for file in sorted((self.root / "data").rglob("*.parquet")):
            pd.read_parquet(file).drop(columns="observation.state").to_parquet(file)
        for name in ("info", "stats"):
            file = self.root / f"meta/{name}.json"
            values = json.loads(file.read_text())
            (values["features"] if name == "info" else values).pop("observation.state")
            file.write_text(json.dumps(values))
        self.files = DatasetFiles(self.root)

    def pictures(self, change: Callable[[Pictures], None]) -> None:
        """Changes the frames of episodes and encodes the files that they are in."""
        shown: Pictures = {view: {} for view in self.views}
        within: dict[Path, tuple[str, list[int]]] = {}
        for view in self.views:
            for number, row in self.files.episodes.iterrows():
                file = self.files.video_file(row, view)
                within.setdefault(file, (view, []))[1].append(number)
            for file, (of, episodes) in within.items():
                if of == view:
                    with av.open(str(file)) as video:
                        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
                    ends = np.cumsum([int(self.files.episodes.iloc[e]["length"]) for e in episodes])
                    parts = np.split(np.stack(frames), ends[:-1])
                    shown[view] |= dict(zip(episodes, parts, strict=True))
        before = {view: dict(of) for view, of in shown.items()}
        change(shown)
        for file, (view, episodes) in within.items():
            if any(shown[view][e] is not before[view][e] for e in episodes):
                encode(file, np.concatenate([shown[view][e] for e in episodes]), self.files.fps)


def encode(file: Path, frames: np.ndarray, fps: float) -> None:
    """Writes a video as `collect` does."""
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": "10", "g": "2"}
        )
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def late(values: np.ndarray, steps: int) -> np.ndarray:
    """Rows `steps` later; the ends are repeated."""
    return values[np.clip(np.arange(len(values)) - steps, 0, len(values) - 1)]


def fitted(values: np.ndarray, length: int) -> np.ndarray:
    """Rows cut, or the last repeated, to a length."""
    return values[np.clip(np.arange(length), 0, len(values) - 1)]


def swap(values: Any, episodes: Iterable[int]) -> None:
    """Exchanges the rows of neighbours in `episodes`."""
    chosen = list(episodes)
    for one, two in zip(chosen[::2], chosen[1::2], strict=True):
        a, b = values[one], values[two]
        values[one], values[two] = fitted(b, len(a)), fitted(a, len(b))


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, Iterable[int]], None]:
    """A change of the rows of every chosen episode."""

    def of(values: Any, episodes: Iterable[int]) -> None:
        for e in episodes:
            values[e] = change(values[e])

    return of


def still(frames: np.ndarray, count: int) -> np.ndarray:
    """The camera hangs for `count` frames from a quarter on."""
    start = len(frames) // 4
    places = np.arange(len(frames))
    places[start : start + count] = start
    return frames[places]


def grey(frames: np.ndarray) -> np.ndarray:
    """Without colour."""
    level = frames @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.rint(level)[..., None], 3, axis=-1).astype(np.uint8)


def exchange_views(shown: Pictures, episodes: Iterable[int]) -> None:
    """The first two views under each other's name."""
    one, two = list(shown)[:2]
    for e in episodes:
        shown[one][e], shown[two][e] = shown[two][e], shown[one][e]


NO_STATE = " (no state)"
Rows = Callable[[Any, Iterable[int]], None]
# name: what is changed, how, and whether in all episodes
ACTIONS: dict[str, tuple[Rows, bool]] = {
    "actions 1 step late": (each(lambda a: late(a, 1)), False),
    "actions 3 steps late": (each(lambda a: late(a, 3)), False),
    "actions 6 steps late": (each(lambda a: late(a, 6)), False),
    "actions 1 step early": (each(lambda a: late(a, -1)), False),
    "actions of two episodes swapped": (swap, False),
    "all actions 1 step late": (each(lambda a: late(a, 1)), True),
    "all actions 3 steps late": (each(lambda a: late(a, 3)), True),
    "all actions 1 step early": (each(lambda a: late(a, -1)), True),
    "all actions 3 steps early": (each(lambda a: late(a, -3)), True),
}
PICTURES: dict[str, Rows] = {
    "clips of two episodes swapped": swap,
    "clip reversed": each(lambda f: f[::-1]),
    "clip 2 frames late": each(lambda f: late(f, 2)),
    "clip 5 frames late": each(lambda f: late(f, 5)),
    "5 frames frozen": each(lambda f: still(f, 6)),
    "10 frames frozen": each(lambda f: still(f, 11)),
    "BGR": each(lambda f: f[..., ::-1]),
    "grey": each(grey),
}


def damage(copy: Copy, name: str, episodes: list[int]) -> None:
    """Does what `name` says to `episodes`, or to all if it says so; clips are of the last view."""
    if name.endswith(NO_STATE):
        copy.drop_state()
        name = name.removesuffix(NO_STATE)
    if name in ACTIONS:
        change, everywhere = ACTIONS[name]
        which = range(len(copy.files.episodes)) if everywhere else episodes
        copy.column("action", lambda parts: change(parts, which))
    elif name == "views exchanged":
        copy.pictures(lambda shown: exchange_views(shown, episodes))
    elif name in PICTURES:
        copy.pictures(lambda shown: PICTURES[name](shown[copy.views[-1]], episodes))
    elif name != "nothing":
        raise KeyError(name)
