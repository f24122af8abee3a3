"""Checks of a dataset's pictures without decoding: clip bounds, video headers, stored images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vp_agent.errors import need
from vp_agent.train.check_files import AGAIN, TOLERANCE_S, Found
from vp_agent.train.clips import IMAGES
from vp_agent.train.dataset_files import DatasetFiles, Unreadable
from vp_agent.train.pictures import VideoHeader, image_size, is_depth, open_picture, read_header

# Half of what LeRobot allows between the time asked for and a frame's: within it the nearest frame
# is the right one, and a bound that drifts by more an episode is no rounding.
_CLOSE_S = TOLERANCE_S / 2


def clip_bounds(files: DatasetFiles) -> Found:
    """An episode's clip begins at a frame, is as long as its rows, and follows the one before."""
    where, table = str(files.root / "meta/episodes"), files.episodes
    numbers, lengths = (table[name].to_numpy() for name in ("episode_index", "length"))
    for view in files.recorded_views:
        start, stop = _bounds(files, view)
        files_before: dict[Path, int] = {}
        for file, places in files.video_files(view).items():
            for other, last in files_before.items():
                if numbers[places[0]] < last:
                    what = f"episode {numbers[places[0]]} comes after {last}, which is in {other}"
                    yield str(file), what, AGAIN
            files_before = {file: int(numbers[places[-1]])}
            begun = np.cumsum(lengths[places]) - lengths[places]
            first, last, length = start[places], stop[places], lengths[places]
            for wrong, said in (
                (
                    ~(np.abs(last - first - length / files.fps) <= _CLOSE_S),
                    "its clip lasts {0:.6f} s, its {2} frames {3:.6f} s",
                ),
                (
                    ~(np.abs(first - begun / files.fps) <= _CLOSE_S),
                    "its clip begins at {1:.6f} s, the one before ends at {4:.6f} s",
                ),
            ):
                for at in np.flatnonzero(wrong)[:1]:
                    what = said.format(
                        last[at] - first[at],
                        first[at],
                        length[at],
                        length[at] / files.fps,
                        begun[at] / files.fps,
                    )
                    more = f" ({wrong.sum()} episodes)" if wrong.sum() > 1 else ""
                    place = f"{where}, episode {numbers[places][at]}, view {_name(view)}"
                    yield place, f"{what}, in {file}{more}", AGAIN


def _name(view: str) -> str:
    return view.removeprefix(IMAGES)


def _bounds(files: DatasetFiles, view: str) -> tuple[np.ndarray, np.ndarray]:
    """When every episode's clip begins and ends in its file, float64; NaN is left as it is."""
    bounds = []
    for name in (f"videos/{view}/from_timestamp", f"videos/{view}/to_timestamp"):
        if name not in files.episodes:
            raise Unreadable(files.root / "meta/episodes", f"no column {name!r}")
        try:
            bounds.append(files.episodes[name].to_numpy(dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise Unreadable(files.root / "meta/episodes", f"{name}: {error}") from error
    return bounds[0], bounds[1]


def video_headers(files: DatasetFiles) -> Found:
    """What the videos say of themselves: as many frames as their episodes, in time and in size."""
    lengths = files.episodes["length"].to_numpy()
    for view in files.recorded_views:
        feature, paths = files.info["features"][view], files.video_files(view)
        with ThreadPoolExecutor(4) as pool:
            headers = list(pool.map(_header, paths))
        for (file, places), header in zip(paths.items(), headers, strict=True):
            if header is None:  # "missing file" says so
                continue
            if isinstance(header, Unreadable):
                yield str(file), header.reason, AGAIN
                continue
            frames = int(lengths[places].sum())
            for what in _contradictions(header, frames, files.fps, feature):
                yield str(file), what, AGAIN


def _header(file: Path) -> VideoHeader | Unreadable | None:
    try:
        return read_header(file) if file.is_file() else None
    except Unreadable as damage:
        return damage


def _contradictions(header: VideoHeader, frames: int, fps: float, feature: dict[str, Any]):
    if header.frames not in (0, frames):
        yield f"it has {header.frames} frames, its episodes {frames}"
    elif not abs(header.first_s) <= _CLOSE_S:
        yield f"its first frame is at {header.first_s:.6f} s, expected 0"
    elif not abs(header.last_s - (frames - 1) / fps) <= _CLOSE_S:
        yield (
            f"its last frame is at {header.last_s:.6f} s; the episodes' {frames} frames at "
            f"{fps:g} fps end at {(frames - 1) / fps:.6f} s"
        )
    if is_depth(feature):
        return
    if header.size != (size := image_size(feature)[:2]):
        yield f"height and width are {header.size}, info.json says {size}"
    if header.pixels.startswith("gray") and header.pixels != "gray":
        yield f"it is of kind {header.pixels}, which RGB of 8 bits cannot hold"


def first_picture(file: Path, view: str) -> bytes | None:
    """The first stored image of a view in a data file, encoded as it is."""
    parquet: Any = need("pyarrow.parquet", extra="lerobot")
    try:
        batches = parquet.ParquetFile(file).iter_batches(1, columns=[view])
        return next(iter(batches))[view][0].as_py()["bytes"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise Unreadable(file, f"the pictures of {_name(view)} cannot be read ({error})") from error


def stored_images(files: DatasetFiles) -> Found:
    """The first picture of every file is one that becomes RGB, in the size that is said."""
    for view in files.image_views:
        feature = files.info["features"][view]
        if is_depth(feature):
            continue
        for file in files.data_files:
            where = f"{file}, view {_name(view)}"
            content = first_picture(file, view)
            try:
                picture = open_picture(content)
            except ValueError as error:
                yield where, str(error), "write its pictures as RGB of 8 bits"
                continue
            have, said = (picture.height, picture.width), image_size(feature)[:2]
            if have != said:
                yield where, f"height and width are {have}, info.json says {said}", AGAIN
