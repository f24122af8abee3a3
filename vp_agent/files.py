"""Files that appear whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vp_agent.errors import OutputExistsError, VPAgentError

MANIFEST = "manifest.json"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_dir(target: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A temporary sibling of `target` to fill; renamed to `target` when the block ends well.

    If the block raises (a full disk, a kill), `target` is as it was. A kill at the one moment
    between the two renames of a replacement leaves the old folder in `.NAME.old-*` beside it.

    Args:
        target: the folder to make.
        replaces: a file (or a pattern) by which an earlier result is known: only a folder that
            has it, or an empty one, is replaced.

    Raises:
        OutputExistsError: `target` is a file, or holds something else.
    """
    target = Path(target)
    if target.exists():
        if not target.is_dir():
            raise OutputExistsError(f"{target} is a file; a folder is to be made there")
        if any(target.iterdir()) and not (replaces and any(target.glob(replaces))):
            lacks = f" and has no {replaces}" if replaces else ""
            raise OutputExistsError(
                f"{target} is not empty{lacks}; remove it or choose another folder"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        yield tmp
        for path in sorted(tmp.rglob("*")):
            _fsync(path)
        os.chmod(tmp, 0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
            os.rename(target, old / target.name)
            os.rename(tmp, target)
            shutil.rmtree(old)
        else:
            os.rename(tmp, target)
        _fsync(target.parent)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; `path` holds the old text or the new, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, tmp = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:
        Path(tmp).unlink(missing_ok=True)
        raise


def read_object(path: Path, *, error: type[VPAgentError], fix: str) -> dict[str, Any]:
    """The JSON object in a file; `error` with the words of `fix` if there is none."""
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as damage:
        raise error(f"{path} is damaged ({damage}); {fix}") from damage
    if not isinstance(value, dict):
        raise error(f"{path} holds no JSON object; {fix}")
    return value


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
