"""The report as an HTML page and as markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vp_agent.evaluation.pairing import Comparison
from vp_agent.evaluation.statistics import count
from vp_agent.report.beside import Beside, Row
from vp_agent.report.paper import paper
from vp_agent.report.plots import COLOURS, latency_plot, references, task_plot
from vp_agent.report.results import View

_EXACT_FROM = 200  # from so many episodes on, a tenth of a point means something


@dataclass(kw_only=True)
class Pair:
    """Two evaluations on the same episodes, or why they cannot be compared."""

    a: str
    b: str
    comparison: Comparison | None = None
    p_holm: float = 1.0
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything a report shows."""

    views: Sequence[View]
    rows: Sequence[Row]
    besides: Sequence[Beside]
    pairs: Sequence[Pair]

    @property
    def title(self) -> str:
        """The suite, or the environment of a single one."""
        suites = dict.fromkeys(view.suite.removeprefix("env:") for view in self.views)
        return ", ".join(suites)

    @property
    def marks(self) -> Sequence[str]:
        """The paper's columns that mark the bars."""
        return list(references(self.besides))

    @property
    def pooled(self) -> Sequence[Mapping[str, Any]]:
        """Every evaluation's episodes, all alike."""
        return [count(view.records) for view in self.views]

    @property
    def tasks(self) -> int:
        """How many tasks were flown."""
        return sum(row.kind == "task" for row in self.rows)


def html(page: Page) -> str:
    """The page, self-contained."""
    names = [view.name for view in page.views]
    return (
        _templates(autoescape=True)
        .get_template("report.html")
        .render(
            page=page,
            source=paper().source,
            colours=COLOURS,
            tasks=Markup(task_plot(page.rows, page.besides, names)),
            latency=[
                Markup(latency_plot(view.plan_s, index)) for index, view in enumerate(page.views)
            ],
        )
    )


def markdown(page: Page) -> str:
    """The same tables as markdown."""
    text = (
        _templates(autoescape=False)
        .get_template("report.md")
        .render(page=page, source=paper().source)
    )
    return text.strip() + "\n"


def _templates(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("vp_agent.report", package_path=""),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": lambda text: str(text)[:12],
        "percent": _percent,
        "interval": _interval,
        # One line, and no bar, which would end the cell of a markdown table.
        "cell": lambda text: " ".join(str(text).split()).replace("|", "\\|"),
    }
    return environment


def _percent(row: Mapping[str, Any]) -> str:
    """The rate of a row of `count` or `pooled` in percent: the mean over tasks where it is one."""
    rate = row.get("mean_over_tasks", row["rate"])
    return "–" if rate is None else f"{100 * rate:.{_digits(row)}f}"


def _interval(row: Mapping[str, Any]) -> str:
    """The 95 % interval of `_percent`."""
    bounds = row.get("mean_over_tasks_95", row["wilson_95"])
    if bounds is None:
        return "–"
    low, high = (f"{100 * bound:.{_digits(row)}f}" for bound in bounds)
    return f"{low} to {high}"


def _digits(row: Mapping[str, Any]) -> int:
    return 1 if row["n"] >= _EXACT_FROM else 0
