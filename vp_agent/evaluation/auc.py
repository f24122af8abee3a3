"""The area under the ROC curve, and an interval that also holds for a handful of episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vp_agent.errors import ConfigError, need

_APART = 1e-9


@dataclass(frozen=True, kw_only=True)
class AUC:
    """Area under the ROC curve with its interval; `positives` and `negatives` are counts."""

    area: float
    low: float
    high: float
    positives: int
    negatives: int


def auc(positives: Sequence[float], negatives: Sequence[float], *, z: float = 1.959964) -> AUC:
    """How often a positive case scores above a negative one; ties count half.

    The interval is Newcombe's method 5 (Statistics in Medicine 25, 2006, 559-573): the areas
    whose own standard error, by Hanley and McNeil's formula with both group sizes replaced by
    their mean, reaches the one that was found.
    """
    m, n = len(positives), len(negatives)
    if not m or not n:
        raise ConfigError(f"an AUC needs both outcomes, not {m} positive and {n} negative cases")
    a, b = np.asarray(positives, float)[:, None], np.asarray(negatives, float)[None]
    area = float(np.mean((a > b) + 0.5 * (a == b)))
    mean = (m + n) / 2

    def inside(other: float) -> float:
        standard_error = hanley_mcneil(other, m, n, scale=(mean, mean))
        return z * standard_error - abs(other - area)

    root = need("scipy.optimize", extra="audit").brentq
    # Not from the area itself: at 0 and 1, where its standard error is 0, it is a root of its own.
    low = root(inside, 0.0, area - _APART) if area > _APART else 0.0
    high = root(inside, area + _APART, 1.0) if area < 1 - _APART else 1.0
    return AUC(area=area, low=float(low), high=float(high), positives=m, negatives=n)


def hanley_mcneil(
    area: float, positives: int, negatives: int, *, scale: tuple[float, float] | None = None
) -> float:
    """Standard error of an area (Hanley and McNeil, Radiology 143, 1982, 29-36).

    Args:
        area: the true one.
        positives: number of cases.
        negatives: number of cases.
        scale: other numbers in place of the two in the numerator.
    """
    m, n = scale or (positives, negatives)
    two_positives = area / (2 - area) - area**2
    two_negatives = 2 * area**2 / (1 + area) - area**2
    total = area * (1 - area) + (m - 1) * two_positives + (n - 1) * two_negatives
    return float(np.sqrt(total / (positives * negatives)))
