"""The report: one self-contained HTML page of an evaluation."""

import base64
import json
from pathlib import Path
from typing import Any

from vp_agent.errors import VPAgentError
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import JOURNAL, RESULTS
from vp_agent.evaluation.statistics import summarise


class ReportError(VPAgentError, ValueError):
    """An evaluation folder that cannot be shown."""


def write_report(folder: Path) -> Path:
    """Writes `report.html` into an evaluation folder and returns its path.

    The page holds its videos and plots, so it can be mailed or opened without a network.

    Raises:
        ReportError: the folder holds no finished evaluation.
    """
    folder = Path(folder)
    if not (folder / RESULTS).is_file():
        raise ReportError(
            f"{folder} holds no {RESULTS}; expected the --out folder of a finished "
            "`vp-agent eval` (if it was stopped, run it again with --resume)"
        )
    results = json.loads((folder / RESULTS).read_text())
    first, last = results["seeds"]
    records = sorted(
        (r for r in read_journal(folder / JOURNAL) if first <= r["seed"] <= last),
        key=lambda record: record["seed"],
    )
    page = _template().render(
        results=results,
        summary=summarise(records),
        records=records,
        cards=[_card(folder, record) for record in records if record["video"]],
    )
    path = folder / "report.html"
    partial = folder / ".report.html.partial"
    partial.write_text(page)
    partial.replace(path)
    return path


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vp_agent.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda text: str(text)[:12]
    return environment.get_template("report.html")


def _card(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    from markupsafe import Markup

    from vp_agent.report.plots import action_plot

    trace = json.loads((folder / f"traces/seed-{record['seed']:05d}.json").read_text())
    video = base64.b64encode((folder / record["video"]).read_bytes()).decode()
    return {"record": record, "video": video, "plot": Markup(action_plot(trace))}
