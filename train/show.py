"""`vp-agent data show`: a picture of what a dataset shows and says."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from vp_agent.errors import DatasetError, OutputExistsError, require
from vp_agent.train.clips import IMAGES
from vp_agent.train.dataset_files import DatasetFiles
from vp_agent.train.gate import open_dataset
from vp_agent.train.pictures import ViewFrames, is_depth

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
    require(folder.is_dir(), f"there is no folder {folder} for the picture; mkdir -p {folder}")
    files = open_dataset(settings.root)
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
    length = len(rows)
    wanted = [0, length // 2, length - 1]
    shown = [*files.recorded_views, *files.image_views]
    shown = [view for view in shown if not is_depth(files.info["features"][view])]
    if not shown:
        raise DatasetError(f"{files.root} has no images to show; its numbers: vp-agent data stats")
    frames = {view: ViewFrames(files, view)(rows[wanted]) for view in shown}
    views = {view: list(pixels.transpose(0, 2, 3, 1)) for view, pixels in frames.items()}
    heights = [round(width * pixels[0].shape[0] / pixels[0].shape[1]) for pixels in views.values()]
    strip = len(wanted) * width + _GAP
    picture = Image.new(
        "RGB", (strip * len(views) + _GAP, max(heights) + 2 * _TEXT + 2 * _GAP), "white"
    )
    draw = ImageDraw.Draw(picture)
    instruction = files.tasks[int(files.columns["task_index"][rows[0]])]
    draw.text((_GAP, _GAP), f"episode {episode}, {length} frames: {instruction}", fill="black")
    for v, ((view, pixels), height) in enumerate(zip(views.items(), heights, strict=True)):
        left, top = _GAP + v * strip, _GAP + 2 * _TEXT
        label = f"{view.removeprefix(IMAGES)}: frames {', '.join(map(str, wanted))}"
        draw.text((left, _GAP + _TEXT), label, fill="gray")
        for i, frame in enumerate(pixels):
            picture.paste(Image.fromarray(frame).resize((width, height)), (left + i * width, top))
    return picture
