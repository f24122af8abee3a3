"""`vp-agent merge`: several evaluation folders of the same evaluation as one."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.errors import OutputExistsError
from vp_agent.evaluation.journal import (
    JOURNAL,
    Journal,
    JournalError,
    Key,
    Record,
    check_same,
    key_of,
    read_journal,
    settled,
)
from vp_agent.files import atomic_dir

# What lines of one evaluation agree on, apart from the simulator's versions per environment.
IDENTITY = (
    *("schema", "suite", "suite_version", "agent", "tier", "sampler", "batch", "package"),
    *("blank_images", "fresh_env", "env_kwargs"),
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

    Raises:
        JournalError: the folders are not of one evaluation: another agent, suite, protocol or
            simulator version, or two outcomes of one episode.
        OutputExistsError: the output folder is not empty.
    """
    if settings.out.exists() and any(settings.out.iterdir()):
        raise OutputExistsError(f"{settings.out} is not empty; choose another --out")
    journals = {folder: _lines(folder) for folder in settings.folders}
    first = next(iter(journals.values()))[0]
    identity = {name: first[name] for name in IDENTITY if name in first}
    chosen: dict[Key, tuple[Path, Record]] = {}
    versions: dict[str, dict[str, Any]] = {}
    for folder, records in journals.items():
        for record in records:
            check_same(record, identity, str(folder / JOURNAL))
            _check_versions(record, versions, folder)
            known = chosen.get(key_of(record))
            if known is not None and known[1]["success"] is not None:
                _check_outcome(known, (folder, record))
            else:
                chosen[key_of(record)] = folder, record
    lines = [chosen[key] for key in sorted(chosen)]
    with atomic_dir(settings.out) as tmp:
        with Journal(tmp / JOURNAL, identity={}) as journal:
            for folder, record in lines:
                journal.append(record)
                _copy_files(record, folder, tmp)
        (tmp / "claims.lock").unlink()
    return [record for _, record in lines]


def describe(records: Sequence[Record], out: Path) -> str:
    """One line for a terminal."""
    errors = sum(record["success"] is None for record in records)
    return (
        f"{len(records)} episodes, {errors} of them without an outcome, in {out}; "
        f"their table: vp-agent report {out}"
    )


def _lines(folder: Path) -> list[Record]:
    records = settled(read_journal(folder / JOURNAL))
    if not records:
        raise JournalError(
            f"{folder} holds no {JOURNAL} with episodes; give --out of vp-agent eval"
        )
    return records


def _check_versions(record: Record, seen: dict[str, dict[str, Any]], folder: Path) -> None:
    if record["success"] is None:
        return  # it may not have come as far as to know them
    here = {"simulator": record["simulator"], "standin": record.get("standin", False)}
    known = seen.setdefault(record["env"], here)
    if known != here:
        raise JournalError(
            f"{folder}: {record['env']} was flown with {here}, elsewhere with {known}; results of "
            "different simulators are not one result"
        )


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
