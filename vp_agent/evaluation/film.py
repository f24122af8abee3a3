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

    def __init__(
        self, path: Path, *, fps: float, pix_fmt: str = "yuv420p", quality: int = 20
    ) -> None:
        """Opens the file.

        Args:
            path: Where it will appear.
            fps: Frames per second.
            pix_fmt: yuv420p is the one format that every browser plays; yuv444p keeps all colours.
            quality: H.264's constant rate factor, lower is better and larger.
        """
        self.path = path
        self.fps = Fraction(fps).limit_denominator(1000)  # 20/3 as a float is no short fraction
        self.pix_fmt = pix_fmt
        self.quality = quality
        self._target = Path(os.path.realpath(path))  # of a link, what it points to is written
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._target.with_name(f".{path.name}.partial")
        self._container = av.open(str(self._partial), "w", format="mp4")
        self._stream: av.VideoStream | None = None

    def add(self, image: np.ndarray) -> None:
        """Appends one frame, uint8 (H, W, 3); all have the size of the first."""
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))  # yuv420p: even sides
        if self._stream is None:
            self._stream = self._container.add_stream("h264", rate=self.fps)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = self.pix_fmt
            self._stream.options = {"crf": str(self.quality), "preset": "veryfast"}
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))

    def __enter__(self) -> "Film":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                os.replace(self._partial, self._target)
        finally:
            self._partial.unlink(missing_ok=True)


def compose(*rows: tuple[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """One film frame: rows of views side by side, under a caption each."""
    return np.concatenate([_row(caption, views) for caption, views in rows])


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
