"""Checks of a dataset's numbers: actions, states, statistics, lengths."""

# N rows, D numbers of a vector

import hashlib

import numpy as np

from vp_agent.train.check_files import AGAIN, Found, edit, file_of_row, leave_out
from vp_agent.train.dataset_files import DatasetFiles, Unreadable, feature_names

ACTION = "action"
_WILD = 10  # times farther from the median than 99 % of the values
_SHORT = 0.2  # of the median length
_FLOAT32 = 1e-6  # rounding of a variance, relative to the largest square
_ROUNDING = 1e-3  # of the range, between LeRobot's statistics and ours


def number_names(files: DatasetFiles, feature: str) -> list[str]:
    """Names of a vector's numbers; their places where the dataset has no names."""
    names = feature_names(files.info["features"][feature])
    width = files.columns[feature].shape[1]
    return list(names) if len(names) == width else [str(i) for i in range(width)]


def _place(files: DatasetFiles, row: int) -> str:
    episode, frame = (int(files.columns[name][row]) for name in ("episode_index", "frame_index"))
    return f"{file_of_row(files, row)}, episode {episode}, frame {frame}"


def widths(files: DatasetFiles) -> Found:
    for feature in files.vectors:
        width, (said,) = files.columns[feature].shape[1], files.info["features"][feature]["shape"]
        if width != said:
            what = f"{feature} has rows of {width} numbers, meta/info.json says {said}"
            yield str(next(iter(files.data_files))), what, AGAIN


def finite(files: DatasetFiles) -> Found:
    for feature in files.vectors:
        with np.errstate(over="ignore"):  # a float64 that a float32 cannot hold
            bad = ~np.isfinite(files.columns[feature].astype(np.float32))
        if not bad.any():
            continue
        for episode in np.unique(files.columns["episode_index"][bad.any(axis=1)]).tolist():
            rows = files.rows_of(episode)
            row, number = np.argwhere(bad[rows])[0]
            name = number_names(files, feature)[number]
            what = f"{feature}.{name} is not finite ({bad[rows].sum()} values)"
            yield _place(files, int(rows[row])), what, leave_out(files, episode)


def constant(files: DatasetFiles) -> Found:
    values = files.columns.get(ACTION, np.zeros((1, 0)))
    for number in np.flatnonzero(np.ptp(values, axis=0) == 0):
        what = f"action.{number_names(files, ACTION)[number]} is {values[0, number]:g} in every row"
        fix = "it cannot be normalised: convert without it, or with demonstrations that use it"
        yield str(files.root / "data"), what, fix


def action_range(files: DatasetFiles) -> Found:
    values = files.columns.get(ACTION, np.zeros((1, 0)))
    for number, column in enumerate(np.nan_to_num(values, posinf=0, neginf=0).T):
        middle = np.median(column)
        away = np.abs(column - middle)
        reach, row = np.quantile(away, 0.99), int(away.argmax())
        if away[row] > _WILD * reach > 0:
            name = number_names(files, ACTION)[number]
            what = (
                f"action.{name} is {column[row]:g}; 99 % of its values lie "
                f"within {reach:g} of {middle:g}, and it would squeeze them when normalised"
            )
            episode = int(files.columns["episode_index"][row])
            yield _place(files, row), what, leave_out(files, episode)


def statistics(files: DatasetFiles) -> Found:
    where, fix = str(files.root / "meta/stats.json"), edit(files, "recompute_stats")
    try:
        stats = files.stats
    except Unreadable as damage:
        yield where, damage.reason, fix
        return
    for feature in files.vectors:
        if feature not in stats:
            yield where, f"{feature} has no statistics", fix
            continue
        values = files.columns[feature].astype(np.float64)  # float32 drifts over many rows
        with np.errstate(over="ignore", invalid="ignore"):  # what is endless differs below
            true = {
                "min": values.min(axis=0),
                "max": values.max(axis=0),
                "mean": values.mean(axis=0),
                "std": values.std(axis=0),
            }
            scale = np.maximum(np.nan_to_num(np.ptp(values, axis=0)), 1e-6)
            # LeRobot's variance is the mean square less the squared mean, in float32: what hardly
            # changes far from zero has a standard deviation of that rounding.
            blur = _FLOAT32 * np.nan_to_num(np.abs(values).max(axis=0)) ** 2
        for name, expected in true.items():
            try:
                said = np.asarray(stats[feature].get(name, []), np.float64)
            except (TypeError, ValueError, OverflowError):
                yield where, f"{feature}.{name} holds no numbers", fix
                continue
            if said.shape != expected.shape:
                yield where, f"{feature}.{name} has shape {said.shape}, not {expected.shape}", fix
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                close = np.abs(said - expected) <= _ROUNDING * scale
                if name == "std":
                    close |= np.abs(said**2 - expected**2) <= blur
            wrong = np.flatnonzero(~close)
            for number in wrong[:1]:
                which = f"{feature}.{number_names(files, feature)[number]}"
                what = f"{name} of {which} is {said[number]:.4g}, recomputed {expected[number]:.4g}"
                yield where, what, fix


def lengths(files: DatasetFiles) -> Found:
    length = files.episodes["length"]
    least = max(2, int(_SHORT * np.median(length)))
    for episode in length.index[length < least].tolist():
        what = f"{length[episode]} frames; the median is {np.median(length):g}"
        where = f"{files.data_file(files.episode(episode))}, episode {episode}"
        yield where, what, leave_out(files, episode)


def duplicates(files: DatasetFiles) -> Found:
    if not files.vectors:  # without numbers all episodes are alike
        return
    seen: dict[str, int] = {}
    for episode in files.episodes["episode_index"].tolist():
        rows = files.rows_of(episode)
        if not len(rows):  # "row indices" says so
            continue
        digest = hashlib.sha256()
        for feature in files.vectors:
            digest.update(np.ascontiguousarray(files.columns[feature][rows]).tobytes())
        first = seen.setdefault(digest.hexdigest(), episode)
        if first != episode:
            where = f"{files.data_file(files.episode(episode))}, episode {episode}"
            what = f"the same numbers as episode {first}"
            yield where, what, leave_out(files, episode)
