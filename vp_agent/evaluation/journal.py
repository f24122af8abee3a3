"""The journal: append-only JSONL, one line per finished episode, safe against kills."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vp_agent.errors import OutputExistsError, VPAgentError


class JournalError(VPAgentError, ValueError):
    """A journal that is damaged or belongs to another evaluation."""


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line that a kill cut short is left out.

    Raises:
        JournalError: a line before the last one is not JSON.
    """
    return _whole_lines(path)[0]


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records and the number of bytes they fill."""
    if not path.exists():
        return [], 0
    records, size = [], 0
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            whole = isinstance(record, dict) and line.endswith(b"\n")
        except ValueError:
            whole = False
        if whole:
            records.append(record)
            size += len(line)
        elif number < len(lines):
            raise JournalError(
                f"{path}, line {number} is damaged; expected one JSON object per line. "
                "Remove that line to fly its episode again"
            )
    return records, size


class Journal:
    """The journal of one evaluation, opened for appending by one process at a time."""

    def __init__(self, path: Path, *, identity: Mapping[str, Any]) -> None:
        """Opens or creates the journal at `path`.

        Args:
            path: The JSONL file.
            identity: What every line must agree on (agent, environment, sampler settings); it is
                written into each line.

        Raises:
            JournalError: the file holds episodes of another identity, or is damaged.
            OutputExistsError: another process is writing to it.
        """
        self.path = path
        self.identity = json.loads(json.dumps(dict(identity)))  # as it will be read back
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        try:
            self._lock()
            self.records, size = _whole_lines(path)
            self._check_identity()
            self._file.truncate(size)  # else the next line would continue the damaged one
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one episode; it is on the disk when this returns."""
        line = {**self.identity, **record}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(line)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputExistsError(
                f"another process is writing {self.path}; wait for it or choose another --out"
            ) from None

    def _check_identity(self) -> None:
        for record in self.records:
            for key, wanted in self.identity.items():
                if record.get(key) != wanted:
                    raise JournalError(
                        f"{self.path} holds episodes with {key} = {record.get(key)!r}, but this "
                        f"evaluation has {key} = {wanted!r}; choose another --out"
                    )
