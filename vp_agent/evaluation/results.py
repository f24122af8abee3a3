"""results.json: the numbers of an evaluation, and what they were measured with."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vp_agent.evaluation.journal import Record, key_of, settled
from vp_agent.evaluation.statistics import per_category, per_task, summarise
from vp_agent.evaluation.suites import Episode
from vp_agent.files import write_json

RESULTS = "results.json"
_VERSIONS = ("vp-agent", "torch", "diffusers", "transformers", "numpy", "gymnasium")


def write_results(
    folder: Path,
    records: Sequence[Record],
    episodes: Sequence[Episode],
    *,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    wall_s: float,
) -> dict[str, Any]:
    """Writes results.json of these episodes into `folder` and returns its content."""
    wanted = {episode.key for episode in episodes}
    known = [record for record in settled(records) if key_of(record) in wanted]
    flown = [record for record in known if record["success"] is not None]
    errors = [record for record in known if record["success"] is None]
    tasks = per_task(known)
    results = {
        **summarise(known),
        "scheduled": len(episodes),
        "first_error": errors[0]["error"] if errors else None,
        "complete": len(flown) == len(episodes),
        "standin": any(record.get("standin") for record in flown),
        **facts,
        "seeds": [min(e.seed for e in episodes), max(e.seed for e in episodes)],
        "per_task": tasks,
        "per_category": per_category(tasks),
        "wall_s": round(wall_s, 1),
        "settings": dict(settings),
        "versions": _versions(flown),
        "machine": {"cpu_count": os.cpu_count(), "platform": platform.platform()},
        "commit": _commit(),
    }
    write_json(folder / RESULTS, results)
    return results


def _versions(records: Sequence[Record]) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, or a core without torch
            continue
    for record in records:
        found.update(record["simulator"])
    return found


def _commit() -> str | None:
    """The commit of the source tree, `-dirty` if it was changed; None outside a checkout."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
