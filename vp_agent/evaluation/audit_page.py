"""The audit's page: both groups of failures, plan by plan, in one file that needs no network."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from vp_agent.evaluation.film import compose
from vp_agent.evaluation.inside import file_inside
from vp_agent.evaluation.pairs import Pair, read_pairs
from vp_agent.files import write_text

_GAP_PX = 12
_GROUPS = (
    (
        "video_elsewhere",
        "The video was wrong: it began elsewhere",
        "More plans than in successful episodes do not even show in their first frame what the "
        "agent was given to see.",
    ),
    (
        "video_followed",
        "The video was wrong: it was followed",
        "The arm did what was imagined, as closely as in successful episodes, and that did not "
        "solve the task.",
    ),
    (
        "actions",
        "The actions were not right",
        "The videos begin where the world is, and more of them than in successful episodes did "
        "not come true. Look whether they could have.",
    ),
    (
        "no_verdict",
        "No verdict",
        "No threshold, or no plan of the episode was executed to its last frame.",
    ),
    ("succeeded", "For comparison: successes", "The thresholds come from these."),
)


def write_page(folder: Path, results: dict[str, Any], *, show: int) -> Path:
    """Writes `audit.html` into an evaluation folder and returns its path.

    Args:
        folder: with the recordings.
        results: what `audit` returns.
        show: episodes of each group: the first ones.
    """
    episodes = {episode["name"]: episode for episode in results["episodes"]}
    names = {
        **results,
        "succeeded": [name for name, episode in episodes.items() if episode["success"]],
    }
    groups = [
        {
            "title": title,
            "text": text,
            "names": names[key],
            "cards": [_card(folder, episodes[name], results) for name in names[key][:show]],
        }
        for key, title, text in _GROUPS
        if names[key]
    ]
    environment = Environment(
        loader=PackageLoader("vp_agent.evaluation", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("audit.html").render(results=results, groups=groups)
    path = folder / "audit.html"
    write_text(path, page)
    return path


def _card(folder: Path, episode: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    plans = sorted(episode["plans"], key=lambda plan: plan["drift"])
    sheets = {}
    if plans:  # the same two in every group
        chosen = {"median": plans[len(plans) // 2]["plan"], "largest": plans[-1]["plan"]}
        pairs: dict[int, list[Pair]] = {plan: [] for plan in chosen.values()}
        for pair in read_pairs(folder, episode["name"]):
            if pair.plan in pairs:
                pairs[pair.plan].append(pair)
        sheets = {title: _sheet(pairs[plan]) for title, plan in chosen.items()}
    film = file_inside(folder, f"videos/{episode['name']}.mp4")
    thresholds = results["thresholds_db"] or {"drift": 1.0}
    highest = max([plan["drift"] for plan in plans] + [2 * thresholds["drift"]])
    return {
        **episode,
        "film": None if film is None else base64.b64encode(film.read_bytes()).decode(),
        "sheets": sheets,
        "highest": highest,
    }


def _sheet(pairs: list[Pair]) -> str:
    """The pairs of a plan from left to right, as a JPEG in base64."""
    columns = []
    for pair in pairs:
        executed = (f"EXECUTED step {pair.step}", pair.executed)
        imagined = (f"IMAGINED plan {pair.plan + 1}, frame {pair.frame}", pair.imagined)
        column = compose(executed, imagined)
        gap = np.full((len(column), _GAP_PX, 3), 255, np.uint8)
        columns += [column, gap]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns[:-1], axis=1)).save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()
