"""Pictures of a dataset as RGB: video frames, stored images (grey, palette), headers of videos.

What is not 8-bit RGB is converted without losing a bit, or refused by name: transparency that
shows something, 16 bits, depth.
"""

# T frames, H W height/width, C channels

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vp_agent.errors import DatasetError, need
from vp_agent.train.dataset_files import DatasetFiles, Unreadable
from vp_agent.train.video_decoder import video_backend

_TOLERANCE_S = 1e-4  # LeRobot's own, between the time asked for and a frame's
_CHANNELS = ("channels", "channel", "c")
# Pillow's modes that hold no more than RGB in 8 bits; those with an A, transparency besides.
_WHOLE = ("RGB", "L", "1", "P", "RGBA", "LA", "PA")


def image_size(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """Height, width and channels of an image feature, whichever order its shape has."""
    shape, names = tuple(feature["shape"]), feature.get("names")
    if len(shape) != 3:
        raise DatasetError(f"an image has shape {shape}, expected height, width and channels")
    named = [str(name).lower() in _CHANNELS for name in names] if isinstance(names, list) else []
    said = len(named) == 3 and named[0] != named[2]  # else the names say nothing of the channels
    first = named[0] if said else shape[2] > 4 >= shape[0]
    return (shape[1], shape[2], shape[0]) if first else shape


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether LeRobot marks the feature as a depth map."""
    info = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))


@dataclass(frozen=True, kw_only=True)
class VideoHeader:
    """What a video file says of itself, read without decoding."""

    frames: int  # 0: it does not say
    first_s: float
    last_s: float  # when its last whole frame is shown
    size: tuple[int, int]
    pixels: str
    """FFmpeg's name of the pixel format."""


def read_header(file: Path) -> VideoHeader:
    """Opens a video and reads its last packets, or it is `Unreadable`; 0.6 ms."""
    av: Any = need("av", extra="lerobot")
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            unit, last = stream.time_base, None
            container.seek(stream.duration or 0, stream=stream)
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise Unreadable(file, "it was cut short")
                if packet.pts is not None:
                    last = packet.pts if last is None else max(packet.pts, last)
            if last is None:
                raise Unreadable(file, "it was cut short")
            return VideoHeader(
                frames=stream.frames,
                first_s=float((stream.start_time or 0) * unit),
                last_s=float(last * unit),
                size=(stream.height, stream.width),
                pixels=str(stream.pix_fmt),
            )
    except (OSError, av.FFmpegError) as error:
        raise Unreadable(file, f"cannot be read ({error})") from error
    except IndexError:
        raise Unreadable(file, "it holds no video") from None


def open_picture(content: bytes | None) -> Image.Image:
    """A stored image, not yet decoded; a `ValueError` says why it cannot be RGB."""
    if content is None:
        raise ValueError("the picture is not in the table, only its path")
    try:
        image = Image.open(BytesIO(content))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is no picture ({error})") from error
    # Pillow reads RGB of 16 bits as if it were of 8: only how the bytes lie tells.
    if image.mode not in _WHOLE or any(";16" in str(tile) for tile in image.tile):
        kind = image.mode if image.mode not in _WHOLE else f"{image.mode} of 16 bits"
        raise ValueError(f"a picture of kind {kind} cannot become RGB of 8 bits unchanged")
    return image


def to_rgb(content: bytes | None) -> np.ndarray:
    """A stored image as uint8 (H, W, 3), or a `ValueError`."""
    image = open_picture(content)
    try:
        if image.mode == "RGB" and "transparency" not in image.info:
            return np.asarray(image)
        rgba = np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError) as error:  # SyntaxError: what Pillow calls a broken PNG
        raise ValueError(f"it is damaged ({error})") from error
    if (rgba[..., 3] != 255).any():
        raise ValueError("it is transparent in places, and what lies behind it is not known")
    return rgba[..., :3]


class ViewFrames:
    """Frames of one view by the rows of the dataset, each of the episode and time its row says."""

    def __init__(self, files: DatasetFiles, view: str) -> None:
        self.files, self.view = files, view
        self.is_video = files.info["features"][view]["dtype"] == "video"

    def __call__(self, rows_T: np.ndarray) -> np.ndarray:
        """The frames of these rows, uint8 (T, 3, H, W).

        Raises:
            DatasetError: one cannot be decoded; its file is named.
        """
        columns, found = self.files.columns, {}
        wanted = np.unique(rows_T)
        episodes = columns["episode_index"][wanted]
        for episode in np.unique(episodes):
            rows = wanted[episodes == episode]
            try:
                pictures = (self._of_video if self.is_video else self._stored)(int(episode), rows)
            except Exception as error:  # PyAV's, datasets' and LeRobot's errors share no root
                file = self._file(int(episode))
                raise DatasetError(
                    f"{self.files.root}: frame {rows[0]} (episode {episode}, in "
                    f"{file.relative_to(self.files.root)}) cannot be decoded: {error}; copy the "
                    f"dataset again; what else is damaged: vp-agent data check {self.files.root}"
                ) from error
            found |= dict(zip(rows.tolist(), pictures, strict=True))
        return np.stack([found[row] for row in rows_T.tolist()])

    def _file(self, episode: int) -> Path:
        if self.is_video:
            return self._clips[episode][0]
        row = self.files.episode(episode)
        return self.files.data_file(row)

    @cached_property
    def _clips(self) -> dict[int, tuple[Path, float]]:
        """Of every episode the file and when it begins there."""
        numbers = self.files.episodes["episode_index"].tolist()
        starts = self.files.episodes[f"videos/{self.view}/from_timestamp"].tolist()
        return {
            numbers[at]: (file, starts[at])
            for file, places in self.files.video_files(self.view).items()
            for at in places
        }

    def _of_video(self, episode: int, rows: np.ndarray) -> np.ndarray:
        videos: Any = need("lerobot.datasets.video_utils", extra="lerobot")
        file, start = self._clips[episode]
        steps = self.files.columns["frame_index"][rows].tolist()
        frames = videos.decode_video_frames(
            file,
            [start + step / self.files.fps for step in steps],
            _TOLERANCE_S,
            backend=self._backend,
            return_uint8=True,
        )
        return frames.numpy()

    @cached_property
    def _backend(self) -> str:
        return video_backend()

    def _stored(self, episode: int, rows: np.ndarray) -> np.ndarray:
        cells = self._table[rows.tolist()][self.view].to_pylist()
        return np.stack([to_rgb(cell["bytes"]).transpose(2, 0, 1) for cell in cells])

    @cached_property
    def _table(self) -> Any:
        """The column of images, mapped into memory."""
        datasets: Any = need("datasets", extra="lerobot")
        paths = [str(file) for file in self.files.data_files]
        table = datasets.Dataset.from_parquet(paths, columns=[self.view])
        return table.cast_column(self.view, datasets.Image(decode=False)).with_format("arrow")
