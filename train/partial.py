"""The folder `<out>.partial`, in which work that can be killed goes on where it was."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vp_agent.errors import ConfigError, OutputExistsError, VPAgentError
from vp_agent.files import check_makeable, write_json

LOCK = ".lock"


class BusyError(VPAgentError, RuntimeError):
    """A folder that another process works in."""


@contextmanager
def open_partial(out: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """The folder to work in, alone, until `out` can appear in one rename.

    `identity` is everything that changes the result, as JSON; work that goes on (`resume`) must
    have begun with the same.

    Raises:
        BusyError: another process works in it.
    """
    check_unused(out)
    partial = out.with_name(out.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    lock = FileLock(partial / LOCK, timeout=0)  # flock: it dies with its process
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"another process writes {partial}; wait for it or give another --out"
        ) from None
    try:
        check_unused(out)  # somebody may just have finished
        yield _begun(partial, identity, resume=resume)
    finally:
        lock.release()


def check_unused(out: Path) -> None:
    """Refuses an `out` that is there, be it as a link to nothing, or cannot be made."""
    if out.exists() or out.is_symlink():
        raise OutputExistsError(f"{out} exists already; give another --out or remove it")
    check_makeable(out)


def _begun(partial: Path, identity: Mapping[str, Any], *, resume: bool) -> Path:
    record = partial / "settings.json"
    if not record.exists():  # a kill before this file was written left nothing of use
        write_json(record, identity)
        return partial
    if not resume:
        raise OutputExistsError(
            f"{partial} holds unfinished work; add --resume to go on, or remove it"
        )
    before = json.loads(record.read_text())
    for name in sorted(identity.keys() | before.keys()):
        if identity.get(name) != before.get(name):
            raise ConfigError(
                f"cannot resume {partial}: {name} was {before.get(name)!r} and is now "
                f"{identity.get(name)!r}; use the old value or another --out"
            )
    return partial
