"""Content hashes of a dataset's files: one that was altered in place, at equal size, is noticed.

Every byte is read once (xxh3, 128 bits: as fast as the disk, up to 3 GB/s in memory) and the hash
remembered in the dataset's folder until the file's size, times or inode change; the time of the
last change of state (ctime) cannot be set back. In a folder that may not be written, every start
of a training reads every byte again.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vp_agent.errors import need
from vp_agent.files import write_json
from vp_agent.train.dataset_files import Unreadable

MEMO = "vp_cache/contents.json"
_BLOCK = 1 << 22


def content_files(root: Path) -> list[Path]:
    """What holds a dataset's rows and pictures, and where in the videos an episode lies."""
    kinds = (("videos", "*.mp4"), ("data", "*.parquet"), ("meta/episodes", "*.parquet"))
    return sorted(path for folder, kind in kinds for path in (root / folder).rglob(kind))


def content_hashes(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Path within `root` -> hash of a file's bytes.

    Raises:
        DatasetError: one cannot be read.
    """
    known = _remembered(root)
    stamps = {path: _stamp(path) for path in files}
    names = {path: path.relative_to(root).as_posix() for path in stamps}
    unread = [path for path in stamps if known.get(names[path], [None])[0] != stamps[path]]
    for path in tqdm(unread, desc="read the dataset", unit="file", leave=False, delay=2):
        known[names[path]] = [stamps[path], _hash(path)]
    if unread:
        with contextlib.suppress(OSError):  # a folder that may not be written
            write_json(root / MEMO, known)
    return {name: known[name][1] for name in names.values()}


def _remembered(root: Path) -> dict[str, Any]:
    try:
        memo = json.loads((root / MEMO).read_text())
    except (OSError, ValueError):  # none yet, or not ours: every file is read
        return {}
    pairs = memo.items() if isinstance(memo, dict) else ()
    return {name: x for name, x in pairs if isinstance(x, list) and len(x) == 2}


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _hash(path: Path) -> str:
    xxhash: Any = need("xxhash", extra="lerobot")
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise Unreadable(path, f"cannot be read ({error})") from error
    return digest.hexdigest()
