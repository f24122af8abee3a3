"""Episodes per hour with one worker and with several, and whether memory stays flat.

    python benchmarks/eval_throughput.py --workers 1 2 --episodes 12 --rounds 2
    python benchmarks/eval_throughput.py --agent hold-still --workers 2 --episodes 200 --rounds 1

The worker counts by turns, each round on other seeds; black images for an agent, so that every
episode lasts until its horizon. Memory is the resident size of this process and of its workers
after every episode; "grows" compares the last quarter of the episodes with the second.
"""

import json
import os
import shutil
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import tyro

from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import EvalSettings, evaluate


@dataclass(frozen=True)
class Settings:
    """What to fly."""

    agent: str = "packaged:lift"
    env: str = "Robosuite-Lift-v0"
    workers: tuple[int, ...] = (1, 2)
    episodes: int = 12
    rounds: int = 2


def resident_mb() -> float:
    """Of this process and its children."""
    own = str(os.getpid())
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            pages = int((folder / "statm").read_text().split()[1])
        except OSError:
            continue  # it has just ended
        if own in (folder.name, parent):
            total += pages
    return total * 4096 / 2**20


def watch(journal: Path, sizes: list[float], stop: threading.Event) -> None:
    """Notes the memory whenever the journal has grown."""
    lines = 0
    while not stop.wait(0.2):
        now = journal.read_bytes().count(b"\n") if journal.exists() else 0
        if now > lines:
            lines = now
            sizes.append(resident_mb())


def run(settings: Settings, workers: int, seed: int) -> dict[str, float]:
    """One evaluation in a folder of its own."""
    out = Path(mkdtemp()) / "out"
    sizes: list[float] = []
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(out / "journal.jsonl", sizes, stop))
    watcher.start()
    started = time.perf_counter()
    evaluate(
        EvalSettings(
            agent=settings.agent,
            env=settings.env,
            out=out,
            episodes=settings.episodes,
            seed=seed,
            workers=workers,
            record=0,
            blank_images=settings.agent != "hold-still",
        )
    )
    wall_s = time.perf_counter() - started
    stop.set()
    watcher.join()
    steps = sum(record.steps or 0 for record in read_journal(out / "journal.jsonl"))
    shutil.rmtree(out.parent)
    quarter = len(sizes) // 4
    return {
        "episodes_per_hour": settings.episodes / wall_s * 3600,
        "steps_per_s": steps / wall_s,
        "memory_mb": max(sizes),
        "grows_mb": statistics.mean(sizes[-quarter:])
        - statistics.mean(sizes[quarter : 2 * quarter]),
    }


def main(settings: Settings) -> None:
    """Prints one JSON line per worker count: medians over the rounds."""
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in settings.workers}
    for round_ in range(settings.rounds):
        for workers in settings.workers:
            found[workers].append(run(settings, workers, seed=round_ * settings.episodes))
    for workers, rows in found.items():
        medians = {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}
        print(json.dumps({"workers": workers, "episodes": settings.episodes, **medians}))


if __name__ == "__main__":
    main(tyro.cli(Settings))
