"""`vp-agent data show`: a picture of what a dataset shows and says."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image, ImageDraw

from vp_agent.errors import ConfigError, DatasetError, OutputExistsError, need, require
from vp_agent.train.dataset_files import IMAGES, DatasetFiles

_GAP, _TEXT = 6, 16  # pixels


@dataclass(frozen=True, kw_only=True)
class ShowSettings:
    """Draws the first, middle and last frame of every view, episode by episode."""

    root: tyro.conf.Positional[Path]
    """Folder of the dataset."""
    out: Path
    """Picture to write, for example sheet.png; must not exist."""
    episodes: int = 12
    """Episodes to show, evenly spread over the dataset."""
    width: int = 128
    """Pixels a frame is drawn wide."""

    def __post_init__(self) -> None:
        require(self.episodes >= 1, f"--episodes must be at least 1, got {self.episodes}")
        require(self.width >= 16, f"--width must be at least 16, got {self.width}")
        known = Image.registered_extensions()
        require(
            self.out.suffix.lower() in known, f"--out {self.out} is no picture; such as sheet.png"
        )


def show(settings: ShowSettings) -> Path:
    """Writes the contact sheet; returns its path."""
    if settings.out.exists():
        raise OutputExistsError(f"{settings.out} exists already; give another --out or remove it")
    folder = settings.out.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} for the picture; mkdir -p {folder}")
    files = DatasetFiles(settings.root)
    count = len(files.episodes)
    chosen = np.unique(np.linspace(0, count - 1, min(settings.episodes, count)).round().astype(int))
    rows = [_episode(settings, files, int(episode)) for episode in chosen]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    sheet.save(settings.out)
    return settings.out


def _episode(settings: ShowSettings, files: DatasetFiles, episode: int) -> Image.Image:
    """A line of text and, view by view, three frames."""
    rows, width = files.rows_of(episode), settings.width
    length = rows.stop - rows.start
    wanted = [0, length // 2, length - 1]
    frames = dict.fromkeys(files.recorded_views, _frames) | dict.fromkeys(
        files.image_views, _stored
    )
    if not frames:
        raise DatasetError(f"{files.root} has no images to show; its numbers: vp-agent data stats")
    views = {view: load(files, view, episode, wanted) for view, load in frames.items()}
    heights = [round(width * pixels[0].shape[0] / pixels[0].shape[1]) for pixels in views.values()]
    strip = len(wanted) * width + _GAP
    picture = Image.new(
        "RGB", (strip * len(views) + _GAP, max(heights) + 2 * _TEXT + 2 * _GAP), "white"
    )
    draw = ImageDraw.Draw(picture)
    instruction = files.tasks.get(int(files.columns["task_index"][rows.start]), "(no instruction)")
    draw.text((_GAP, _GAP), f"episode {episode}, {length} frames: {instruction}", fill="black")
    for v, ((view, pixels), height) in enumerate(zip(views.items(), heights, strict=True)):
        left, top = _GAP + v * strip, _GAP + 2 * _TEXT
        label = f"{view.removeprefix(IMAGES)}: frames {', '.join(map(str, wanted))}"
        draw.text((left, _GAP + _TEXT), label, fill="gray")
        for i, frame in enumerate(pixels):
            picture.paste(Image.fromarray(frame).resize((width, height)), (left + i * width, top))
    return picture


def _frames(files: DatasetFiles, view: str, episode: int, wanted: list[int]) -> list[np.ndarray]:
    """Frames uint8 (H, W, 3), by LeRobot's decoder, so the picture is what training sees."""
    videos: Any = need("lerobot.datasets.video_utils", extra="lerobot")
    row = files.episodes.iloc[episode]
    start = float(row[f"videos/{view}/from_timestamp"])
    file = files.video_file(row, view)
    try:
        decoded = videos.decode_video_frames(
            file,
            [start + number / files.fps for number in wanted],
            1e-4,  # seconds, LeRobot's own tolerance
            backend="pyav",
            return_uint8=True,
        )
    except Exception as error:  # PyAV's errors and LeRobot's share no root
        raise DatasetError(
            f"{file}: the frames of episode {episode} cannot be decoded ({error}); what else is "
            f"damaged: vp-agent data check {files.root}"
        ) from error
    return list(decoded.permute(0, 2, 3, 1).numpy())


def _stored(files: DatasetFiles, view: str, episode: int, wanted: list[int]) -> list[np.ndarray]:
    """The same of a view that is kept as images among the numbers."""
    first = files.rows_of(episode).start
    cells = files.images_of(files.data_file(files.episodes.iloc[episode]), view)
    pictures = (Image.open(BytesIO(cells[first + number])) for number in wanted)
    return [np.asarray(picture.convert("RGB")) for picture in pictures]
