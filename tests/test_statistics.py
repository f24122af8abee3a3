"""Rates and intervals, against published values and against counting by hand."""

import math

import pytest
from journals import flown

from vp_agent.evaluation.statistics import (
    count,
    describe,
    difference_interval,
    mean_interval,
    per_category,
    per_task,
    pooled,
    summarise,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 7), (99, 100), (754, 1200), (50, 50)])
def test_wilson_intervals_are_those_of_the_formula(successes: int, n: int) -> None:
    z, rate = 1.959964, successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    expected = (max(0.0, centre - half), min(1.0, centre + half))
    assert wilson_interval(successes, n) == pytest.approx(expected, abs=1e-6)


def test_the_interval_of_a_difference_is_newcombes_worked_example() -> None:
    # Newcombe 1998, table II (a): 56/70 - 48/80 by method 10.
    assert difference_interval((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_mean_of_one_task_has_its_wilson_interval() -> None:
    assert mean_interval([(9, 10)]) == pytest.approx(wilson_interval(9, 10))


def test_the_mean_of_two_tasks_has_the_interval_of_half_a_sum() -> None:
    # A sum is a difference with one side turned over: p + q = p - (1 - q) + 1.
    low, high = difference_interval((10 - 4, 10), (9, 10))
    assert mean_interval([(9, 10), (4, 10)]) == pytest.approx(((low + 1) / 2, (high + 1) / 2))


def test_an_infrastructure_error_is_neither_success_nor_failure() -> None:
    row = count(flown("OpenDrawer", "++-e"))
    assert (row["successes"], row["n"], row["errors"]) == (2, 3, 1)
    assert row["rate"] == pytest.approx(2 / 3)


def test_pooled_and_mean_rates_differ_where_tasks_have_different_numbers_of_episodes() -> None:
    tasks = per_task([*flown("OpenDrawer", "++++"), *flown("CloseDrawer", "+-")])
    whole = pooled(tasks)
    assert whole["rate"] == pytest.approx(5 / 6)
    assert whole["mean_over_tasks"] == pytest.approx(3 / 4)


def test_a_category_is_the_mean_over_its_tasks() -> None:
    records = [
        *flown("OpenDrawer", "++"),
        *flown("CloseDrawer", "+---"),
        *flown("OpenSingleDoor", "-"),
    ]
    drawers, doors = per_category(per_task(records))
    assert (drawers["category"], drawers["tasks"], drawers["n"]) == ("Drawers", 2, 6)
    assert drawers["mean_over_tasks"] == pytest.approx((1 + 0.25) / 2)
    assert doors["mean_over_tasks"] == 0


def test_no_mean_is_given_while_a_task_has_only_errors() -> None:
    tasks = per_task([*flown("OpenDrawer", "+"), *flown("CloseDrawer", "e")])
    assert pooled(tasks)["mean_over_tasks"] is None
    assert pooled(tasks)["rate"] == 1


def test_the_line_for_the_terminal_names_errors() -> None:
    line = describe(summarise(flown("OpenDrawer", "+-e")))
    assert line.startswith("1 of 2 successes (95 % interval 9-91 %), 1 errors, 0.50 s per plan")
