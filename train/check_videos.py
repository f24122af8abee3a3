"""Checks of a dataset's videos: do they decode, and do they show what the others show."""

from itertools import combinations

import numpy as np

from vp_agent.train.check_files import AGAIN, Found, leave_out
from vp_agent.train.clips import Clip
from vp_agent.train.dataset_files import DatasetFiles
from vp_agent.train.pictures import image_size
from vp_agent.train.recordings import robot_states, scaled, whole_clips

_STILL = 0.3  # grey levels that noise of the codec moves a thumbnail by
_LIKE, _MORE = 0.5, 0.2  # correlation with the other episodes' mean picture
_HUNG = 4  # changes from picture to picture in a row: 5 alike
_STAYS = 0.15, 0.03  # each of them, and their mean, by that of a moving arm in this view
_JUMP = 2.0  # the change after them, by the same: the arm has gone on meanwhile
_FEW = 3  # clips of a view: fewer cannot tell which of them is wrong
_COLOURED = 1.5  # grey levels between channels, where a view has colours at all
_PALE = 0.15  # of the colour of the other episodes
_NEARER = 1.5  # times nearer to the other episodes


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


def hung(files: DatasetFiles) -> Found:
    """Stretches of the same picture while the state moves, though such motion shows elsewhere."""
    states = robot_states(files)  # actions without one: an arm that is told to move may stand still
    moves = {e: np.diff(s, axis=0) for e, s in scaled(states).items()} if states else {}
    for clips in whole_clips(files).values():
        both = [e for e in clips if e in moves and len(moves[e]) == clips[e].length - 1 > 0]
        if not both:
            continue
        speed = {e: np.linalg.norm(moves[e], axis=1) for e in both}
        usual = np.median(np.concatenate(list(speed.values())))
        change = {e: clips[e].change[1:] for e in both}
        seen = np.concatenate([change[e][speed[e] > usual] for e in both])
        level = float(np.median(seen)) if len(seen) else 0.0
        if level < _STILL:  # the arm is hardly to be seen
            continue
        for e in both:
            for start, end in _runs(change[e] < _STAYS[0] * level):
                gone = float(speed[e][start:end].sum())
                after = change[e][end] if end < len(change[e]) else np.inf
                mean = float(change[e][start:end].mean())
                if (
                    end - start >= _HUNG
                    and mean < _STAYS[1] * level
                    and gone > (end - start) * usual / 2
                    and after > _JUMP * level
                ):
                    what = (
                        f"frames {start}..{end} stand still while the state moves: the picture "
                        f"changes by {mean:.2f} grey levels a step, {level:.2f} as the arm moves "
                        f"elsewhere; {end - start + 1} frames alike"
                    )
                    yield clips[e].name, what, f"the camera hung; {leave_out(files, e)}"


def _runs(holds: np.ndarray) -> list[tuple[int, int]]:
    """Where a condition (T,) holds: starts and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], holds.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def colours(files: DatasetFiles) -> Found:
    """Episodes without colour, or with red and blue exchanged, among others."""
    for clips in whole_clips(files).values():
        if len(clips) < _FEW:
            continue
        tints = {e: clip.mean - clip.mean.mean(axis=2, keepdims=True) for e, clip in clips.items()}
        usual = np.median(np.stack(list(tints.values())), axis=0)
        level = float(np.median([np.abs(tint).mean() for tint in tints.values()]))
        if level < _COLOURED / 2:
            continue
        for e, tint in tints.items():
            now, exchanged = (np.abs(t - usual).mean() for t in (tint, tint[..., ::-1]))
            if np.abs(tint).mean() < _PALE * level:
                what = (
                    f"without colour: the channels differ by {np.abs(tint).mean():.1f} grey levels,"
                    f" by {level:.1f} in the other episodes"
                )
                yield clips[e].name, what, f"a grey camera; {leave_out(files, e)}"
            elif now > _NEARER * exchanged:
                what = (
                    f"red and blue are exchanged (BGR): so they are {now / exchanged:.1f} times "
                    f"nearer to the other episodes' colours"
                )
                yield clips[e].name, what, f"exchange them, or {leave_out(files, e)}"


def exchanged_views(files: DatasetFiles) -> Found:
    """Episodes in which two views stand under each other's name."""
    views = whole_clips(files)
    usual = {
        view: np.median([clip.mean for clip in clips.values()], axis=0)
        for view, clips in views.items()
        if len(clips) >= _FEW
    }
    for one, two in combinations(usual, 2):
        for e in sorted(views[one].keys() & views[two].keys()):
            a, b = views[one][e].mean, views[two][e].mean
            now = np.abs(a - usual[one]).mean() + np.abs(b - usual[two]).mean()
            exchanged = np.abs(a - usual[two]).mean() + np.abs(b - usual[one]).mean()
            if now > _NEARER * exchanged:
                what = (
                    f"views {one} and {two} are exchanged: so they are {now / exchanged:.1f} times "
                    f"nearer to the other episodes' pictures"
                )
                yield views[one][e].name, what, f"exchange them, or {leave_out(files, e)}"


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
