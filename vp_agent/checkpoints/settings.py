"""Settings of `vp-agent convert`: one frozen dataclass, no heavy import."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """Turns a released checkpoint (.ckpt of stage 1, stage 2 or joint) into an agent folder."""

    checkpoint: tyro.conf.Positional[Path]
    """The .ckpt file."""
    out: Path
    """Agent folder to write; must not exist."""
    action_stats: Path | None = None
    """Range of the actions it was trained on, which the file does not hold: a LeRobot dataset
    folder, or a JSON file {"min": [...], "max": [...]}."""
    preset: str = "svd-robocasa"
    """Configuration of the checkpoint (see vp_agent.presets)."""
    seed: int = 0
    """Of the fresh action head that a stage-1 checkpoint is given."""
