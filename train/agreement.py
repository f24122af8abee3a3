"""Do two recordings of an episode agree? Held-out ridge regression, lags, and Granger's test.

One recording of each episode is predicted from the other by a regression that has seen the other
episodes only: a state from its pictures, a motion from its actions. An episode is suspected where
the prediction fits a shifted, a reversed, or another episode's recording far better than its own,
and about as well as the other episodes' predictions fit theirs.
"""

# E episodes, T steps, F features, D numbers that are predicted, A numbers of an action, R rows

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vp_agent.train.recordings import Recording

_FOLDS = 10
_RIDGE = 1e-4  # of the features' variance
_FLOOR = 0.002  # share of a variance that rounding and contacts leave unexplained
_EXPLAINED = 0.5  # share of a variance that must be explained for a number to be used
_FITS = 0.5  # correlation with what fits best
_ROWS = 12  # that an episode is judged by, at least
_CAP = 25.0  # squared errors beyond count as this, in usual ones: an angle that jumps by a turn
_WORSE, _BETTER = 2.0, 3.0  # error by the other episodes'; by that of what fits best
_CONTAMINATED = 1.5  # episodes that fit otherwise so much better are left out of a second fit
_MOTIONS, _TAPS = 2, 4  # earlier motions and actions that Granger's test knows
_SHARE = 0.6  # of the worth of the action that matters most: the first of so much
_BEFORE = 0.45  # of it, at most, where an action is said to matter only after some steps


@dataclass(frozen=True)
class Suspect:
    """An episode that fits something else better than itself."""

    episode: int
    shift: int = 0
    """Steps that its prediction comes too late."""
    reversed: bool = False
    other: int | None = None
    """The episode that its prediction belongs to."""
    error: float = 0.0
    """Of its own, in the other episodes' usual squared errors."""
    better: float = 0.0
    """The same, of what fits best."""
    fit: tuple[float, float] = (0.0, 0.0)
    """Correlation with its own, and with what fits best."""

    @property
    def ratio(self) -> float:
        """How much better the other explanation is."""
        return self.error / max(self.better, 0.1)

    @property
    def fits_better(self) -> bool:
        """Whether its correlation says the same."""
        return self.fit[1] > max(self.fit[0], _FITS)


@dataclass(frozen=True)
class Agreement:
    """Predictions (T, D) and what they predict, of the numbers that can be predicted at all."""

    predicted: Recording
    actual: Recording
    noise: np.ndarray
    """Usual squared error of each number (D,)."""
    usable: np.ndarray
    """Whether each number (D,) can be predicted."""
    unexplained: float
    """Usual share of the variance that is not predicted, over all numbers."""

    def error(self, predicted: np.ndarray, actual: np.ndarray) -> float:
        """Mean squared error in usual ones; NaN where there are too few rows."""
        rows = min(len(predicted), len(actual))
        squares = (predicted[:rows] - actual[:rows]) ** 2 / self.noise
        squares = squares[np.isfinite(squares).all(axis=1)][:, self.usable]
        if len(squares) < _ROWS or not self.usable.any():
            return np.nan
        return float(np.minimum(squares, _CAP).mean())

    def fit(self, predicted: np.ndarray, actual: np.ndarray) -> float:
        """Mean correlation over the numbers that can be predicted."""
        rows = min(len(predicted), len(actual))
        both = np.isfinite(predicted[:rows]).all(axis=1)
        pairs = zip(predicted[:rows][both].T, actual[:rows][both].T, self.usable, strict=True)
        found = [np.corrcoef(p, a)[0, 1] for p, a, use in pairs if use and np.ptp(p) and np.ptp(a)]
        return float(np.mean(found)) if found else 0.0

    def mean_fit(self, usable: np.ndarray) -> float:
        """Mean correlation of the predictions with what they predict, of all episodes."""
        p = np.concatenate([self.predicted[e] for e in self.actual])
        y = np.concatenate([self.actual[e][: len(self.predicted[e])] for e in self.actual])
        return replace(self, usable=usable).fit(p, y)

    def suspects(self, *, shifts: int, turned: bool, better: float = _BETTER) -> Iterator[Suspect]:
        """Episodes whose prediction fits something else `better` times better than its own."""
        own = {e: self.error(p, self.actual[e]) for e, p in self.predicted.items()}
        own = {e: error for e, error in own.items() if np.isfinite(error)}
        usual = np.median(list(own.values())) if own else 0.0
        for episode, error in own.items():
            if error > min(_WORSE, better) * usual:
                suspect = self.best(episode, shifts=shifts, turned=turned, error=error)
                if suspect is not None and suspect.ratio > better and suspect.fits_better:
                    yield suspect

    def best(self, episode: int, *, shifts: int, turned: bool, error: float) -> Suspect | None:
        """What fits the prediction of an episode best, its own aside."""
        p, own = self.predicted[episode], self.actual[episode]
        ways: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
        for k in range(1, min(shifts, len(own) - _ROWS) + 1):
            ways += [({"shift": k}, p[k:], own[:-k]), ({"shift": -k}, p[:-k], own[k:])]
        if turned:
            ways.append(({"reversed": True}, p[: len(own)][::-1], own))
        ways += [({"other": f}, p, other) for f, other in self.actual.items() if f != episode]
        errors = np.array([self.error(a, b) for _, a, b in ways])
        if not np.isfinite(errors).any():
            return None
        at = int(np.nanargmin(errors))
        how, a, b = ways[at]
        fit = (self.fit(p, own), self.fit(a, b))
        return Suspect(episode, error=error, better=float(errors[at]), fit=fit, **how)


def agreement(features: Recording, actual: Recording, *, skip: Iterable[int] = ()) -> Agreement:
    """Predicts every episode's `actual` (T, D) from its `features` (T, F), rows with NaN aside."""
    kept = [e for e in features if e not in set(skip)]
    known = {e: np.asarray(np.isfinite(f).all(axis=1)) for e, f in features.items()}
    rows = {e: known[e][: len(actual[e])] for e in features}
    stacked = np.concatenate([features[e][: len(rows[e])][rows[e]] for e in features])
    middle, scale = stacked.mean(axis=0), stacked.std(axis=0) + 1e-9
    X = {e: np.nan_to_num((f - middle) / scale) for e, f in features.items()}
    X = {e: np.concatenate([x, np.ones((len(x), 1))], axis=1) for e, x in X.items()}
    used = {e: (X[e][: len(r)][r], actual[e][: len(r)][r]) for e, r in rows.items()}
    fold = {e: place % _FOLDS for place, e in enumerate(kept)}
    grams = np.zeros((_FOLDS, stacked.shape[1] + 1, stacked.shape[1] + 1))
    crosses = np.zeros((_FOLDS, stacked.shape[1] + 1, next(iter(actual.values())).shape[1]))
    for e in kept:
        x, y = used[e]
        grams[fold[e]] += x.T @ x
        crosses[fold[e]] += x.T @ y
    weights = [
        _solve(grams.sum(0) - g, crosses.sum(0) - c) for g, c in zip(grams, crosses, strict=True)
    ]
    weights.append(_solve(grams.sum(0), crosses.sum(0)))  # for those that it has not seen
    predicted = {}
    for e, x in X.items():
        predicted[e] = x @ weights[fold.get(e, _FOLDS)]
        predicted[e][~known[e]] = np.nan
    errors = [((predicted[e][: len(r)][r] - used[e][1]) ** 2).mean(axis=0) for e, r in rows.items()]
    spread = np.concatenate([y for _, y in used.values()]).var(axis=0)
    usual = np.median(errors, axis=0)
    noise = np.maximum(usual, _FLOOR * spread) + 1e-12
    left = usual / (spread + 1e-12)
    return Agreement(
        predicted, actual, noise, left < 1 - _EXPLAINED, float(np.clip(left, 0, 1).mean())
    )


def _solve(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    return np.linalg.solve(gram + _RIDGE * gram[-1, -1] * np.eye(len(gram)), cross)


def refined(features: Recording, actual: Recording, *, shifts: int, turned: bool) -> Agreement:
    """`agreement` without the episodes that would spoil the regression of the others."""
    first = agreement(features, actual)
    if not first.usable.any():
        return first
    bad = first.suspects(shifts=shifts, turned=turned, better=_CONTAMINATED)
    skip = {suspect.episode for suspect in bad}
    return agreement(features, actual, skip=skip) if 0 < len(skip) < len(features) / 2 else first


def of_neighbours(features: Recording, actual: Recording) -> tuple[int, float, float]:
    """How far off the episodes are whose features predict best; what that and 0 leave unexplained.

    A table that is shifted by one episode gives all episodes the recordings of their neighbours.
    """
    left = {0: agreement(features, actual).unexplained}
    for off in (-1, 1):
        pairs = {e: (features[e + off], actual[e]) for e in features if e + off in features}
        rows = {e: min(map(len, pair)) for e, pair in pairs.items()}
        both = ({e: pair[i][: rows[e]] for e, pair in pairs.items()} for i in (0, 1))
        left[off] = agreement(*both).unexplained
    best = min(left, key=lambda off: left[off])
    return best, left[best], left[0]


def first_action_that_matters(
    actions: Recording, motions: Recording, *, reach: int
) -> tuple[int, float]:
    """The lag L of the first action a[t - L] that matters for the motion m[t], and how much.

    That is the log of the error without it by the error with it, given the motions and the actions
    before it (Granger's test), summed over the motion's numbers.

    A demonstrator corrects what disturbs the arm, so the action *after* a motion tells of it, too;
    but the motion that it causes then goes the other way. Such lags are passed over.
    """
    worth, corrects = {}, {}
    width = next(iter(actions.values())).shape[1]
    for lag in range(-reach, reach + 1):
        parts = [_around(actions[e], motions[e], lag) for e in motions]
        newest, before, now, then = (np.concatenate(part) for part in zip(*parts, strict=True))
        if len(now) < 2 * (before.shape[1] + width):
            continue
        news = newest - _fitted(before, newest)
        without = _share(now - _fitted(before, now), now)
        with_it = _share(now - _fitted(np.concatenate([newest, before], axis=1), now), now)
        worth[lag] = float(np.log((without + _FLOOR) / (with_it + _FLOOR)).sum())
        news = (news - news.mean(axis=0)) / (newest.std(axis=0) + 1e-9)
        corrects[lag] = ((news.T @ now) * (news.T @ then)).sum() < 0
    most = max(worth.values(), default=0.0)
    for lag, log in worth.items():
        if log >= _SHARE * most and not corrects[lag]:
            return lag, log if _is_clear(worth, lag) else 0.0
    return 0, 0.0


def _is_clear(worth: dict[int, float], first: int) -> bool:
    """Whether an action that is said to matter late is not preceded by others that matter, too.

    Fingers stop at an object some steps after they were told to close.
    """
    before = [log for lag, log in worth.items() if 0 <= lag < first]
    return not before or max(before) < _BEFORE * worth[first]


def _around(a: np.ndarray, m: np.ndarray, lag: int) -> tuple[np.ndarray, ...]:
    """For steps t (R): a[t - lag]; actions and motions before; the motion m[t]; the next two."""
    first = max(_MOTIONS, lag + _TAPS - 1)
    steps = np.arange(first, max(first, min(len(m) - 2, len(a) + lag)))
    earlier = [a[steps - lag - tap] for tap in range(1, _TAPS)]
    before = np.concatenate([*earlier, *(m[steps - 1 - i] for i in range(_MOTIONS))], axis=1)
    return a[steps - lag], before, m[steps], m[steps + 1] + m[steps + 2]


def _fitted(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """What a linear fit of Y (R, D) by X (R, F) gives."""
    X, middle = X - X.mean(axis=0), Y.mean(axis=0)
    gram = X.T @ X + 1e-5 * len(X) * np.diag(X.var(axis=0) + 1e-9)
    return middle + X @ np.linalg.solve(gram, X.T @ (Y - middle))


def _share(rest: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Share of the variance of every number (D,) that is left."""
    return rest.var(axis=0) / (whole.var(axis=0) + 1e-12)
