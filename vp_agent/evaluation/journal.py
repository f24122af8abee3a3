"""The journal: append-only JSONL, one line per finished episode, safe against kills.

Several evaluators may share it: each appends under a lock, and claims an episode before flying it.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vp_agent.envs.families import FAMILIES
from vp_agent.errors import VPAgentError
from vp_agent.files import read_object, write_json

JOURNAL = "journal.jsonl"
SCHEDULE = "schedule.json"  # {task: numbers of its episodes}
CLAIMS = "claims.lock"
SCHEMA = 2
Record = dict[str, Any]
Key = tuple[str, int]  # task, episode
_ADDED = ("device", "threads")  # to the identity; the lines of earlier versions lack them
_AT_WORK = 2**60  # the byte of `CLAIMS` that every evaluator shares; episodes are below 2**56


class JournalError(VPAgentError, ValueError):
    """A journal that is damaged or belongs to another evaluation."""


def read_journal(path: Path) -> list[Record]:
    """All whole lines; a last line that a kill cut short is left out.

    Raises:
        JournalError: a line before the last one is not JSON.
    """
    return _whole_lines(path.read_bytes(), path)[0] if path.exists() else []


def settled(records: Iterable[Record]) -> list[Record]:
    """One line per episode, by task and number: an outcome before an infrastructure error."""
    chosen: dict[Key, Record] = {}
    for record in records:
        known = chosen.get(key_of(record))
        if known is None or known["success"] is None:
            chosen[key_of(record)] = record
    return [chosen[key] for key in sorted(chosen)]


def key_of(record: Record) -> Key:
    return record["task"], record["episode"]


def read_schedule(folder: Path) -> set[Key]:
    """The episodes that a folder was ever asked for; empty if it does not say."""
    path = folder / SCHEDULE
    if not path.exists():
        return set()
    fix = "remove it: the same vp-agent eval with --resume writes it again"
    asked = read_object(path, error=JournalError, fix=fix)
    return {(task, number) for task, numbers in asked.items() for number in numbers}


def _whole_lines(content: bytes, path: Path, line: int = 0) -> tuple[list[Record], int]:
    """The records of `content`, which follows `line` lines, and the number of bytes they fill."""
    records, size = [], 0
    lines = content.splitlines(keepends=True)
    for number, text in enumerate(lines, start=1):
        try:
            record = json.loads(text)
            whole = isinstance(record, dict) and text.endswith(b"\n")
        except ValueError:
            whole = False
        if whole:
            records.append(_modern(record))
            size += len(text)
        elif number < len(lines):
            raise JournalError(
                f"{path}, line {line + number} is damaged; expected one JSON object per line. "
                "Remove that line to fly its episode again"
            )
    return records, size


def _modern(record: Record) -> Record:
    """A line of schema 1, of one environment and keyed by the seed, in today's words."""
    if "schema" in record or "env" not in record or "seed" not in record:
        return record
    old = {"task": record["env"], "episode": record["seed"], "category": "", "error": None}
    return {**old, "suite": f"env:{record['env']}", "suite_version": 1, **record}


class Journal:
    """The journal of one evaluation, opened for appending by any number of processes.

    Attributes:
        records: every line so far, those of other processes up to the last `refresh`.
    """

    def __init__(
        self, path: Path, *, identity: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Opens or creates the journal at `path`.

        Args:
            path: The JSONL file.
            identity: What every line must agree on (agent, suite, sampler settings); it is
                written into each line.
            facts: Written into each line too; other lines may have others.

        Raises:
            JournalError: the file holds episodes of another identity, or is damaged.
        """
        self.path = path
        self.identity = json.loads(json.dumps(dict(identity)))  # as it will be read back
        self._facts = dict(facts or {})
        self.records: list[Record] = []
        self._outcomes: dict[Key, Record] = {}
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

    def append(self, record: Mapping[str, Any]) -> Record:
        """Adds one episode; it is on the disk when this returns.

        Raises:
            JournalError: it was flown with another simulator than those that are there.
        """
        line = {**self.identity, **self._facts, **record}
        with self._thread_lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._read_on()
                check_simulator(line, self._simulators, str(self.path))
                self._file.truncate(self._read)  # else it would continue a line cut short
                self._file.write(json.dumps(line).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
                self._read_on()
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        return line

    def schedule(self, keys: Iterable[Key], *, anew: bool = False) -> set[Key]:
        """Adds to the episodes that the folder was ever asked for; returns all of them.

        Args:
            keys: What is asked for now.
            anew: Forgets what an evaluation asked for that flew nothing.

        Raises:
            JournalError: it is not to be shared (`anew`), but others fly or have flown there.
        """
        with self._thread_lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._read_on()
                if anew:
                    self._claim_alone()
                fcntl.lockf(self._claims, fcntl.LOCK_SH, 1, _AT_WORK)  # until our death
                asked = set() if anew else read_schedule(self.path.parent)
                asked |= {*keys, *map(key_of, self.records)}
                tasks: dict[str, list[int]] = {}
                for task, number in sorted(asked):
                    tasks.setdefault(task, []).append(number)
                write_json(self.path.with_name(SCHEDULE), tasks)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        return asked

    def refresh(self) -> list[Record]:
        """Reads what other processes have added; returns `records`."""
        with self._thread_lock:
            fcntl.flock(self._file, fcntl.LOCK_SH)
            try:
                self._read_on()
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            return self.records

    def outcomes(self, keys: Iterable[Key]) -> list[Record]:
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
        new, size = _whole_lines(self._file.read(), self.path, len(self.records))
        for record in new:
            check_same(record, self.identity, str(self.path))
            check_simulator(record, self._simulators, str(self.path))
            if record["success"] is not None:
                self._outcomes[key_of(record)] = record
        self.records += new
        self._read += size


def check_same(record: Record, identity: Mapping[str, Any], where: str) -> None:
    """Raises `JournalError` if a line is of another evaluation."""
    for key, wanted in identity.items():
        if key in _ADDED and key not in record:
            continue
        if record.get(key) != wanted:
            raise JournalError(
                f"{where} holds episodes with {key} = {record.get(key)!r}, but this "
                f"evaluation has {key} = {wanted!r}; choose another --out"
            )


def check_simulator(record: Record, seen: dict[str, dict[str, Any]], where: str) -> None:
    """Raises `JournalError` if the family of `env` was `seen` with another simulator; notes it."""
    if record["success"] is None or "simulator" not in record:
        return  # it did not come as far as to know it, or is of an earlier version
    env = record["env"]
    family = next((family.name for family in FAMILIES if env in family.environments), env)
    here = {name: record.get(name) for name in ("simulator", "gl", "standin")}
    known = seen.setdefault(family, here)
    if known != here:
        raise JournalError(
            f"{where}: {env} was flown with {here}, elsewhere with {known}; results of different "
            "simulators are not one result"
        )


def _place(key: Key) -> int:
    return int.from_bytes(hashlib.sha256(f"{key[0]}/{key[1]}".encode()).digest()[:7], "big")
