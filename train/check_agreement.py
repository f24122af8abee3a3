"""Do actions, states and pictures belong together? Shifted, swapped, reversed, and how surely."""

# T steps, D numbers of a state, F features

import json

import numpy as np

from vp_agent.train.agreement import (
    Suspect,
    agreement,
    first_action_that_matters,
    of_neighbours,
    refined,
)
from vp_agent.train.check_files import Found, leave_out
from vp_agent.train.dataset_files import DatasetFiles
from vp_agent.train.recordings import Recording, recordings, robot_states, scaled, whole_clips

_FEW, _MANY = 5, 8  # episodes: fewer cannot tell which of them is wrong; or that all are
_SHIFTS_S = 0.5  # shifts that are tried
_TAPS = 5  # actions that a motion is predicted from
_DELAY_S = (
    0.1  # a real arm may begin to move so late after its action; a simulated one does at once
)
_MATTERS = 1.5  # see first_action_that_matters
_BETTER_OFF = 1.5  # how many times less the neighbours' must leave unexplained
_COMPONENTS, _ROWS = 128, 12  # of the thumbnails of a view, and frames for each, at least


def actions_and_states(files: DatasetFiles) -> Found:
    """Actions that belong to other steps, or to other episodes, than their states."""
    yield from _actions(files, robot_states(files), "the state's motion")


def actions_and_pictures(files: DatasetFiles) -> Found:
    """The same by the pictures, where a dataset has no state."""
    actions = recordings(files, ["action"]) if not robot_states(files) else {}
    if actions:
        yield from _pictures(files, actions, "the actions")


def pictures_and_states(files: DatasetFiles) -> Found:
    """Clips that show other steps or another episode than their states, or run backwards."""
    yield from _pictures(files, robot_states(files), "the state")


def _pictures(files: DatasetFiles, truth: Recording, name: str) -> Found:
    shifts = round(_SHIFTS_S * files.fps)
    for view, clips in whole_clips(files).items():
        both = [e for e in clips if e in truth and len(truth[e]) == clips[e].length > 1]
        if len(both) < _FEW:
            continue
        thumbs = {e: clips[e].small.reshape(clips[e].length, -1) for e in both}
        count = min(_COMPONENTS, sum(map(len, thumbs.values())) // _ROWS)
        shown = _components(thumbs, count)
        if name == "the actions":  # which may be the way to go
            shown = {e: np.concatenate([x, _to_next(x)], axis=1) for e, x in shown.items()}
        wanted = scaled({e: truth[e] for e in both})
        off, then, now = of_neighbours(shown, wanted)
        if off and len(both) >= _MANY and then < now / _BETTER_OFF:
            yield _all_off(files, f"pictures of {view}", name, (off, then, now))
            continue
        found = refined(shown, wanted, shifts=shifts, turned=True)
        for suspect in found.suspects(shifts=shifts, turned=True):
            what = "its pictures " + _explanation(suspect, "show", name)
            yield clips[suspect.episode].name, what, leave_out(files, suspect.episode)


def _to_next(values: np.ndarray) -> np.ndarray:
    """Differences to the next row (T, F); there is none after the last."""
    return np.diff(values, axis=0, append=values[-1:])


def _actions(files: DatasetFiles, states: Recording, motion: str) -> Found:
    if "action" not in files.vectors:
        return
    actions = {e: files.columns["action"][files.rows_of(e)].astype(np.float64) for e in states}
    kept = [
        e
        for e, a in actions.items()
        if len(a) == len(states[e]) > 3 * _TAPS and np.isfinite(a).all()
    ]
    if len(kept) < _FEW:
        return
    actions = {e: actions[e] for e in kept}
    motions = scaled({e: np.diff(states[e], axis=0) for e in kept})
    shifts = round(_SHIFTS_S * files.fps)
    first, matters = first_action_that_matters(actions, motions, reach=shifts)
    simulated, exact = _origin(files)
    latest = 0 if simulated else int(_DELAY_S * files.fps)
    expected = min(max(first, 0), latest)
    if matters > _MATTERS and not -(not exact) <= first <= latest:
        yield _all_shifted(files, actions, motions, (first, expected), motion)
        return
    taps = _taps(actions, expected)
    off, then, now = of_neighbours(taps, motions)
    if off and len(kept) >= _MANY and then < now / _BETTER_OFF:
        yield _all_off(files, "actions", motion, (off, then, now))
        return
    found = refined(taps, motions, shifts=shifts, turned=False)
    for suspect in found.suspects(shifts=shifts, turned=False):
        what = "its actions " + _explanation(suspect, "fit", motion)
        where = f"{files.data_file(files.episode(suspect.episode))}, episode "
        yield where + str(suspect.episode), what, leave_out(files, suspect.episode)


def _all_shifted(
    files: DatasetFiles,
    actions: Recording,
    motions: Recording,
    lags: tuple[int, int],
    motion: str,
) -> tuple[str, str, str]:
    lag, expected = lags
    as_found, as_expected = (agreement(_taps(actions, first), motions) for first in lags)
    errors = [
        [((fit.predicted[e] - motions[e])[:, as_found.usable] ** 2) for e in motions]
        for fit in (as_found, as_expected)
    ]
    wins = sum(np.nanmean(a) < np.nanmean(b) for a, b in zip(*errors, strict=True))
    found, before = (fit.mean_fit(as_found.usable) for fit in (as_found, as_expected))
    steps, when = abs(lag - expected), "late" if lag < expected else "early"
    counted = f"{steps}" if _origin(files)[1] or lag > 0 else f"{steps - 1} or {steps}"
    what = (
        f"all actions come {counted} step{'s'[: steps > 1]} too {when}: "
        f"lag {lag:+d} explains {motion} better than lag {expected:+d} in {wins} of {len(motions)} "
        f"episodes; correlation {found:.2f} against {before:.2f}"
    )
    return str(files.root / "data"), what, "shift them back where they are recorded or converted"


def _all_off(
    files: DatasetFiles, what: str, of: str, found: tuple[int, float, float]
) -> tuple[str, str, str]:
    off, then, now = found
    said = (
        f"the {what} of all episodes are those of the {'next' if off < 0 else 'previous'} episode: "
        f"so they leave {100 * then:.0f} % of {of} unexplained, as they are {100 * now:.0f} %"
    )
    return str(files.root), said, "write the dataset again"


def _explanation(suspect: Suspect, fits: str, what: str) -> str:
    """What is wrong with an episode, and how sure that is."""
    steps = abs(suspect.shift)
    if suspect.other is not None:
        how = f"{fits} {what} of episode {suspect.other}"
    elif suspect.reversed:
        how = f"run backwards: reversed they {fits} {what}"
    else:
        late = "late" if suspect.shift > 0 else "early"
        how = f"come {steps} step{'s'[: steps > 1]} too {late}: shifted they {fits} {what}"
    own, best = suspect.fit
    return (
        f"{how} with correlation {best:.2f}, as they are with {own:.2f}; the error is "
        f"{suspect.better:.1f} times that of other episodes, as they are {suspect.error:.1f} times"
    )


def _origin(files: DatasetFiles) -> tuple[bool, bool]:
    """Whether a simulator made it, whose arm moves in the step of its action; and undisturbed.

    Who corrects a disturbance tells of it by the action of the next step: then a shift by one step
    and a correction look alike, and only from two steps on is a shift reported.
    """
    try:
        notes = json.loads((files.root / "meta/vp_agent.json").read_text())
    except (OSError, ValueError):
        notes = {}
    action = files.info["features"]["action"].get("info") or {}
    simulated = bool(notes.get("env")) or "controller" in str(action.get("vp_agent"))
    return simulated, simulated and notes.get("noise") == 0


def _components(thumbs: Recording, count: int) -> Recording:
    """The first principal components (T, count) of pictures (T, F)."""
    if not thumbs:
        return {}
    mean = sum(t.sum(axis=0, dtype=np.float64) for t in thumbs.values())
    mean = mean / sum(map(len, thumbs.values()))
    centred = {e: t.astype(np.float64) - mean for e, t in thumbs.items()}
    _, vectors = np.linalg.eigh(sum(x.T @ x for x in centred.values()))
    return {e: x @ vectors[:, -count:] for e, x in centred.items()}


def _taps(actions: Recording, first: int) -> Recording:
    """The actions a[t - first] ... a[t - first - 4] (T - 1, F); NaN where there is none."""
    found = {}
    for episode, a in actions.items():
        steps = np.arange(len(a) - 1)[:, None] - first - np.arange(_TAPS)
        inside = (steps >= 0) & (steps < len(a))
        rows = np.where(inside[..., None], a[np.clip(steps, 0, len(a) - 1)], np.nan)
        found[episode] = rows.reshape(len(steps), -1)
    return found
