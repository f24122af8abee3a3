"""An evaluation folder as `report` and `compare` read it: checked once, one record per episode."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vp_agent.errors import VPAgentError
from vp_agent.evaluation.journal import JOURNAL, Key, key_of, read_journal, read_schedule, settled
from vp_agent.evaluation.results import RESULTS
from vp_agent.files import read_object

_SCHEMAS = (1, 2)
_NEEDED = ("env", "agent", "success", "steps", "plans", "wall_s", "video")
# What lines of schema 1 lack; their `env` was the task and their `seed` the key.
_SCHEMA_1 = {
    "schema": 1,
    "suite_version": 1,
    "policy": None,
    "package": None,
    "category": "",
    "scene": None,
    "error": None,
    "attempts": 1,
    "plan_s": None,
    "simulator": {},
    "gl": None,
    "gpu": None,
    "state_hash": None,
    "standin": False,
}


class EvaluationError(VPAgentError, ValueError):
    """A folder that holds no evaluation that can be read."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation.

    Attributes:
        name: short name of the folder or journal, as the user typed it.
        folder: where its videos and traces are.
        records: one per episode, in order of (task, episode).
        results: content of results.json; empty if there is none.
        schedule: every episode that was ever asked for; empty if the folder does not say.
    """

    name: str
    folder: Path
    records: list[dict[str, Any]]
    results: dict[str, Any]
    schedule: Set[Key] = frozenset()

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The records with an outcome; an error's says little about how it was flown."""
        return [record for record in self.records if record["success"] is not None]

    @property
    def scheduled(self) -> int | None:
        """How many episodes were asked for; None if the folder does not say."""
        if self.schedule:
            return len(self.schedule)
        if "seeds" in self.results and "scheduled" not in self.results:  # of schema 1
            first, last = self.results["seeds"]
            return last - first + 1
        return self.results.get("scheduled")


def read_evaluation(path: Path) -> Evaluation:
    """Reads an evaluation folder, or a journal by itself.

    Raises:
        EvaluationError: there is no journal, it is empty, or of another schema.
        JournalError: a line of it is damaged.
    """
    path = Path(path)
    alone = path.is_file()
    journal = path if alone else path / JOURNAL
    if not journal.is_file():
        raise EvaluationError(
            f"{path} holds no {JOURNAL}; expected the --out folder of `vp-agent eval`, or a journal"
        )
    lines = read_journal(journal)
    if not lines:
        raise EvaluationError(
            f"{journal} holds no finished episode; run the `vp-agent eval` that made it again, "
            "with --resume"
        )
    for number, line in enumerate(lines, start=1):
        _check(line, f"{journal}, line {number}")
    results = {} if alone else _results(path / RESULTS)
    records = settled(map(normalised, lines))
    if records[0]["schema"] == 1 and "seeds" in results:  # such a folder may hold more seeds
        first, last = results["seeds"]
        records = [record for record in records if first <= record["seed"] <= last]
    name = path.stem.removeprefix("journal-") if alone else path.resolve().name
    asked = set() if alone else read_schedule(path)
    return Evaluation(
        name=name,
        folder=path.parent if alone else path,
        records=records,
        results=results,
        schedule=asked | set(map(key_of, records)) if asked else asked,
    )


def read_evaluations(paths: Sequence[Path]) -> list[Evaluation]:
    """Several evaluations; those of equal name are told apart by the folders they lie in.

    Raises:
        EvaluationError, JournalError: as of `read_evaluation`.
    """
    found = [read_evaluation(path) for path in paths]
    names = [evaluation.name for evaluation in found]
    above = [Path(path).resolve().parents for path in paths]
    for level in range(min(map(len, above), default=0)):
        alike = {name for name, count in Counter(names).items() if count > 1}
        names = [
            f"{folders[level].name}/{name}" if name in alike else name
            for folders, name in zip(above, names, strict=True)
        ]
    return [replace(x, name=name) for x, name in zip(found, names, strict=True)]


def normalised(record: Mapping[str, Any]) -> dict[str, Any]:
    """A journal line of any schema with the fields of schema 2."""
    return {**_SCHEMA_1, **record}


def values(records: Iterable[Mapping[str, Any]], field: str) -> list[str]:
    """The different values of a field as text, where it is known."""
    found = {
        value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for value in (record.get(field) for record in records)
        if value is not None
    }
    return sorted(found)


def _check(line: Mapping[str, Any], where: str) -> None:
    schema = line.get("schema", 1)
    if schema not in _SCHEMAS:
        raise EvaluationError(
            f"{where} is of journal schema {schema!r}; this version of vp-agent reads "
            f"{' and '.join(map(str, _SCHEMAS))} (a newer one: pip install --upgrade vp-agent)"
        )
    needed = (*_NEEDED, "seed") if schema == 1 else (*_NEEDED, "suite", "task", "episode", "seed")
    missing = [name for name in needed if name not in line]
    if missing:
        raise EvaluationError(
            f"{where} has no {', '.join(missing)}; expected a journal of `vp-agent eval`"
        )


def _results(path: Path) -> dict[str, Any]:
    fix = "remove it: `vp-agent report` writes it again from the journal"
    return read_object(path, error=EvaluationError, fix=fix) if path.is_file() else {}
