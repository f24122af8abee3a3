"""Checks of a dataset's videos: do they decode, and do they show what the others show."""

from itertools import combinations

import numpy as np

from vp_agent.train.check_files import AGAIN, Found, leave_out
from vp_agent.train.dataset_files import Clip, DatasetFiles
from vp_agent.train.pictures import image_size

_STILL = 0.3  # grey levels that noise of the codec moves a thumbnail by
_LIKE, _MORE = 0.5, 0.2  # correlation with the other episodes' mean picture


def _frames(numbers: list[int]) -> str:
    first, last = min(numbers), max(numbers)
    return f"frame {first}" if first == last else f"{len(numbers)} frames in {first}..{last}"


def undecodable(files: DatasetFiles) -> Found:
    for clip in files.clips:
        missing = sorted(set(range(clip.length)) - clip.seen)
        if missing:
            what = f"{_frames(missing)} of {clip.length} cannot be decoded: {clip.error}"
            yield clip.name, what, f"{AGAIN}, or {leave_out(files, clip.episode)}"
        elif clip.late:
            what = f"{clip.late} frames are not at multiples of 1/{files.fps:g} s"
            yield clip.name, what, "encode the video again at the dataset's fps"


def resolution(files: DatasetFiles) -> Found:
    for clip in files.clips:
        said = image_size(files.info["features"][clip.view])[:2]
        if clip.seen and clip.size != said:
            what = f"height and width are {clip.size}, info.json says {said}"
            yield clip.name, what, "write all episodes in one size"


def brightness(files: DatasetFiles) -> Found:
    for clip in files.clips:
        for numbers, what in ((clip.dark, "black"), (clip.bright, "white"), (clip.flat, "grey")):
            if numbers:
                cause = "a covered or dead camera, or a renderer without a scene"
                what = f"{_frames(numbers)} {what} all over"
                yield clip.name, what, f"{cause}; {leave_out(files, clip.episode)}"


def frozen(files: DatasetFiles) -> Found:
    for clip in files.clips:
        actions = files.columns.get("action", np.zeros((1, 0)))[files.rows_of(clip.episode)]
        moving = len(actions) and np.ptp(actions, axis=0).any()
        if len(clip.seen) > 8 and clip.motion < _STILL and moving and not (clip.dark or clip.flat):
            what = "the picture stands still while actions change"
            yield clip.name, what, f"the camera hung; {leave_out(files, clip.episode)}"


def turned(files: DatasetFiles) -> Found:
    """Episodes that look more like the others when they are turned over."""
    for view in files.views:
        clips = [clip for clip in files.clips if clip.view == view and np.ptp(clip.mean)]
        if len(clips) < 3:  # nothing to compare with
            continue
        total = sum(clip.mean for clip in clips)
        for clip in clips:
            others = (total - clip.mean) / (len(clips) - 1)
            like = {
                how: np.corrcoef(picture.ravel(), others.ravel())[0, 1]
                for how, picture in (
                    ("as it is", clip.mean),
                    ("upside down", clip.mean[::-1]),
                    ("turned by 180 degrees", clip.mean[::-1, ::-1]),
                    ("mirrored", clip.mean[:, ::-1]),
                )
            }
            best, before = max(like, key=lambda how: like[how]), like["as it is"]
            if like[best] > max(_LIKE, before + _MORE):
                what = f"like the other episodes {best} ({like[best]:.2f}), not now ({before:.2f})"
                yield clip.name, what, f"turn its images, or {leave_out(files, clip.episode)}"


def same_pictures(files: DatasetFiles) -> Found:
    by_episode: dict[int, list[Clip]] = {}
    for clip in files.clips:
        if clip.seen:
            by_episode.setdefault(clip.episode, []).append(clip)
    for clips in by_episode.values():
        for one, two in combinations(clips, 2):
            if np.abs(one.mean - two.mean).max() < 1 and not (one.dark or one.flat):
                fix = "one camera was recorded under two names: record again, or remove a view"
                yield two.name, f"the same pictures as {one.view}", fix
