"""Success rates and what they are worth."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any


def wilson_interval(successes: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a success rate (95 % by default); (0, 1) before any episode."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a set of journal lines."""
    n = len(records)
    successes = sum(record["success"] for record in records)
    # A recorded plan also decodes its video, which `act` alone never does.
    timed = [record for record in records if record["video"] is None] or list(records)
    return {
        "n": n,
        "successes": successes,
        "rate": successes / n if n else None,
        "wilson_95": list(wilson_interval(successes, n)),
        "seconds_per_plan_median": (
            median(record["seconds_per_plan"] for record in timed) if timed else None
        ),
        "seconds_per_plan_includes_video": all(record["video"] is not None for record in timed),
        "mean_steps_of_successes": (
            sum(record["steps"] for record in records if record["success"]) / successes
            if successes
            else None
        ),
    }


def describe(summary: dict[str, Any]) -> str:
    """One line of `summarise`'s numbers for a terminal."""
    low, high = (100 * bound for bound in summary["wilson_95"])
    line = (
        f"{summary['successes']} of {summary['n']} successes (95 % interval {low:.0f}-{high:.0f} %)"
    )
    if summary["seconds_per_plan_median"] is None:
        return line
    with_video = ", video included" if summary["seconds_per_plan_includes_video"] else ""
    return f"{line}, {summary['seconds_per_plan_median']:.2f} s per plan (median{with_video})"
