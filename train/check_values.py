"""Checks of a dataset's numbers: actions, states, statistics, lengths."""

# N rows, D numbers of a vector

import hashlib

import numpy as np

from vp_agent.train.check_files import Found, data_of_row, edit, leave_out
from vp_agent.train.dataset_files import DatasetFiles, feature_names

ACTION = "action"
_WILD = 10  # times farther from the median than 99 % of the values
_SHORT = 0.2  # of the median length


def number_names(files: DatasetFiles, feature: str) -> list[str]:
    """Names of a vector's numbers; their places where the dataset has no names."""
    names = feature_names(files.info["features"][feature])
    width = files.columns[feature].shape[1]
    return list(names) if len(names) == width else [str(i) for i in range(width)]


def _place(files: DatasetFiles, row: int) -> str:
    episode, frame = (int(files.columns[name][row]) for name in ("episode_index", "frame_index"))
    return f"{data_of_row(files, row)}, episode {episode}, frame {frame}"


def widths(files: DatasetFiles) -> Found:
    for feature in files.vectors:
        width, said = files.columns[feature].shape[1:], files.info["features"][feature]["shape"]
        if list(width) != list(said):
            what = f"{feature} has shape {list(said)}, its column {list(width)}"
            yield (
                str(files.root / "meta/info.json"),
                what,
                "write the column's, if the data is right",
            )


def finite(files: DatasetFiles) -> Found:
    for feature in files.vectors:
        bad = ~np.isfinite(files.columns[feature])
        for episode in np.unique(files.columns["episode_index"][bad.any(axis=1)]):
            rows = bad & (files.columns["episode_index"] == episode)[:, None]
            row, number = np.argwhere(rows)[0]
            name = number_names(files, feature)[number]
            what = f"{feature}.{name} is not finite ({rows.sum()} values)"
            yield _place(files, int(row)), what, leave_out(files, int(episode))


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
    for feature in files.vectors:
        if feature not in files.stats:
            yield where, f"{feature} has no statistics", fix
            continue
        values = files.columns[feature].astype(np.float64)  # float32 drifts over many rows
        true = {
            "min": values.min(axis=0),
            "max": values.max(axis=0),
            "mean": values.mean(axis=0),
            "std": values.std(axis=0),
        }
        scale = np.maximum(np.nan_to_num(np.ptp(values, axis=0)), 1e-6)
        for name, expected in true.items():
            said = np.asarray(files.stats[feature].get(name, []), np.float64)
            if said.shape != expected.shape:
                yield where, f"{feature}.{name} has shape {said.shape}, not {expected.shape}", fix
            elif (np.abs(said - expected) > 1e-3 * scale).any():
                number = int((np.abs(said - expected) / scale).argmax())
                which = f"{feature}.{number_names(files, feature)[number]}"
                what = f"{name} of {which} is {said[number]:.4g}, recomputed {expected[number]:.4g}"
                yield where, what, fix


def lengths(files: DatasetFiles) -> Found:
    length = np.asarray(files.episodes["length"])
    least = max(2, int(_SHORT * np.median(length)))
    for episode in np.flatnonzero(length < least):
        what = f"{length[episode]} frames; the median is {np.median(length):g}"
        where = f"{files.data_file(files.episodes.iloc[episode])}, episode {episode}"
        yield where, what, leave_out(files, int(episode))


def duplicates(files: DatasetFiles) -> Found:
    if not files.vectors:  # without numbers all episodes are alike
        return
    seen: dict[str, int] = {}
    for episode in range(len(files.episodes)):
        rows = files.rows_of(episode)
        if not len(files.columns["index"][rows]):  # "row indices" says so
            continue
        digest = hashlib.sha256()
        for feature in files.vectors:
            digest.update(np.ascontiguousarray(files.columns[feature][rows]).tobytes())
        first = seen.setdefault(digest.hexdigest(), episode)
        if first != episode:
            where = f"{files.data_file(files.episodes.iloc[episode])}, episode {episode}"
            what = f"the same numbers as episode {first}"
            yield where, what, leave_out(files, episode)
