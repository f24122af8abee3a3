"""Recordings of a dataset by episode: the robot's states, and the clips of every view."""

# T steps, D numbers of a state

from collections.abc import Mapping

import numpy as np

from vp_agent.train.clips import IMAGES, Clip
from vp_agent.train.dataset_files import DatasetFiles

Recording = Mapping[int, np.ndarray]
"""Rows (T, ...) by episode."""


def robot_states(files: DatasetFiles) -> Recording:
    """What the robot measures of itself, by episode."""
    return recordings(files, [name for name in files.vectors if name.startswith("observation")])


def recordings(files: DatasetFiles, names: list[str]) -> Recording:
    """Vectors side by side (T, D), by episode; episodes that are not finite are left out."""
    names = [name for name in names if name in files.vectors]
    if not names:
        return {}
    values = np.concatenate([files.columns[name] for name in names], axis=1).astype(np.float64)
    parts = {e: values[files.rows_of(e)] for e in files.episodes.index.tolist()}
    return {e: part for e, part in parts.items() if len(part) and np.isfinite(part).all()}


def whole_clips(files: DatasetFiles) -> dict[str, dict[int, Clip]]:
    """The clips of every view, by episode, of which each frame was decoded."""
    views: dict[str, dict[int, Clip]] = {}
    for clip in files.clips:
        if len(clip.seen) == clip.length:
            views.setdefault(clip.view.removeprefix(IMAGES), {})[clip.episode] = clip
    return views


def scaled(recording: Recording) -> Recording:
    """Numbers that vary, each to mean 0 and deviation 1, without wild ones: angles may jump."""
    stacked = np.concatenate(list(recording.values()))
    middle = np.median(stacked, axis=0)
    reach = 2 * np.quantile(np.abs(stacked - middle), 0.98, axis=0)
    stacked = np.clip(stacked, middle - reach, middle + reach)
    mean, deviation = stacked.mean(axis=0), stacked.std(axis=0)
    moves = deviation > 1e-6
    return {
        e: ((np.clip(values, middle - reach, middle + reach) - mean)[:, moves] / deviation[moves])
        for e, values in recording.items()
    }
