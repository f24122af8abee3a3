"""Kills trainings at random moments, also inside a save: do they end with the same weights?

    python benchmarks/resume.py --out benchmarks/resume.md

A small policy learns from a small LeRobot dataset; one process, then two joined by gloo. A
training gets SIGKILL (of two processes a random one, then the other), goes on with --resume, is
killed again, and when it ends the bytes of its last checkpoint are compared with an uninterrupted
run's.
"""

import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from small import SMALL, small_model
from toy_data import write_toy_dataset
from trainers import start_trainers

from vp_agent.files import hash_tree
from vp_agent.folder import save_agent
from vp_agent.train.settings import TrainSettings


@dataclass(frozen=True)
class Settings:
    """How many kills, and where the table goes."""

    out: Path
    """Markdown file."""
    kills: int = 20
    """Of the runs of one process, and again of the runs of two."""
    steps: int = 16
    """Steps of a run, with a checkpoint after each."""
    seed: int = 0
    """Of the moments."""


def wait_and_kill(trainers: list[Any], folder: Path, rng: random.Random, *, in_save: bool) -> str:
    """Kills at a random moment, or inside a save; says where the training was."""
    before = set(folder.glob(".step-*.tmp-*"))  # of a save that was killed, until it is cleared
    if in_save:
        saves = rng.randint(1, 3)  # of this life
        seen: set[Path] = set()
        while len(seen) < saves and any(x.is_alive() for x in trainers):
            seen |= set(folder.glob(".step-*.tmp-*")) - before
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.08))
    else:
        time.sleep(rng.uniform(0.5, 8))
    if not all(x.is_alive() for x in trainers):
        return "ended"
    for trainer in rng.sample(trainers, len(trainers)):
        trainer.kill()
    for trainer in trainers:
        trainer.join()
    if set(folder.glob(".step-*.tmp-*")) - before:
        return "inside a save"
    return "between saves" if (folder / "latest").is_file() else "before the first checkpoint"


def finish(trainers: list[Any], log: Path) -> None:
    for trainer in trainers:
        trainer.join()
    if any(trainer.exitcode for trainer in trainers):
        sys.exit(f"a training failed: {log}.*")


def measure(settings: Settings, base: TrainSettings, processes: int, work: Path) -> str:
    """One row: runs, kills, where they hit, and how many runs ended with other bytes."""
    rng = random.Random(settings.seed)
    whole = replace(base, out=work / f"whole-{processes}")
    log = work / "log"
    finish(start_trainers(whole, log, processes=processes), log)
    wanted = hash_tree(whole.out / f"step-{base.steps:08d}")
    runs, different, moments = 0, 0, []
    while len(moments) < settings.kills:
        runs += 1
        run = replace(base, out=work / f"killed-{processes}-{runs}")
        while not (run.out / f"step-{base.steps:08d}").is_dir():
            resume = (run.out / "config.json").is_file()
            trainers = start_trainers(replace(run, resume=resume), log, processes=processes)
            if len(moments) < settings.kills:
                in_save = len(moments) % 2 == 0
                moment = wait_and_kill(trainers, run.out, rng, in_save=in_save)
                if moment != "ended":
                    moments.append(moment)
                    print(f"{processes} process(es), kill {len(moments)}: {moment}", flush=True)
                    continue
            finish(trainers, log)
        different += hash_tree(run.out / f"step-{base.steps:08d}") != wanted
    places = [moments.count(x) for x in PLACES]
    return (
        f"| {processes} | {runs} | {len(moments)} | {' | '.join(map(str, places))} | {different} |"
    )


PLACES = ("before the first checkpoint", "between saves", "inside a save")


def main(settings: Settings) -> None:
    """Makes data and agent, measures one process and two, writes the table."""
    work = Path(tempfile.mkdtemp(prefix="resume-"))
    data = write_toy_dataset(work / "data", size=32, steps=14)
    save_agent(small_model(SMALL.replace(action_stats=None)), work / "agent", card="")
    base = TrainSettings(
        stage="joint",
        data=data,
        init=work / "agent",
        out=work,
        steps=settings.steps,
        batch_size=2,
        holdout=0,
        save_every=1,
        log_every=1,
        threads=1,
        device="cpu",
    )
    rows = [measure(settings, base, processes, work) for processes in (1, 2)]
    settings.out.write_text(
        "# Killed trainings\n\n"
        f"`python benchmarks/resume.py --out benchmarks/resume.md --kills {settings.kills} "
        f"--steps {settings.steps}`\n\n"
        "Trainings of a small policy are killed (SIGKILL) and resumed. The last column counts "
        "runs whose last\ncheckpoint differs in any byte (weights, average, optimiser) from an "
        f"uninterrupted run's; the second, runs\nthat were killed one or more times. "
        f"{os.cpu_count()} CPU cores, gloo.\n\n"
        f"| processes | runs | kills | {' | '.join(PLACES)} | runs that ended otherwise |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    print(settings.out.read_text())


if __name__ == "__main__":
    main(tyro.cli(Settings))
