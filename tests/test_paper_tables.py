"""The paper's tables as data: complete, consistent with themselves and with our ids."""

from statistics import fmean

import gymnasium as gym
import pytest

import vp_agent  # noqa: F401 (registers the environments)
from vp_agent.report.paper import Column, above_or_below, paper

TABLES = {table.number: table for table in paper().tables}
COLUMNS = [
    pytest.param(table.number, column, id=f"{table.number}-{column.name}")
    for table in paper().tables
    for column in table.columns
]
# Where the rows as printed do not average to what the table prints.
OWN_AVERAGE = {"DP-CLIP": 0.4067, "DP-VLA": 0.5858}


def _column(table: int, name: str) -> Column:
    return next(column for column in TABLES[table].columns if column.name == name)


def test_every_results_table_of_the_simulated_benchmarks_is_there() -> None:
    widths = {number: len(table.columns) for number, table in TABLES.items()}
    assert widths == {1: 10, 2: 8, 3: 3, 6: 5, 7: 4, 8: 3, 9: 1}


@pytest.mark.parametrize(("number", "column"), COLUMNS)
def test_the_rows_average_to_the_printed_average(number: int, column: Column) -> None:
    if not column.rates:
        assert number in (2, 3)
        return
    assert set(column.rates) == set(paper().tasks[TABLES[number].benchmark])
    known = [rate for rate in column.rates.values() if rate is not None]
    assert all(0 <= rate <= 1 for rate in known)
    missing = len(column.rates) - len(known)
    least, most = sum(known) / len(column.rates), (sum(known) + missing) / len(column.rates)
    printed = OWN_AVERAGE.get(column.name, column.average)
    assert least - 0.0051 <= printed <= most + 0.0051
    assert ("average" in column.notes) == (column.name in OWN_AVERAGE)


@pytest.mark.parametrize(("number", "column"), COLUMNS)
def test_a_rate_is_a_multiple_of_one_over_the_number_of_roll_outs(
    number: int, column: Column
) -> None:
    if column.n is None:
        assert "n" in column.notes
        return
    for rate in column.rates.values():
        assert rate is None or rate * column.n == pytest.approx(round(rate * column.n))


def test_what_is_not_legible_is_left_out_and_named() -> None:
    found = {
        (table.number, column.name, task)
        for table in paper().tables
        for column in table.columns
        for task, rate in column.rates.items()
        if rate is None
    }
    assert found == {
        (7, "GR00T, 30 demos", "PnPCounterToStove"),
        (7, "GR00T, 30 demos", "CloseDrawer"),
        (7, "GR00T, 100 demos", "CloseDoubleDoor"),
        (8, "Joint, 16 steps", "PnPCounterToStove"),
        (8, "Joint, 32 steps", "CoffeeServeMug"),
        (8, "Joint, 16 steps", "CoffeeServeMug"),
        (8, "Joint, 0 steps", "CoffeeServeMug"),
    }
    assert all("not legible" in _column(table, name).notes[task] for table, name, task in found)


def test_columns_that_the_paper_prints_twice_are_equal() -> None:
    ours = _column(1, "Video Policy, 50 demos").rates
    assert ours == _column(6, "2-Stages").rates == _column(7, "Video Policy, 50 demos").rates
    assert _column(1, "GR00T").rates == _column(7, "GR00T, 300 demos").rates


def test_every_task_has_an_environment() -> None:
    envs = [about["env"] for tasks in paper().tasks.values() for about in tasks.values()]
    assert len(envs) == 34
    assert all(env in gym.registry for env in envs)


def test_the_mean_of_some_tasks_is_not_the_printed_average() -> None:
    column = _column(1, "Video Policy, 50 demos")
    assert column.mean(["OpenDrawer", "CloseDrawer"]) == pytest.approx(fmean([0.46, 0.96]))
    assert column.mean(list(column.rates)) == 0.63
    assert _column(8, "Joint, 16 steps").mean(["OpenDrawer", "CoffeeServeMug"]) is None


@pytest.mark.parametrize(
    ("successes", "n", "stands"), [(48, 50, "above"), (30, 50, ""), (5, 50, "below"), (0, 0, "")]
)
def test_a_rate_stands_above_or_below_only_when_it_is_sure(
    successes: int, n: int, stands: str
) -> None:
    assert above_or_below({"successes": successes, "n": n}, 0.5, 50) == stands
    assert above_or_below({"successes": successes, "n": n}, 0.5, None) == ""
