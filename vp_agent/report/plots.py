"""Plots of the report as inline SVG that takes the page's text colour."""

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_INK = "#010203"  # becomes currentColor, so that the plot follows the page into dark mode
_PLANS = ("#3b82f6", "#f59e0b")  # in turn, so that neighbouring chunks can be told apart
_ARM_AXES = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")


def action_plot(trace: dict[str, Any]) -> str:
    """Planned chunks against executed actions, one small panel per action dimension."""
    actions = np.asarray(trace["actions"])  # steps, action dimensions
    width = actions.shape[1]
    names = _ARM_AXES if width == len(_ARM_AXES) else [f"action {i}" for i in range(width)]
    columns = 2
    rows = -(-width // columns)
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 8}
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.2, 1.25 * rows))
        figure.subplots_adjust(
            left=0.045, right=0.995, top=0.96, bottom=0.07, hspace=0.42, wspace=0.1
        )
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).T.flatten()
        for panel, name, i in zip(panels, names, range(width), strict=False):
            _draw(panel, trace["plans"], actions[:, i], i)
            panel.set_title(name, fontsize=9, loc="left", pad=2, color=_INK)
        for panel in panels[width:]:
            panel.axis("off")
        for panel in (panels[rows - 1], panels[width - 1]):  # the last one of each column
            panel.tick_params(labelbottom=True)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # The page sizes it by its viewBox; sizes in points would not fit a phone.
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)


def _draw(panel: Any, plans: list[dict[str, Any]], executed: np.ndarray, i: int) -> None:
    starts = [plan["step"] for plan in plans] + [len(executed)]
    for number, plan in enumerate(plans):
        chunk = np.asarray(plan["actions"])[:, i]
        steps = plan["step"] + np.arange(len(chunk))
        flown = starts[number + 1] - plan["step"]
        colour = _PLANS[number % 2]
        panel.plot(steps[:flown], chunk[:flown], color=colour, lw=2.6, alpha=0.75)
        panel.plot(steps[flown - 1 :], chunk[flown - 1 :], color=colour, lw=1.2, ls=":")
        panel.axvline(plan["step"], color=_INK, lw=0.4, alpha=0.25)
    panel.plot(executed, color=_INK, lw=0.9)
    panel.set_ylim(-1.12, 1.12)
    panel.set_yticks((-1, 0, 1))
    panel.set_xlim(0, len(executed) + 4)
    panel.patch.set_alpha(0)
    panel.figure.patch.set_alpha(0)
    panel.tick_params(colors=_INK, width=0.5, length=2)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=_INK, linewidth=0.5)
