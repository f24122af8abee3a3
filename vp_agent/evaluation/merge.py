"""`vp-agent merge`: several evaluation folders of the same evaluation as one."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.evaluation.inside import file_inside
from vp_agent.evaluation.journal import CLAIMS, JOURNAL, Journal, check_same, check_simulator
from vp_agent.evaluation.reading import Evaluation, read_evaluation, unsealed
from vp_agent.evaluation.record import EpisodeRecord, JournalError, Key
from vp_agent.evaluation.results import RESULTS, joined, numbers
from vp_agent.files import atomic_dir, write_json

_SAME = ("seed", "success", "steps", "state_hash")  # of an episode that two folders have


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Joins the journals of one evaluation that several machines have shared."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Evaluation folders."""
    out: Path
    """Folder to make: their journal, videos and traces together."""


def merge(settings: MergeSettings) -> list[EpisodeRecord]:
    """Writes the merged folder, whole or not at all; returns its lines.

    Its table is of all that any of the folders was asked for. If one of them does not say what
    that is, the merged folder does not either, and is not reportable.

    Raises:
        EvaluationError: a folder holds no evaluation that can be read.
        JournalError: the folders are not of one evaluation: another agent, suite, protocol or
            simulator version, or two outcomes of one episode.
        OutputExistsError: the output folder is not empty.
    """
    parts = [read_evaluation(folder) for folder in settings.folders]
    identity = parts[0].records[0].identity
    chosen: dict[Key, tuple[Path, EpisodeRecord]] = {}
    simulators: dict[str, dict[str, Any]] = {}
    for part in parts:
        for record in part.records:
            check_same(record, identity, str(part.folder / JOURNAL))
            check_simulator(record, simulators, str(part.folder))
            known = chosen.get(record.key)
            if known is not None and known[1].success is not None:
                _check_outcome(known, (part.folder, record))
            else:
                chosen[record.key] = part.folder, record
    # of the old schemas first, as in a journal that was gone on with
    lines = sorted(chosen.values(), key=lambda line: (line[1].schema, line[1].key))
    records = [record for _, record in lines]
    asked = [_asked(part) for part in parts]
    with atomic_dir(settings.out) as tmp:
        with Journal(tmp / JOURNAL) as journal:
            for folder, record in lines:
                journal.copy(record)
                _copy_files(record, folder, tmp)
            if all(asked):
                schedule = journal.schedule(set().union(*asked))
                known = joined([part.results for part in parts])
                write_json(
                    tmp / RESULTS, {**asdict(identity), **known, **numbers(records, schedule)}
                )
        (tmp / CLAIMS).unlink()
    return records


def describe(records: Sequence[EpisodeRecord], out: Path) -> str:
    """One line for a terminal."""
    errors = sum(record.success is None for record in records)
    old = unsealed(records)
    return (
        f"{len(records)} episodes, {errors} of them without an outcome, in {out}"
        f"{f' ({old})' if old else ''}; their table: vp-agent report {out}"
    )


def _asked(part: Evaluation) -> set[Key]:
    """What a folder was asked for; empty if it does not say."""
    if part.schedule or part.scheduled != len(part.records):
        return set(part.schedule)
    return {
        record.key for record in part.records
    }  # of an earlier version, which kept the number alone


def _check_outcome(one: tuple[Path, EpisodeRecord], other: tuple[Path, EpisodeRecord]) -> None:
    if other[1].success is None:
        return
    for name in _SAME:
        of_one, of_other = getattr(one[1], name), getattr(other[1], name)
        if of_one != of_other:
            raise JournalError(
                f"{one[0]} and {other[0]} both have {one[1].task} episode {one[1].episode}, "
                f"with {name} = {of_one!r} and {of_other!r}; fly them again on one machine to see "
                "which is right"
            )


def _copy_files(record: EpisodeRecord, source: Path, target: Path) -> None:
    if record.film is None or file_inside(source, record.film) is None:
        return  # not filmed, or marked as missing
    stem = Path(record.film).stem
    for name in (record.film, f"traces/{stem}.json", f"pairs/{stem}.mp4"):
        if (found := file_inside(source, name)) is not None:
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copy2(found, target / name)
