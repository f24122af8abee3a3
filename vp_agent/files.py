"""Files that appear whole or not at all; links are followed, modes follow the umask."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vp_agent.errors import ConfigError, OutputExistsError, VPAgentError

MANIFEST = "manifest.json"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_mode(old: Path, new: Path) -> None:
    """What is replaced keeps its mode; what is new has the umask's, which `open` and `mkdir` ask.

    (tempfile's functions do not: theirs is for the owner alone.)
    """
    if old.exists():
        os.chmod(new, stat.S_IMODE(old.stat().st_mode))


def check_makeable(path: Path) -> None:
    """Refuses an output that cannot be made, before hours are spent on what goes there.

    Raises:
        OutputExistsError: something that is no folder is in its way.
        ConfigError: nothing may be written there.
    """
    at = Path(path)
    while not (at.exists() or at.is_symlink()):
        at = at.parent
    if not at.is_dir():
        raise OutputExistsError(f"{at} is no folder; {path} is to be one, give another path")
    if not os.access(at, os.W_OK | os.X_OK):
        raise ConfigError(f"nothing may be written in {at}; give another path than {path}")


@contextmanager
def atomic_dir(target: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A temporary sibling of `target` to fill; renamed to `target` when the block ends well.

    Of a link, the folder it points to is written. If the block raises (a full disk, a kill),
    `target` is as it was. A kill at the one moment between the two renames of a replacement leaves
    the old folder in `.NAME.old-*` beside it.

    Args:
        target: the folder to make.
        replaces: a file (or a pattern) by which an earlier result is known: only a folder that
            has it, or an empty one, is replaced.

    Raises:
        OutputExistsError: `target` is a file, or holds something else.
    """
    target = Path(os.path.realpath(target))
    if target.exists():
        if not target.is_dir():
            raise OutputExistsError(f"{target} is a file; a folder is to be made there")
        if any(target.iterdir()) and not (replaces and any(target.glob(replaces))):
            lacks = f" and has no {replaces}" if replaces else ""
            raise OutputExistsError(
                f"{target} is not empty{lacks}; remove it or choose another folder"
            )
    check_makeable(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = _sibling(target, "tmp")
    tmp.mkdir()
    try:
        yield tmp
        mode = stat.S_IMODE(tmp.stat().st_mode)  # the umask's; some libraries write files as 0600
        for path in sorted(x for x in tmp.rglob("*") if not x.is_symlink()):
            path.chmod(mode if path.is_dir() else mode & 0o666)
            _fsync(path)
        _keep_mode(target, tmp)
        _put_in_place(tmp, target)
        _fsync(target.parent)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{secrets.token_hex(4)}")


def _put_in_place(new: Path, target: Path) -> None:
    """Renames a folder to one that may be there, also while others do the same."""
    old = _sibling(target, "old")
    while True:
        try:
            os.rename(new, target)  # to nothing, or over an empty folder
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        old.mkdir(exist_ok=True)
        try:
            os.rename(target, old / secrets.token_hex(4))
        except FileNotFoundError:
            continue  # another process has just put it away
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write; renamed to it when the block ends well.

    Of a link, the file it points to is written. A device or a pipe is written as it is.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = target.with_name(f".{target.stem}.tmp-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield tmp
        _fsync(tmp)
        _keep_mode(target, tmp)
        os.replace(tmp, target)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; `path` holds the old text or the new, never a part."""
    with atomic_file(path) as tmp:
        tmp.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; `path` holds the old text or the new, never a part."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_object(path: Path, *, error: type[VPAgentError], fix: str) -> dict[str, Any]:
    """The JSON object in a file; `error` with the words of `fix` if there is none."""
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as damage:
        raise error(f"{path} is damaged ({damage}); {fix}") from damage
    if not isinstance(value, dict):
        raise error(f"{path} holds no JSON object; {fix}")
    return value


def holds_anything(folder: Path) -> bool:
    """Whether a run folder is used; a lock, or what a kill leaves first, is hidden and no use."""
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_tree(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below `folder` but the manifest itself."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256(path) for path in files if path.name != MANIFEST}
