"""Films of an episode: what the cameras saw above, what the agent imagined below, in step."""

import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TILE_PX = 240  # small views are enlarged by a whole factor to at least about this height
_BAR_PX = 26
_BACKGROUND = (24, 26, 31)
_TEXT = (222, 226, 233)


class Film:
    """An H.264 file that appears under its name only when it is complete."""

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path = path
        self.fps = fps
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = path.with_name(f".{path.name}.partial")
        self._container = av.open(str(self._partial), "w", format="mp4")
        self._stream: av.VideoStream | None = None

    def add(self, image: np.ndarray) -> None:
        """Appends one frame, uint8 (H, W, 3); all have the size of the first."""
        if self._stream is None:
            self._stream = self._container.add_stream("h264", rate=Fraction(self.fps))
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"  # the one format that every browser plays
            self._stream.options = {"crf": "20", "preset": "veryfast"}
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))

    def __enter__(self) -> "Film":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)


def compose(
    executed: Mapping[str, np.ndarray],
    imagined: Mapping[str, np.ndarray],
    *,
    captions: tuple[str, str],
) -> np.ndarray:
    """One film frame: a row of executed views, a row of imagined views, a caption above each."""
    rows = [
        _row(caption, views) for caption, views in zip(captions, (executed, imagined), strict=True)
    ]
    frame = np.concatenate(rows)
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))  # yuv420p needs even sides


def imagined_frame(*, step: int, plan_step: int, stride: int, frames: int) -> int:
    """Which imagined frame shows control step `step` of a plan made at `plan_step`."""
    return min((step - plan_step) // stride, frames - 1)


def _row(caption: str, views: Mapping[str, np.ndarray]) -> np.ndarray:
    tiles = [_enlarged(image) for image in views.values()]
    width = sum(tile.shape[1] for tile in tiles)
    bar = Image.new("RGB", (width, _BAR_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(bar), ImageFont.load_default(14)
    left = 0
    for number, (view, tile) in enumerate(zip(views, tiles, strict=True)):
        text = f"{caption} | {view}" if number == 0 else view
        draw.text((left + 8, 4), text, fill=_TEXT, font=font)
        left += tile.shape[1]
    return np.concatenate([np.asarray(bar), np.concatenate(tiles, axis=1)])


def _enlarged(image: np.ndarray) -> np.ndarray:
    factor = max(1, round(_TILE_PX / image.shape[0]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
