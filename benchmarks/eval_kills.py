"""1,200 toy episodes, evaluators and workers killed at random: nothing lost, nothing twice.

    python benchmarks/eval_kills.py --out runs/eval-kills

Two evaluators share the folder all the time; a killed one is started again. At the end the journal
is compared with that of an evaluation that nobody disturbed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from vp_agent.evaluation.journal import read_journal

TESTS = Path(__file__).parents[1] / "tests"  # the toy task lies there
CLOCKS = {"seconds_per_plan", "plan_s", "wall_s", "started", "attempts"}


@dataclass(frozen=True)
class Settings:
    """The trial."""

    out: Path
    episodes: int = 1200
    kills: int = 20
    workers: int = 2
    seed: int = 0


def start(settings: Settings, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """One evaluator, in its own session; its workers are in sessions of their own."""
    command = [sys.executable, "-m", "vp_agent.cli", "eval", "--agent", "hold-still", "--env"]
    command += ["pilots:Wander-v0", "--episodes", str(settings.episodes), "--out", str(folder)]
    command += ["--workers", str(settings.workers), "--record", "0", "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with open(log, "ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


def workers_of(evaluator: int) -> list[int]:
    """Processes whose parent is this evaluator."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has just ended
        if parent == evaluator:
            found.append(int(status.parent.name))
    return found


def lines(folder: Path) -> list[dict]:
    """Journal lines in order, without what a clock wrote."""
    return [
        {key: value for key, value in vars(record).items() if key not in CLOCKS}
        for record in sorted(read_journal(folder / "journal.jsonl"), key=lambda r: r.episode)
    ]


def main(settings: Settings) -> None:
    """Prints what happened as JSON; fails if a line differs."""
    shutil.rmtree(settings.out, ignore_errors=True)
    settings.out.mkdir(parents=True)
    disturbed, calm = settings.out / "disturbed", settings.out / "calm"
    log, dice = settings.out / "log.txt", random.Random(settings.seed)
    began = time.monotonic()
    evaluators = [start(settings, disturbed, log) for _ in range(2)]
    killed = {"evaluator": 0, "worker": 0}
    wanted = [settings.episodes * (n + 1) // (settings.kills + 1) for n in range(settings.kills)]
    while wanted or any(evaluator.poll() is None for evaluator in evaluators):
        journal = disturbed / "journal.jsonl"
        done = journal.read_bytes().count(b"\n") if journal.exists() else 0
        if wanted and done >= wanted[0]:
            wanted.pop(0)
            which = dice.randrange(2)
            workers = workers_of(evaluators[which].pid)
            if workers and dice.random() < 0.5:
                os.kill(dice.choice(workers), signal.SIGKILL)
                killed["worker"] += 1
            else:
                evaluators[which].kill()
                evaluators[which].wait()
                evaluators[which] = start(settings, disturbed, log)
                killed["evaluator"] += 1
        time.sleep(dice.uniform(0.0, 0.02))
    wall_s = time.monotonic() - began
    codes = [evaluator.returncode for evaluator in evaluators]
    alone = start(settings, calm, log)
    assert alone.wait() == 0, log.read_text()[-2000:]
    one, other = lines(disturbed), lines(calm)
    results = {
        "episodes": settings.episodes,
        "lines": len(one),
        "twice": len(one) - len({record["episode"] for record in one}),
        "killed": killed,
        "exit_codes": codes,
        "same_as_undisturbed": one == other,
        "flown_again": sum(
            record.attempts > 1 for record in read_journal(disturbed / "journal.jsonl")
        ),
        "wall_s": round(wall_s, 1),
    }
    print(json.dumps(results, indent=2))
    assert results["same_as_undisturbed"]
    assert codes == [0, 0]


if __name__ == "__main__":
    main(tyro.cli(Settings))
