"""The journal: append-only JSONL, one line per finished episode, safe against kills.

Several evaluators may share it: each appends under a lock, and claims an episode before flying it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from vp_agent.envs.families import FAMILIES
from vp_agent.evaluation.record import (
    ADDED,
    OLD_SCHEMAS,
    EpisodeRecord,
    Flight,
    Identity,
    JournalError,
    Key,
    parsed,
    record_of,
    written,
)
from vp_agent.files import read_object, write_json
from vp_agent.typed import Misfit, is_a

JOURNAL = "journal.jsonl"
SCHEDULE = "schedule.json"  # {task: numbers of its episodes}
CLAIMS = "claims.lock"
_AT_WORK = 2**60  # the byte of `CLAIMS` that every evaluator shares; episodes are below 2**56


def read_journal(path: Path) -> list[EpisodeRecord]:
    """All whole lines; a last line that a kill cut short is left out.

    Raises:
        JournalError: a line is no record, or was changed after it had been written.
    """
    return _whole_lines(path.read_bytes(), path, [])[0] if path.exists() else []


def settled(records: Iterable[EpisodeRecord]) -> list[EpisodeRecord]:
    """One line per episode, by task and number: an outcome before an infrastructure error."""
    chosen: dict[Key, EpisodeRecord] = {}
    for record in records:
        known = chosen.get(record.key)
        if known is None or known.success is None:
            chosen[record.key] = record
    return [chosen[key] for key in sorted(chosen)]


def read_schedule(folder: Path) -> set[Key]:
    """The episodes that a folder was ever asked for; empty if it does not say."""
    path = folder / SCHEDULE
    if not path.exists():
        return set()
    fix = "remove it: the same vp-agent eval with --resume writes it again"
    asked = read_object(path, error=JournalError, fix=fix)
    if not is_a(asked, dict[str, list[int]]):
        raise JournalError(f"{path} is damaged (not task: numbers of its episodes); {fix}")
    return {(task, number) for task, numbers in asked.items() for number in numbers}


def _whole_lines(
    content: bytes, path: Path, before: list[EpisodeRecord]
) -> tuple[list[EpisodeRecord], int]:
    """The records of `content`, which follows others, and the number of bytes they fill."""
    lines = content.split(b"\n")
    torn = len(lines.pop())  # a line without an end was cut short by a kill
    records: list[EpisodeRecord] = []
    for number, line in enumerate(lines, start=len(before) + 1):
        where = f"{path}, line {number}"
        record = parsed(line.removesuffix(b"\r"), where)
        last = records[-1] if records else before[-1] if before else record
        if record.schema in OLD_SCHEMAS and last.schema not in OLD_SCHEMAS:
            raise JournalError(
                f"{where} is of journal schema {record.schema}, without a checksum, after one of "
                f"schema {last.schema}; remove that line to fly its episode again"
            )
        records.append(record)
    return records, len(content) - torn


class Journal:
    """The journal of one evaluation, opened for appending by any number of processes.

    Attributes:
        records: every line so far, those of other processes up to the last `refresh`.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: Identity | None = None,
        policy: str | None = None,
        torch: str | None = None,
    ) -> None:
        """Opens or creates the journal at `path`.

        Args:
            path: The JSONL file.
            identity: What every line must agree on; without, lines of others can be added.
            policy: What flies, as the user typed it; other lines may have others.
            torch: Version of what plans with.

        Raises:
            JournalError: the file holds episodes of another identity, or is damaged.
        """
        self.path = path
        # as it will be read back
        self.identity = identity and Identity(**json.loads(json.dumps(asdict(identity))))
        self._policy, self._torch = policy, torch
        self.records: list[EpisodeRecord] = []
        self._outcomes: dict[Key, EpisodeRecord] = {}
        self._simulators: dict[str, dict[str, Any]] = {}
        self._read = 0  # bytes of `records`
        self._thread_lock = threading.Lock()
        self._file = open(path, "ab+")  # noqa: SIM115 (closed by __exit__)
        self._claims = open(path.with_name(CLAIMS), "ab+")  # noqa: SIM115
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def append(self, flight: Flight) -> EpisodeRecord:
        """Adds one episode; it is on the disk when this returns.

        Raises:
            JournalError: it was flown with another simulator than those that are there.
        """
        assert self.identity is not None
        try:
            made = record_of(flight, self.identity, policy=self._policy, torch=self._torch)
        except Misfit as error:
            raise JournalError(f"the episode {flight.key} {error}; it cannot be kept") from error
        return self.copy(made)

    def copy(self, record: EpisodeRecord) -> EpisodeRecord:
        """Adds a line as it is; returns it as it will be read."""
        line = written(record)
        record = parsed(line[:-1], f"the line of {record.key}")  # what is written can be read
        with self._locked(fcntl.LOCK_EX):
            self._read_on()
            check_simulator(record, self._simulators, str(self.path))
            self._file.truncate(self._read)  # else it would continue a line cut short
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._read_on()
        return record

    def schedule(self, keys: Iterable[Key], *, anew: bool = False) -> set[Key]:
        """Adds to the episodes that the folder was ever asked for; returns all of them.

        Args:
            keys: What is asked for now.
            anew: Forgets what an evaluation asked for that flew nothing.

        Raises:
            JournalError: it is not to be shared (`anew`), but others fly or have flown there.
        """
        with self._locked(fcntl.LOCK_EX):
            self._read_on()
            if anew:
                self._claim_alone()
            fcntl.lockf(self._claims, fcntl.LOCK_SH, 1, _AT_WORK)  # until our death
            asked = set() if anew else read_schedule(self.path.parent)
            asked |= {*keys, *(record.key for record in self.records)}
            tasks: dict[str, list[int]] = {}
            for task, number in sorted(asked):
                tasks.setdefault(task, []).append(number)
            write_json(self.path.with_name(SCHEDULE), tasks)
        return asked

    def refresh(self) -> list[EpisodeRecord]:
        """Reads what other processes have added; returns `records`."""
        with self._locked(fcntl.LOCK_SH):
            self._read_on()
            return self.records

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with self._thread_lock:
            fcntl.flock(self._file, kind)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def outcomes(self, keys: Iterable[Key]) -> list[EpisodeRecord]:
        """The lines of those of these episodes that ended as success or failure."""
        return [self._outcomes[key] for key in keys if key in self._outcomes]

    def claim(self, key: Key) -> bool:
        """Whether this process may fly the episode; others may not until `release` or our death."""
        try:
            # A byte range per episode: it is freed with the process, and needs no file of its own.
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self, key: Key) -> None:
        """Ends a claim."""
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _place(key))

    def close(self) -> None:
        """Closes the files, which ends all claims."""
        self._file.close()
        self._claims.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _claim_alone(self) -> None:
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _AT_WORK)
        except (BlockingIOError, PermissionError):
            alone = False
        else:
            alone = not self.records
        if not alone:
            raise JournalError(
                f"another evaluator is at work in {self.path.parent}; add --resume to fly beside "
                "it, or choose another --out"
            )

    def _read_on(self) -> None:
        self._file.seek(self._read)
        new, size = _whole_lines(self._file.read(), self.path, self.records)
        for record in new:
            if self.identity is not None:
                check_same(record, self.identity, str(self.path))
            check_simulator(record, self._simulators, str(self.path))
            if record.success is not None:
                self._outcomes[record.key] = record
        self.records += new
        self._read += size


def check_same(record: EpisodeRecord, identity: Identity, where: str) -> None:
    """Raises `JournalError` if a line is of another evaluation."""
    for name in (field.name for field in fields(Identity)):
        wanted, found = getattr(identity, name), getattr(record, name)
        later = name in ADDED and None in (wanted, found)
        # Lines of schema 2 say the same, without a checksum.
        same = name == "schema" and min(wanted, found) >= 2
        if wanted != found and not later and not same:
            raise JournalError(
                f"{where} holds episodes with {name} = {found!r}, but this "
                f"evaluation has {name} = {wanted!r}; choose another --out"
            )


def check_simulator(record: EpisodeRecord, seen: dict[str, dict[str, Any]], where: str) -> None:
    """Raises `JournalError` if the family of `env` was `seen` with another simulator; notes it."""
    if record.success is None or not record.simulator:
        return  # it did not come as far as to know it, or is of an earlier version
    env = record.env
    family = next((family.name for family in FAMILIES if env in family.environments), env)
    here = {name: getattr(record, name) for name in ("simulator", "gl", "standin")}
    known = seen.setdefault(family, here)
    if known != here:
        raise JournalError(
            f"{where}: {env} was flown with {here}, elsewhere with {known}; results of different "
            "simulators are not one result"
        )


def _place(key: Key) -> int:
    return int.from_bytes(hashlib.sha256(f"{key[0]}/{key[1]}".encode()).digest()[:7], "big")
