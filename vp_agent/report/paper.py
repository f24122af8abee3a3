"""The tables of the paper, beside which an evaluation is shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from vp_agent.evaluation.statistics import difference_interval


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: as the paper heads it.
        n: roll-outs per task; None where the paper does not say.
        average: success rate, 0 to 1, that the table prints as its average over tasks.
        rates: success rate of each task; None where it is not legible. Empty if the table prints
            only averages.
        notes: remarks on `n`, on `average` or on a task.
    """

    name: str
    n: int | None
    average: float
    rates: Mapping[str, float | None]
    notes: Mapping[str, str]

    def mean(self, tasks: Sequence[str]) -> float | None:
        """Mean over some tasks; the printed average for all of them."""
        if not self.rates or set(tasks) == set(self.rates):
            return self.average
        rates = [self.rates[task] for task in tasks]
        known = [rate for rate in rates if rate is not None]
        return fmean(known) if known and len(known) == len(rates) else None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: `suites` are those whose protocol is the table's."""

    number: int
    title: str
    benchmark: str
    suites: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All tables, and the tasks of the benchmarks: {benchmark: {task: {env, category}}}."""

    source: str
    tasks: Mapping[str, Mapping[str, Mapping[str, str]]]
    tables: tuple[Table, ...]


@cache
def paper() -> Paper:
    """The paper's tables as they are shipped in paper.json."""
    content = json.loads(files("vp_agent.report").joinpath("paper.json").read_text("utf-8"))
    return Paper(
        source=content["source"],
        tasks=content["tasks"],
        tables=tuple(_table(table) for table in content["tables"]),
    )


def _table(content: Mapping[str, Any]) -> Table:
    columns = [
        Column(
            name=column["name"],
            n=column["n"],
            average=column["average"],
            rates=column["rates"] or {},
            notes=column.get("notes", {}),
        )
        for column in content["columns"]
    ]
    return Table(
        number=content["table"],
        title=content["title"],
        benchmark=content["benchmark"],
        suites=tuple(content["suites"]),
        columns=tuple(columns),
    )


def above_or_below(row: Mapping[str, Any], rate: float | None, n: int | None) -> str:
    """How `count`'s row stands to a rate of the paper: "above", "below" or "" if it is not sure.

    Sure is a 95 % interval of the difference (Newcombe, independent sets) that leaves out zero.
    """
    if rate is None or n is None or not row["n"]:
        return ""
    low, high = difference_interval((round(rate * n), n), (row["successes"], row["n"]))
    return "above" if low > 0 else "below" if high < 0 else ""
