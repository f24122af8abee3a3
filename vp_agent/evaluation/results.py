"""results.json: the numbers of an evaluation, and what they were measured with."""

import os
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vp_agent.evaluation.journal import settled
from vp_agent.evaluation.record import EpisodeRecord, Key
from vp_agent.evaluation.statistics import per_category, per_task, summarise
from vp_agent.files import write_json

RESULTS = "results.json"
_RUNNERS = ("env", "execute", "horizon", "settings", "versions", "machine", "commit")
_VERSIONS = ("vp-agent", "torch", "diffusers", "transformers", "numpy", "gymnasium")


def write_results(
    folder: Path,
    records: Sequence[EpisodeRecord],
    schedule: Collection[Key],
    *,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    wall_s: float,
) -> dict[str, Any]:
    """Writes results.json of the scheduled episodes into `folder` and returns its content."""
    results = {
        **numbers(records, schedule),
        **facts,
        "wall_s": round(wall_s, 1),
        "settings": dict(settings),
        "versions": _versions(records),
        "machine": {"cpu_count": os.cpu_count(), "platform": platform.platform()},
        "commit": _commit(),
    }
    write_json(folder / RESULTS, results)
    return results


def numbers(records: Sequence[EpisodeRecord], schedule: Collection[Key]) -> dict[str, Any]:
    """What results.json counts: the lines of a journal, held against what was asked for."""
    wanted = set(schedule)
    known = [record for record in settled(records) if record.key in wanted]
    errors = [record.error for record in known if record.success is None]
    seeds = [record.seed for record in known]
    tasks = per_task(known)
    return {
        **summarise(known),
        "scheduled": len(wanted),
        "first_error": errors[0] if errors else None,
        "complete": len(known) - len(errors) == len(wanted),
        "standin": any(record.standin for record in known),
        "seeds": [min(seeds), max(seeds)],
        "per_task": tasks,
        "per_category": per_category(tasks),
    }


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What only the runners knew, of several results.json: what they agree on, else all of it."""
    known = [{name: part[name] for name in _RUNNERS if name in part} for part in parts]
    return _joined([part for part in known if part]) if any(known) else {}


def _joined(values: Sequence[Any]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, Mapping) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: _joined([v[name] for v in values if name in v]) for name in names}
    return ", ".join(dict.fromkeys(map(str, values)))


def _versions(records: Sequence[EpisodeRecord]) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, or a core without torch
            continue
    for record in records:
        found.update(record.simulator)
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
