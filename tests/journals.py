"""Journals as an evaluation writes them, without flying."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vp_agent.evaluation.record import EpisodeRecord
from vp_agent.typed import fit

# What a line without an outcome does not say.
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("success", "steps", "horizon", "instruction", "plans", "plan_s")),
    **dict.fromkeys(("seconds_per_plan", "wall_s", "video", "video_sha256", "state_hash")),
    "simulator": {},
    "gl": None,
    "standin": False,
}


def line(task: str = "OpenDrawer", episode: int = 0, **changes: Any) -> dict[str, Any]:
    """One line; `changes` replaces or adds fields."""
    return {
        "schema": 3,
        "suite": "robocasa24-paper",
        "suite_version": 1,
        "agent": "c175780271633a8b",
        "policy": "runs/agent",
        "package": "0.1.0",
        "tier": "fast",
        "sampler": {"steps": 3, "guidance": 1.0},
        "blank_images": False,
        "fresh_env": True,
        "env_kwargs": {},
        "task": task,
        "env": f"RoboCasa-{task}-v0",
        "category": "Drawers" if "Drawer" in task else "Doors",
        "episode": episode,
        "seed": 100 + episode,
        "scene": [1, 1],
        "instruction": "open the drawer",
        "success": True,
        "error": None,
        "attempts": 1,
        "steps": 40,
        "horizon": 992,
        "plans": 2,
        "plan_s": [0.25, 0.75],
        "seconds_per_plan": 0.5,
        "wall_s": 1.0,
        "video": None,
        "video_sha256": None,
        "simulator": {"robocasa": "0.2.0"},
        "gl": "osmesa",
        "gpu": "none",
        "state_hash": f"{task}-{episode}",
        "standin": False,
        "started": "2026-11-24T00:00:00Z",
        **changes,
    }


def outcomes(task: str, string: str, **changes: Any) -> list[dict[str, Any]]:
    """Episodes 0.. of a task: "+" is a success, "-" a failure, "e" an infrastructure error."""
    made = []
    for episode, mark in enumerate(string):
        error = {**NOTHING, "error": "WorkerDied: signal 11"} if mark == "e" else {}
        made.append(line(task, episode, **{"success": mark == "+", **error, **changes}))
    return made


def flown(task: str, string: str, **changes: Any) -> list[EpisodeRecord]:
    """The same, read."""
    return [fit(EpisodeRecord, each) for each in outcomes(task, string, **changes)]


def sealed(values: dict[str, Any]) -> str:
    """The text of a line, with its checksum if it is of a schema that has one."""
    text = json.dumps(values)
    if values.get("schema") != 3:
        return text + "\n"
    digest = hashlib.sha256(text[:-1].encode()).hexdigest()
    return f'{text[:-1]}, "sha256": "{digest}"}}\n'


def evaluation(
    folder: Path, lines: Iterable[dict[str, Any]], *, scheduled: int | None = None
) -> Path:
    """A folder with these lines; `scheduled` is of its results.json, by default all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = list(lines)
    text = "".join(map(sealed, written))
    (folder / "journal.jsonl").write_text(text)
    results = {"scheduled": len(written) if scheduled is None else scheduled, "commit": "abc"}
    (folder / "results.json").write_text(json.dumps(results))
    return folder
