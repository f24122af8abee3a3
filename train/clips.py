"""Decoded video clips of a dataset: one episode of one view, with thumbnails and damage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vp_agent.errors import need

IMAGES = "observation.images."  # LeRobot's prefix of a view
THUMB = 16  # side of the thumbnails that frames are compared by
GREY = 64  # side of the grey pictures that motion is measured on


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


def decode(file: Path, clips: list[Clip], *, fps: float) -> None:
    """Decodes the video file of `clips`, ordered by first frame, and notes each frame in them."""
    av: Any = need("av", extra="lerobot")
    firsts, error = np.array([clip.first for clip in clips]), ""
    try:
        for frame in strict_frames(file):
            number = round(frame.time * fps)
            clip = clips[max(0, np.searchsorted(firsts, number, side="right") - 1)]
            inside = number - clip.first
            if not 0 <= inside < clip.length:
                continue
            clip.late += abs(frame.time - number / fps) > 1e-4  # LeRobot's tolerance
            clip.size = (frame.height, frame.width)
            thumb = frame.reformat(width=THUMB, height=THUMB, format="rgb24").to_ndarray()
            grey = frame.reformat(width=GREY, height=GREY, format="gray").to_ndarray()
            clip.add(inside, thumb.astype(np.float64), grey.astype(np.float32))
    except (av.FFmpegError, IndexError) as failure:  # IndexError: no video stream
        error = str(failure)
    for clip in clips:
        if len(clip.seen) < clip.length:
            clip.error = error or "they are not in the file"
