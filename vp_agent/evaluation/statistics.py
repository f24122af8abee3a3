"""Success rates and what they are worth."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from statistics import fmean, median
from typing import Any, TypeVar

from vp_agent.evaluation.record import EpisodeRecord

Row = TypeVar("Row")
Count = tuple[int, int]  # successes, episodes


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate; (0, 1) before any episode."""
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # half a second that --help does not need

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(counts: Iterable[Count], *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean over tasks of their success rates, each task weighing the same.

    Squares and adds the distances to the tasks' Wilson bounds, as Newcombe does for differences
    (Zou & Donner 2008); with one task it is that task's Wilson interval.
    """
    rates, below, above = [], [], []
    for successes, n in counts:
        low, high = wilson_interval(successes, n, confidence=confidence)
        rate = successes / n if n else 0.5
        rates.append(rate)
        below.append(rate - low)
        above.append(high - rate)
    mean = fmean(rates)
    return mean - math.hypot(*below) / len(rates), mean + math.hypot(*above) / len(rates)


def difference_interval(first: Count, second: Count) -> tuple[float, float]:
    """95 % interval of second rate less first, of independent sets (Newcombe 1998, method 10)."""
    (rate_1, low_1, high_1), (rate_2, low_2, high_2) = (
        (successes / n, *wilson_interval(successes, n)) for successes, n in (first, second)
    )
    difference = rate_2 - rate_1
    return (
        difference - math.hypot(rate_2 - low_2, high_1 - rate_1),
        difference + math.hypot(high_2 - rate_2, rate_1 - low_1),
    )


def count(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Successes among the episodes that ended; an infrastructure error is none of them."""
    ended = [record.success for record in records if record.success is not None]
    n, successes = len(ended), sum(ended)
    return {
        "n": n,
        "successes": successes,
        "rate": successes / n if n else None,
        "wilson_95": list(wilson_interval(successes, n)),
        "errors": len(records) - n,
    }


def per_task(records: Sequence[EpisodeRecord]) -> list[dict[str, Any]]:
    """`count` of every task, in the order in which the tasks come."""
    return [
        {"task": task, "category": some[0].category, "env": some[0].env, **count(some)}
        for task, some in _grouped(records, attrgetter("task")).items()
    ]


def per_category(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For every category of `per_task`'s rows, pooled counts and the mean over its tasks."""
    return [
        {"category": category, **pooled(rows)}
        for category, rows in _grouped(tasks, itemgetter("category")).items()
        if category
    ]


def pooled(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Both rates of several tasks: all episodes alike (pooled) and all tasks alike (the mean).

    The paper averages over tasks. The mean is None while one of the tasks has no episode;
    `n_per_task` is None where the tasks have not equally many.
    """
    n, successes = sum(row["n"] for row in tasks), sum(row["successes"] for row in tasks)
    whole = bool(tasks) and all(row["n"] for row in tasks)
    counts = [(row["successes"], row["n"]) for row in tasks]
    return {
        "tasks": len(tasks),
        "n": n,
        "n_per_task": tasks[0]["n"] if len({row["n"] for row in tasks}) == 1 else None,
        "successes": successes,
        "rate": successes / n if n else None,
        "wilson_95": list(wilson_interval(successes, n)),
        "errors": sum(row["errors"] for row in tasks),
        "mean_over_tasks": fmean(row["rate"] for row in tasks) if whole else None,
        "mean_over_tasks_95": list(mean_interval(counts)) if whole else None,
    }


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def summarise(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """The numbers of a set of journal lines."""
    ended = [record for record in records if record.success is not None]
    # A recorded plan also decodes its video, which `act` alone never does.
    timed = [record for record in ended if record.video is None] or ended
    steps = [record.steps for record in ended if record.success and record.steps is not None]
    seconds = [r.seconds_per_plan for r in timed if r.seconds_per_plan is not None]
    return {
        **count(records),
        "seconds_per_plan_median": median(seconds) if seconds else None,
        "seconds_per_plan_includes_video": all(record.video is not None for record in timed),
        "mean_steps_of_successes": fmean(steps) if steps else None,
    }


def describe(summary: Mapping[str, Any]) -> str:
    """One line of `summarise`'s numbers for a terminal."""
    low, high = (100 * bound for bound in summary["wilson_95"])
    line = (
        f"{summary['successes']} of {summary['n']} successes (95 % interval {low:.0f}-{high:.0f} %)"
    )
    if summary["errors"]:
        line += f", {summary['errors']} errors"
    missing = summary.get("scheduled", 0) - summary["n"] - summary["errors"]
    if missing > 0:
        line += f", {missing} of {summary['scheduled']} scheduled episodes not flown yet"
    if summary["seconds_per_plan_median"] is None:
        return line
    with_video = ", video included" if summary["seconds_per_plan_includes_video"] else ""
    return f"{line}, {summary['seconds_per_plan_median']:.2f} s per plan (median{with_video})"
