"""Plots of the report as inline SVG that takes the page's text colour."""

import io
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vp_agent.evaluation.pairs import PlanTrace, Trace
from vp_agent.report.beside import Beside, Row

COLOURS = ("#2f6fde", "#e0850b", "#1a9a6c", "#a855d6", "#d9467a", "#6b7a90")  # of evaluations
_INK = "#010203"  # becomes currentColor, so that the plot follows the page into dark mode
_PLANS = ("#3b82f6", "#f59e0b")  # in turn, so that neighbouring chunks can be told apart
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 8}
_MARKERS = ("D", "o", "s", "^")  # of the paper's columns
_ARM_AXES = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")


def action_plot(trace: Trace) -> str:
    """Planned chunks against executed actions, one small panel per action dimension."""
    actions = np.asarray(trace.actions)  # steps, action dimensions
    width = actions.shape[1]
    names = _ARM_AXES if width == len(_ARM_AXES) else [f"action {i}" for i in range(width)]
    columns = 2
    rows = -(-width // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 1.25 * rows))
        figure.subplots_adjust(
            left=0.045, right=0.995, top=0.96, bottom=0.07, hspace=0.42, wspace=0.1
        )
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).T.flatten()
        for panel, name, i in zip(panels, names, range(width), strict=False):
            _draw(panel, trace.plans, actions[:, i], i)
            panel.set_title(name, fontsize=9, loc="left", pad=2, color=_INK)
        for panel in panels[width:]:
            panel.axis("off")
        for panel in (panels[rows - 1], panels[width - 1]):  # the last one of each column
            panel.tick_params(labelbottom=True)
        return _svg(figure)


def references(besides: Sequence[Beside]) -> dict[str, dict[str, float]]:
    """The paper's own per-task rates that the bars are marked with: {column: {task: rate}}."""
    for beside in besides:
        found: dict[str, dict[str, float]] = {}
        for place, column in enumerate(beside.table.columns):
            if column.name.startswith("Video Policy") and column.rates:
                rates = [
                    (row.label, cells[place].rate)
                    for row, cells in beside.lines
                    if row.kind == "task"
                ]
                found[column.name] = {task: rate for task, rate in rates if rate is not None}
        if found:
            return found
    return {}


def task_plot(rows: Sequence[Row], besides: Sequence[Beside], names: Sequence[str]) -> str:
    """Success rate of every row with its 95 % interval; markers are the paper's columns."""
    marks = references(besides)
    thick = 0.74 / len(names)
    height = 0.55 + len(rows) * max(0.24, 0.13 * len(names))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, height))
        panel = figure.subplots()
        label_width = 0.006 * max(len(row.label) for row in rows) + 0.03
        figure.subplots_adjust(
            left=label_width, right=0.99, top=1 - 0.06 / height, bottom=0.34 / height
        )
        for place, row in enumerate(rows):
            for index, measured in enumerate(row.measured):
                if measured and measured["n"]:
                    level = place + (index - (len(names) - 1) / 2) * thick
                    _bar(panel, measured, level, thick * 0.86, index, row.kind)
            for (_, column), marker in zip(marks.items(), _MARKERS, strict=False):
                if row.label in column:
                    panel.plot(
                        100 * column[row.label],
                        place,
                        marker,
                        ms=4.6,
                        mew=1.1,
                        mfc="none",
                        mec=_INK,
                    )
        panel.set_yticks(range(len(rows)), [row.label for row in rows], parse_math=False)
        for label, row in zip(panel.get_yticklabels(), rows, strict=True):
            label.set_fontweight("normal" if row.kind == "task" else "bold")
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_xlim(0, 100.6)
        panel.set_xticks(range(0, 101, 20), [f"{rate} %" for rate in range(0, 101, 20)])
        panel.grid(axis="x", color=_INK, alpha=0.12, lw=0.6)
        panel.set_axisbelow(True)
        _plain(panel, sides=())
        return _svg(figure)


def _bar(
    panel: Any, measured: Mapping[str, Any], level: float, thick: float, index: int, kind: str
) -> None:
    rate = measured.get("mean_over_tasks", measured["rate"])
    low, high = measured.get("mean_over_tasks_95", measured["wilson_95"]) or (None, None)
    if rate is None or low is None or high is None:
        return
    colour = COLOURS[index % len(COLOURS)]
    panel.barh(level, 100 * rate, thick, color=colour, alpha=0.5 if kind == "task" else 0.85, lw=0)
    panel.plot((100 * low, 100 * high), (level, level), color=_INK, lw=1.1, solid_capstyle="butt")
    for bound in (low, high):
        ends = (level - thick / 4, level + thick / 4)
        panel.plot((100 * bound, 100 * bound), ends, color=_INK, lw=1.1)


def latency_plot(seconds: Sequence[float], index: int) -> str:
    """How long plans took, with the median and the 95th percentile as lines; "" without plans."""
    if not seconds:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 1.9))
        panel = figure.subplots()
        figure.subplots_adjust(left=0.08, right=0.985, top=0.9, bottom=0.22)
        bins = np.histogram_bin_edges(seconds, bins=min(40, max(8, len(seconds) // 8)))
        panel.hist(seconds, bins=bins.tolist(), color=COLOURS[index % len(COLOURS)], alpha=0.6)
        top = panel.get_ylim()[1]
        for name, value in (("median", median(seconds)), ("95 %", np.quantile(seconds, 0.95))):
            panel.axvline(float(value), color=_INK, lw=0.9, ls="-" if name == "median" else ":")
            panel.text(float(value), top * 1.02, f"{name} {value:.2f}", color=_INK, ha="center")
        panel.set_xlabel("seconds per plan", color=_INK)
        panel.set_ylim(0, top)
        _plain(panel, sides=("left", "bottom"))
        return _svg(figure)


def _plain(panel: Any, *, sides: Sequence[str]) -> None:
    panel.patch.set_alpha(0)
    panel.figure.patch.set_alpha(0)
    panel.tick_params(colors=_INK, width=0.5, length=2)
    for side, spine in panel.spines.items():
        spine.set_visible(side in sides)
        spine.set(color=_INK, linewidth=0.5)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # The page sizes it by its viewBox; sizes in points would not fit a phone.
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)


def _draw(panel: Any, plans: Sequence[PlanTrace], executed: np.ndarray, i: int) -> None:
    starts = [plan.step for plan in plans] + [len(executed)]
    for number, plan in enumerate(plans):
        chunk = np.asarray(plan.actions)[:, i]
        steps = plan.step + np.arange(len(chunk))
        flown = starts[number + 1] - plan.step
        colour = _PLANS[number % 2]
        panel.plot(steps[:flown], chunk[:flown], color=colour, lw=2.6, alpha=0.75)
        panel.plot(steps[flown - 1 :], chunk[flown - 1 :], color=colour, lw=1.2, ls=":")
        panel.axvline(plan.step, color=_INK, lw=0.4, alpha=0.25)
    panel.plot(executed, color=_INK, lw=0.9)
    panel.set_ylim(-1.12, 1.12)
    panel.set_yticks((-1, 0, 1))
    panel.set_xlim(0, len(executed) + 4)
    _plain(panel, sides=("left", "bottom"))
