"""One array of the latent cache: filled episode by episode, by one process or many."""

# N frames of the dataset, T frames of an episode, V views, C latent channels, h w latent
# H W pixels

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from vp_agent.errors import DatasetError
from vp_agent.train.dataset import Demonstrations

ARRAY, ABOUT = "moments.npy", "about.json"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A folder with one memory-mapped array, float16, a row per frame of the dataset.

    The folder appears when the array is whole. Until then it is a hidden one in which every
    process notes the episodes it has written, so that a killed one can go on.

    Attributes:
        folder: named by everything that its latents depend on.
        shape: (N, V, 2C, h, w).
        about: what the latents depend on, for people and for the check on opening.
        encode: makes the rows (T, V, 2C, h, w) from an episode's images (V, T, 3, H, W) and number.
    """

    folder: Path
    shape: tuple[int, ...]
    about: dict[str, Any]
    encode: Callable[[Tensor, int], Tensor]

    @property
    def _filling(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.filling")

    @property
    def is_whole(self) -> bool:
        return self.folder.is_dir()

    def done(self) -> set[int]:
        """Episodes that are written, by whichever process."""
        notes = "".join(path.read_text() for path in self._filling.glob("done-*.txt"))
        # A line that a full disk cut short does not count.
        return {int(episode) for episode in re.findall(r"^(\d+) done$", notes, re.MULTILINE)}

    def lacks(self, episode: int) -> bool:
        """Whether nobody has written the episode yet."""
        return not self.is_whole and episode not in self.done()

    def start(self) -> int:
        """Makes the empty file, or finds it; returns where its rows begin."""
        self._filling.mkdir(parents=True, exist_ok=True)
        # The same bytes whoever is first, so processes that start together cannot disagree.
        descriptor = os.open(self._filling / ARRAY, os.O_CREAT | os.O_RDWR, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            begin = file.tell()
            file.truncate(begin + 2 * int(np.prod(self.shape)))
        return begin

    def write(self, rows: np.ndarray, *, first: int, episode: int, begin: int, rank: int) -> None:
        """Stores an episode's rows from row `first` on, and then notes that they are there."""
        rows = np.ascontiguousarray(rows, np.float16)
        try:
            # Not through a memory map: on a shared file system that writes neighbours' pages, too.
            with open(self._filling / ARRAY, "r+b") as file:
                file.seek(begin + 2 * first * int(np.prod(self.shape[1:])))
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
            with open(self._filling / f"done-{rank}.txt", "a") as notes:
                notes.write(f"{episode} done\n")
                notes.flush()
                os.fsync(notes.fileno())
        except FileNotFoundError:
            if not self.is_whole:  # else another process had the same episode, and finished
                raise

    def finish(self) -> None:
        """Gives the folder its name."""
        try:
            about = {**self.about, "shape": self.shape}
            (self._filling / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
            os.rename(self._filling, self.folder)
        except OSError:
            if not self.is_whole:  # else another process finished at the same moment
                raise
        for notes in self.folder.glob("done-*.txt"):
            notes.unlink(missing_ok=True)

    def open(self) -> np.ndarray:
        """The whole array, memory-mapped.

        Raises:
            DatasetError: the folder holds other latents than its name says, or is damaged.
        """
        fix = f"delete it, and the next run makes it anew: rm -r {self.folder}"
        try:
            about = json.loads((self.folder / ABOUT).read_text())
            array = np.load(self.folder / ARRAY, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.folder} is damaged ({error}); {fix}") from error
        wrong = differences(self.about, about)
        if array.shape != self.shape:
            wrong.append(f"shape ({array.shape} instead of {self.shape})")
        if wrong:
            raise DatasetError(f"{self.folder} was made of another {', '.join(wrong)}; {fix}")
        return array


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what differs."""
    wanted = json.loads(json.dumps(wanted))
    return [name for name, value in wanted.items() if found.get(name) != value]


def fill(
    data: Demonstrations,
    shelves: Sequence[Shelf],
    *,
    rank: int = 0,
    world: int = 1,
    help_others: bool = False,
) -> None:
    """Encodes this process's episodes for the shelves that lack them.

    Every `world`-th episode is this process's, so `world` of them that start together share the
    work. With `help_others` it then does those that the others have not done, from the end: all
    shelves are whole afterwards, also where another process is late or dead. An episode is decoded
    once for all shelves.
    """
    begins = {i: shelf.start() for i, shelf in enumerate(shelves) if not shelf.is_whole}
    if not begins:
        return
    episodes = [int(episode) for episode in np.unique(data.episode_N)]
    mine = episodes[rank::world]
    if help_others:
        mine += [episode for episode in reversed(episodes) if episode not in set(mine)]
    for episode in tqdm(mine, desc="latents", unit="episode", disable=rank > 0):
        lacking = [i for i in begins if shelves[i].lacks(episode)]
        if not lacking:
            continue
        frames = data.episode_pixels(episode)
        first = int(np.flatnonzero(data.episode_N == episode)[0])
        for i in lacking:
            rows = shelves[i].encode(frames, episode).cpu().numpy()
            shelves[i].write(rows, first=first, episode=episode, begin=begins[i], rank=rank)
    for i in begins:
        if not shelves[i].is_whole and shelves[i].done() >= set(episodes):
            shelves[i].finish()
