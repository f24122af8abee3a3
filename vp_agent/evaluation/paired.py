"""Statistics of paired episodes: both policies flew the same ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vp_agent.evaluation.statistics import wilson_interval

ALPHA = 0.05  # of the one-sided test of non-inferiority
POWER = 0.80


@dataclass(frozen=True)
class PairedTable:
    """How often both policies, one of them or none succeeded in the same episodes."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def successes_a(self) -> int:
        """Successes of A in the pairs."""
        return self.both + self.only_a

    @property
    def successes_b(self) -> int:
        """Successes of B in the pairs."""
        return self.both + self.only_b

    @property
    def difference(self) -> float:
        """Success rate of B less that of A."""
        return (self.only_b - self.only_a) / self.n

    @property
    def discordance(self) -> float:
        """Share of the pairs in which exactly one of the two succeeded."""
        return (self.only_a + self.only_b) / self.n

    @property
    def mcnemar_p(self) -> float:
        """Two-sided p of the exact McNemar test: the discordant pairs as throws of a fair coin."""
        discordant = self.only_a + self.only_b
        from scipy.stats import binomtest  # half a second that --help does not need

        return float(binomtest(self.only_b, discordant).pvalue) if discordant else 1.0

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float]:
        """Interval of `difference` by Newcombe (1998) for paired data, method 10.

        It joins the two Wilson intervals and takes the correlation of the pairs into account.
        """
        n, rate_a, rate_b = self.n, self.successes_a / self.n, self.successes_b / self.n
        low_a, high_a = wilson_interval(self.successes_a, n, confidence=confidence)
        low_b, high_b = wilson_interval(self.successes_b, n, confidence=confidence)
        phi = self._correlation()

        def joined(first: float, second: float) -> float:
            # Rounding may leave a tiny negative number where the two cancel.
            return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))

        return (
            self.difference - joined(rate_b - low_b, high_a - rate_a),
            self.difference + joined(high_b - rate_b, rate_a - low_a),
        )

    def _correlation(self) -> float:
        n, a, b = self.n, self.successes_a, self.successes_b
        margins = a * (n - a) * b * (n - b)
        if margins == 0:
            return 0.0
        product = self.both * self.neither - self.only_a * self.only_b
        if product > 0:
            product = max(product - n / 2, 0)  # method 10's continuity correction
        return product / math.sqrt(margins)

    @property
    def lower_bound(self) -> float:
        """Lower bound of `difference`, one-sided at 5 %: that of the 90 % interval."""
        return self.interval(confidence=1 - 2 * ALPHA)[0]


def pairs_needed(discordance: float, margin: float) -> int:
    """Pairs that show non-inferiority at `margin` with 80 % power if the true rates are equal.

    n = (z_0.95 + z_0.80)^2 discordance / margin^2 (Nam 1997, Biometrics 53:1422), one-sided at 5 %.
    """
    from scipy.stats import norm

    z = norm.ppf(1 - ALPHA) + norm.ppf(POWER)
    return math.ceil(z**2 * discordance / margin**2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down method, in the same order."""
    adjusted, reached = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted
