"""The area under the ROC curve and its interval, against published numbers and by simulation."""

import numpy as np
import pytest

from vp_agent.evaluation.auc import auc, hanley_mcneil


def hanley_mcneil_1982() -> tuple[list[float], list[float]]:
    """Ratings 1 to 5 of 51 abnormal and 58 normal CT images (Radiology 143, table I)."""
    counts = (3, 2, 2, 11, 33), (33, 6, 6, 11, 2)
    abnormal, normal = (np.repeat(range(1, 6), count).tolist() for count in counts)
    return abnormal, normal


def test_the_auc_and_its_standard_error_are_the_published_ones() -> None:
    found = auc(*hanley_mcneil_1982())
    assert found.area == pytest.approx(0.893, abs=5e-4)
    assert hanley_mcneil(found.area, 51, 58) == pytest.approx(0.032, abs=6e-4)
    assert (found.positives, found.negatives) == (51, 58)


def test_the_interval_is_where_the_standard_error_reaches_the_area() -> None:
    found = auc(*hanley_mcneil_1982())
    for bound in (found.low, found.high):
        reach = hanley_mcneil(bound, 51, 58, scale=(54.5, 54.5))
        assert abs(bound - found.area) == pytest.approx(1.959964 * reach)


def test_the_interval_does_not_care_which_outcome_is_called_positive() -> None:
    positives, negatives = hanley_mcneil_1982()
    one, other = auc(positives, negatives), auc(negatives, positives)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


def test_one_failure_below_all_successes_proves_little() -> None:
    found = auc(range(1, 51), [0])
    assert (found.area, found.high) == (1, 1)
    assert 0.3 < found.low < 0.5


@pytest.mark.parametrize(("m", "n", "shift"), [(40, 10, 1.0), (49, 1, 1.0), (20, 30, 0.0)])
def test_the_interval_covers_the_truth_as_often_as_it_says(m: int, n: int, shift: float) -> None:
    from scipy.stats import norm

    rng, truth, rounds = np.random.default_rng(0), norm.cdf(shift / np.sqrt(2)), 500
    covered = 0
    for _ in range(rounds):
        found = auc(rng.normal(shift, 1, m).tolist(), rng.normal(0, 1, n).tolist())
        covered += found.low <= truth <= found.high
    assert 0.92 < covered / rounds < 0.98  # 0.95 and three standard errors
