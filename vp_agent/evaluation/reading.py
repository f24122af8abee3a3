"""An evaluation folder as `report` and `compare` read it: checked once, one record per episode."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vp_agent.evaluation.journal import JOURNAL, read_journal, read_schedule, settled
from vp_agent.evaluation.record import OLD_SCHEMAS, EpisodeRecord, EvaluationError, Key
from vp_agent.evaluation.results import RESULTS
from vp_agent.files import read_object
from vp_agent.typed import brief, is_a

# What is read of results.json, which others may have written.
_RESULTS: dict[str, Any] = {
    "seeds": list[int],
    "scheduled": int | None,
    "settings": dict[str, Any],
    "versions": dict[str, str],
    "machine": dict[str, Any],
    "commit": str | None,
    "execute": int | str | None,
    "horizon": int | str | None,
}


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
    records: list[EpisodeRecord]
    results: dict[str, Any]
    schedule: Set[Key] = frozenset()

    @property
    def ended(self) -> list[EpisodeRecord]:
        """The records with an outcome; an error's says little about how it was flown."""
        return [record for record in self.records if record.success is not None]

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
        EvaluationError: there is no journal, it is empty, or results.json is damaged.
        JournalError: a line of it is damaged, changed or of another schema.
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
    results = {} if alone else _results(path / RESULTS)
    records = settled(lines)
    if records[0].schema == 1 and "seeds" in results:  # such a folder may hold more seeds
        first, last = results["seeds"]
        records = [record for record in records if first <= record.seed <= last] or records
    name = path.stem.removeprefix("journal-") if alone else path.resolve().name
    asked = set() if alone else read_schedule(path)
    return Evaluation(
        name=name,
        folder=path.parent if alone else path,
        records=records,
        results=results,
        schedule=asked | {record.key for record in records} if asked else asked,
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


def unsealed(records: Iterable[EpisodeRecord]) -> str:
    """What to say of lines of earlier versions, which have no checksum; "" if all have one."""
    old = sorted({record.schema for record in records} & set(OLD_SCHEMAS))
    if not old:
        return ""
    named = " and ".join(map(str, old))
    return f"lines of journal schema {named} have no checksum: a changed one would not be noticed"


def values(records: Iterable[EpisodeRecord], field: str) -> list[str]:
    """The different values of a field as text, where it is known."""
    found = {
        value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for value in (getattr(record, field) for record in records)
        if value is not None
    }
    return sorted(found)


def _results(path: Path) -> dict[str, Any]:
    fix = "remove it: `vp-agent report` writes it again from the journal"
    if not path.is_file():
        return {}
    results = read_object(path, error=EvaluationError, fix=fix)
    for name, kind in _RESULTS.items():
        value = results.get(name)
        pair = name != "seeds" or (isinstance(value, list) and len(value) == 2)
        if name in results and not (is_a(value, kind) and pair):
            raise EvaluationError(f"{path} is damaged ({name} is {brief(value)}); {fix}")
    return results
