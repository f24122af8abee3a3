"""`vp-agent merge`: several evaluation folders of the same evaluation as one."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.evaluation.journal import (
    CLAIMS,
    JOURNAL,
    Journal,
    JournalError,
    Key,
    Record,
    check_same,
    check_simulator,
    key_of,
)
from vp_agent.evaluation.reading import Evaluation, read_evaluation
from vp_agent.evaluation.results import RESULTS, joined, numbers
from vp_agent.files import atomic_dir, write_json

# What lines of one evaluation agree on, apart from the simulators.
IDENTITY = (
    *("schema", "suite", "suite_version", "agent", "tier", "sampler", "batch", "package"),
    *("blank_images", "fresh_env", "env_kwargs", "device", "threads"),
)
_SAME = ("seed", "success", "steps", "state_hash")  # of an episode that two folders have


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Joins the journals of one evaluation that several machines have shared."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Evaluation folders."""
    out: Path
    """Folder to make: their journal, videos and traces together."""


def merge(settings: MergeSettings) -> list[Record]:
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
    first = parts[0].records[0]
    identity = {name: first[name] for name in IDENTITY if name in first}
    chosen: dict[Key, tuple[Path, Record]] = {}
    simulators: dict[str, dict[str, Any]] = {}
    for part in parts:
        for record in part.records:
            check_same(record, identity, str(part.folder / JOURNAL))
            check_simulator(record, simulators, str(part.folder))
            known = chosen.get(key_of(record))
            if known is not None and known[1]["success"] is not None:
                _check_outcome(known, (part.folder, record))
            else:
                chosen[key_of(record)] = part.folder, record
    lines = [chosen[key] for key in sorted(chosen)]
    records = [record for _, record in lines]
    asked = [_asked(part) for part in parts]
    with atomic_dir(settings.out) as tmp:
        with Journal(tmp / JOURNAL, identity={}) as journal:
            for folder, record in lines:
                journal.append(record)
                _copy_files(record, folder, tmp)
            if all(asked):
                schedule = journal.schedule(set().union(*asked))
                known = joined([part.results for part in parts])
                write_json(tmp / RESULTS, {**identity, **known, **numbers(records, schedule)})
        (tmp / CLAIMS).unlink()
    return records


def describe(records: Sequence[Record], out: Path) -> str:
    """One line for a terminal."""
    errors = sum(record["success"] is None for record in records)
    return (
        f"{len(records)} episodes, {errors} of them without an outcome, in {out}; "
        f"their table: vp-agent report {out}"
    )


def _asked(part: Evaluation) -> set[Key]:
    """What a folder was asked for; empty if it does not say."""
    if part.schedule or part.scheduled != len(part.records):
        return set(part.schedule)
    return set(map(key_of, part.records))  # of an earlier version, which kept the number alone


def _check_outcome(one: tuple[Path, Record], other: tuple[Path, Record]) -> None:
    if other[1]["success"] is None:
        return
    for name in _SAME:
        if one[1].get(name) != other[1].get(name):
            raise JournalError(
                f"{one[0]} and {other[0]} both have {one[1]['task']} episode {one[1]['episode']}, "
                f"with {name} = {one[1].get(name)!r} and {other[1].get(name)!r}; fly them again "
                "on one machine to see which is right"
            )


def _copy_files(record: Record, source: Path, target: Path) -> None:
    video = record.get("video") or ""
    if not (source / video).is_file():
        return  # not filmed, or marked as missing
    stem = Path(video).stem
    for name in (video, f"traces/{stem}.json", f"pairs/{stem}.mp4"):
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copy2(source / name, target / name)
