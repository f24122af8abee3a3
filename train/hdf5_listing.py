"""Which demonstrations an HDF5 file holds: their names, its masks, and what is damaged."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vp_agent.errors import DatasetError, closest, need
from vp_agent.train.hdf5_facts import task_of

LEAVE_OUT = "leave it out: --skip FILE.json, or --skip-bad"


class BadDemonstration(DatasetError):
    """One demonstration of a file that cannot be converted; the others may."""

    def __init__(self, place: str, reason: object) -> None:
        super().__init__(str(reason))
        self.place = place


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a file holds, by name."""

    task: str
    """The simulator's name of the task."""
    names: tuple[str, ...]
    """Everything in `data`: demonstrations by number, then what lies beside them."""
    chosen: tuple[str, ...]
    """Those that the mask lists; all without one."""
    masks: tuple[str, ...]


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Names the demonstration whose bytes HDF5 cannot read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:  # data, attributes, groups
        raise BadDemonstration(
            place,
            f"{place} is damaged ({error}); download the file again, or {LEAVE_OUT}",
        ) from error


@contextmanager
def opened_file(file: Path) -> Iterator[Any]:
    h5py: Any = need("h5py", extra="hdf5")
    if not file.is_file():
        raise DatasetError(f"no file {file}")
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise DatasetError(
            f"{file} is no HDF5 file or is cut off ({error}); download it again"
        ) from error
    with opened:
        yield opened


def list_demos(file: Path, *, mask: str | None = None) -> Listing:
    """What a file holds, and which of it a `mask` lists."""
    with opened_file(file) as opened:
        data, masks = data_of(opened, file), _masks_of(opened)
        names = sorted(data, key=number_of)
        return Listing(
            task=task_of(data, file),
            names=tuple(names),
            chosen=tuple(names if mask is None else _masked(masks, mask, names, file)),
            masks=tuple(sorted(masks)),
        )


def number_of(name: str) -> tuple[float, str]:
    is_demo = re.fullmatch(r"demo_(\d+)", name)
    return (int(is_demo[1]) if is_demo else float("inf"), name)


def _masks_of(opened: Any) -> Mapping[str, Any]:
    masks = opened.get("mask")
    return masks if hasattr(masks, "keys") else {}


def _masked(masks: Mapping[str, Any], mask: str, names: list[str], file: Path) -> list[str]:
    if mask not in masks:
        raise DatasetError(
            f"{file} has no mask {mask!r}{closest(mask, masks)}; masks: "
            f"{', '.join(sorted(masks)) or 'none'}"
        )
    with reading(f"{file} mask/{mask}"):
        if getattr(masks[mask], "shape", None) is None:  # a group, or h5py's Empty
            raise DatasetError(f"{file}: mask/{mask} is no list of demonstrations")
        listed = np.asarray(masks[mask][()]).reshape(-1).tolist()
    wanted = {name.decode(errors="replace") if isinstance(name, bytes) else name for name in listed}
    for name in wanted - set(names):
        raise DatasetError(f"{file}: mask/{mask} lists {name!r:.60}, which is not in data")
    return [name for name in names if name in wanted]


def data_of(opened: Any, file: Path) -> Any:
    data = opened.get("data")  # None as well for a link that leads nowhere
    if not hasattr(data, "keys"):
        raise DatasetError(
            f"{file} is not in robomimic's layout: no group 'data'; "
            "for a raw robosuite demo.hdf5 run robomimic's convert_robosuite.py first"
        )
    return data
