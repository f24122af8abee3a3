"""The rows of a report: tasks by category, what was measured, and the paper's tables beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vp_agent.evaluation.record import EpisodeRecord
from vp_agent.evaluation.statistics import per_category, per_task, pooled
from vp_agent.report.paper import Column, Table, above_or_below, paper

Measured = Mapping[str, Any]  # a row of `statistics.count` or `statistics.pooled`


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: a task, the mean of a category ("category") or of everything ("all").

    Attributes:
        label: what the line is of.
        kind: "task", "category" or "all".
        envs: the environment ids of its tasks.
        measured: for each evaluation, its counts; None where it lacks one of the tasks, because
            rates over different tasks do not compare.
    """

    label: str
    kind: str
    envs: tuple[str, ...]
    measured: tuple[Measured | None, ...]


@dataclass(frozen=True)
class Cell:
    """A rate of the paper, and how the first evaluation stands to it ("above", "below", "")."""

    rate: float | None
    stands: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One table of the paper over the tasks that were flown.

    Attributes:
        table: the paper's.
        protocol: which evaluations followed another protocol than the table's; empty if none.
        comparable: whether the first evaluation followed the table's.
        lines: categories and tasks flown, then the mean; each with one cell per column.
        tasks: how many of the table's tasks were flown.
        of: how many it has.
        notes: remarks of the columns that apply.
    """

    table: Table
    protocol: str
    comparable: bool
    lines: Sequence[tuple[Row, Sequence[Cell]]]
    tasks: int
    of: int
    notes: Sequence[str]


def rows_of(evaluations: Sequence[Sequence[EpisodeRecord]]) -> list[Row]:
    """The rows of several evaluations' records: each category's mean and tasks, then the whole."""
    tables = [per_task(records) for records in evaluations]
    tasks = [{row["task"]: row for row in table} for table in tables]
    categories = [{row["category"]: row for row in per_category(table)} for table in tables]
    members: dict[str, dict[str, str]] = {}  # {category: {task: env}}
    for row in sorted((row for table in tables for row in table), key=_order):
        members.setdefault(row["category"], {}).setdefault(row["task"], row["env"])
    rows = []
    for category, envs in members.items():
        if category and len(members) > 1:
            found = tuple(
                table.get(category) if envs.keys() <= flown.keys() else None
                for table, flown in zip(categories, tasks, strict=True)
            )
            row = Row(label=category, kind="category", envs=tuple(envs.values()), measured=found)
            rows.append(row)
        for name, env in envs.items():
            found = tuple(table.get(name) for table in tasks)
            rows.append(Row(label=name, kind="task", envs=(env,), measured=found))
    whole = tuple(env for envs in members.values() for env in envs.values())
    if len(whole) > 1:
        names = {name for envs in members.values() for name in envs}
        found = tuple(
            pooled(table) if names <= flown.keys() else None
            for table, flown in zip(tables, tasks, strict=True)
        )
        rows.append(Row(label="All tasks", kind="all", envs=whole, measured=found))
    return rows


def _order(row: Measured) -> tuple[int, str]:
    """The paper's tasks in its order, then the others by name."""
    ids = [about["env"] for tasks in paper().tasks.values() for about in tasks.values()]
    return (ids.index(row["env"]) if row["env"] in ids else len(ids), row["task"])


def beside_the_paper(rows: Sequence[Row], suites: Sequence[str]) -> list[Beside]:
    """Every table of the paper that has one of the tasks, in the paper's order."""
    besides = []
    for table in paper().tables:
        names = {about["env"]: task for task, about in paper().tasks[table.benchmark].items()}
        inside = [row for row in rows if set(row.envs) <= names.keys() and row.kind != "all"]
        flown = [row for row in inside if row.kind == "task"]
        if flown:
            lines = [(row, [names[env] for env in row.envs]) for row in inside]
            mean = (_mean(flown), [names[env] for row in flown for env in row.envs])
            besides.append(_beside(table, lines, mean, suites))
    return besides


_Line = tuple[Row, Sequence[str]]  # and the names of its tasks in the paper


def _beside(table: Table, lines: Sequence[_Line], mean: _Line, suites: Sequence[str]) -> Beside:
    tasks = mean[1]

    def alike(column: Column) -> bool:
        # An average that is printed without its tasks stays the average of all of them.
        return suites[0] in table.suites and (bool(column.rates) or len(tasks) == _size(table))

    if not any(column.rates for column in table.columns):
        lines = []
    return Beside(
        table=table,
        protocol=_protocol(table, suites),
        comparable=suites[0] in table.suites,
        lines=[
            (row, [_cell(row, column, names, sure=alike(column)) for column in table.columns])
            for row, names in (*lines, mean)
        ],
        tasks=len(tasks),
        of=_size(table),
        notes=_notes(table, tasks),
    )


def _notes(table: Table, tasks: Sequence[str]) -> list[str]:
    """The remarks that apply to these tasks, each once with all of its columns."""
    applies = {"n", *tasks} | ({"average"} if len(tasks) == _size(table) else set())
    columns: dict[tuple[str, str], list[str]] = {}
    for column in table.columns:
        for about, note in column.notes.items():
            if about in applies:
                columns.setdefault((about, note), []).append(column.name)
    return [f"{', '.join(names)} ({about}): {note}." for (about, note), names in columns.items()]


def _size(table: Table) -> int:
    return len(paper().tasks[table.benchmark])


def _protocol(table: Table, suites: Sequence[str]) -> str:
    others = sorted({suite for suite in suites if suite not in table.suites})
    if not others:
        return ""
    return (
        f"Another protocol: the table's is {' or '.join(table.suites)}, not "
        f"{' or '.join(others)}. Read the numbers side by side, do not rank by them."
    )


def _mean(rows: Sequence[Row]) -> Row:
    columns = zip(*(row.measured for row in rows), strict=True)
    measured = tuple(pooled(column) if all(column) else None for column in columns)
    label = "Mean of this task" if len(rows) == 1 else f"Mean of these {len(rows)} tasks"
    return Row(label=label, kind="all", envs=(), measured=measured)


def _cell(row: Row, column: Column, tasks: Sequence[str], *, sure: bool) -> Cell:
    rate, first = column.mean(tasks), row.measured[0]
    if row.kind == "task":
        note = column.notes.get(tasks[0], "")
    else:
        note = column.notes.get("average", "") if rate == column.average else ""
    if not sure or not first or first.get("n_per_task", first["n"]) is None:
        return Cell(rate, note=note)  # tasks of unequal n: the pooled rate is not the one shown
    return Cell(rate, above_or_below(first, rate, column.n and column.n * len(tasks)), note)
