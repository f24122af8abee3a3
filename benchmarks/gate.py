"""What opening a dataset costs: the gate's checks on 1,000 episodes, one by one.

python benchmarks/gate.py --folder /tmp/gate
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from vp_agent.train.contents import MEMO, content_files, content_hashes
from vp_agent.train.dataset_files import DatasetFiles
from vp_agent.train.demonstrations import Episode, write_dataset
from vp_agent.train.gate import GATE_CHECKS, open_dataset

DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIEWS = ("gripper", "left", "right")


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    folder: Path
    """Where the datasets are made; must not exist."""
    copies: int = 100
    """Of the episodes of a video file: files of every view."""
    episodes_per_file: int = 10
    steps: int = 120
    size: int = 64


def episode(steps: int, size: int, rng: np.random.Generator) -> Episode:
    """A square that moves, and random numbers."""

    def frames():
        for step in range(steps):
            image = np.full((size, size, 3), 90, np.uint8)
            image[step % size // 2 :][:8, 10:18] = 250
            frame: dict[str, np.ndarray] = {f"observation.images.{view}": image for view in VIEWS}
            frame["action"] = rng.uniform(-1, 1, 7).astype(np.float32)
            yield frame | {"observation.state": rng.uniform(-1, 1, 8).astype(np.float32)}

    return Episode(task="move the square", frames=frames(), facts={})


def multiply(small: Path, large: Path, copies: int) -> None:
    """`small` many times over, every copy with video files of its own."""
    shutil.copytree(small, large)
    rows, table = pd.read_parquet(small / DATA), pd.read_parquet(small / EPISODES)
    all_rows, all_episodes = [], []
    for copy in range(copies):
        more, listed = rows.copy(), table.copy()
        more["index"] += copy * len(rows)
        for frame in (more, listed):
            frame["episode_index"] += copy * len(table)
        for end in ("from", "to"):
            listed[f"dataset_{end}_index"] += copy * len(rows)
        for view in VIEWS:
            listed[f"videos/observation.images.{view}/file_index"] = copy
            folder = large / f"videos/observation.images.{view}/chunk-000"
            if copy:
                os.link(folder / "file-000.mp4", folder / f"file-{copy:03d}.mp4")
        all_rows.append(more)
        all_episodes.append(listed)
    pd.concat(all_rows).to_parquet(large / DATA, index=False)
    pd.concat(all_episodes).to_parquet(large / EPISODES, index=False)
    path = large / "meta/info.json"
    info = json.loads(path.read_text())
    info |= {"total_episodes": copies * len(table), "total_frames": copies * len(rows)}
    path.write_text(json.dumps(info))


def main(settings: Settings) -> None:
    small, large = settings.folder / "small", settings.folder / "large"
    rng = np.random.default_rng(0)
    write_dataset(
        small,
        name="small",
        episodes=[
            episode(settings.steps, settings.size, rng) for _ in range(settings.episodes_per_file)
        ],
        names={
            "action": [f"a{i}" for i in range(7)],
            "observation.state": [f"s{i}" for i in range(8)],
        },
        meta={},
    )
    multiply(small, large, settings.copies)
    open_dataset(large)  # imports, and the files into the system's memory
    files, seconds = DatasetFiles(large), {}
    for name, check in GATE_CHECKS.items():
        start = time.perf_counter()
        assert list(check(files)) == []
        seconds[name] = time.perf_counter() - start
    start, processor = time.perf_counter(), time.process_time()
    open_dataset(large)
    whole, processor = time.perf_counter() - start, time.process_time() - processor
    megabytes = sum(path.stat().st_size for path in content_files(large)) / 1e6
    start = time.perf_counter()
    content_hashes(large, content_files(large))
    first = time.perf_counter() - start
    start = time.perf_counter()
    content_hashes(large, content_files(large))
    again = time.perf_counter() - start
    (large / MEMO).unlink()
    print(f"{len(files.episodes)} episodes, {len(files.columns['index'])} rows")
    print(f"{len(VIEWS) * settings.copies} video files; opened in {whole:.3f} s")
    print(f"of which {processor:.3f} s on a processor core; check by check:")
    for name, value in sorted(seconds.items(), key=lambda x: -x[1]):
        print(f"  {name:<16} {value:.3f} s")
    print(f"contents of {megabytes:.0f} MB hashed in {first:.3f} s, again {again:.3f} s")


if __name__ == "__main__":
    main(tyro.cli(Settings))
