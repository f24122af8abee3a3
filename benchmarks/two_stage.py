"""Does video training help the action head? Two-stage, no video training and joint, by label count.

    python benchmarks/two_stage.py --data data/lift --vae runs/lift-vae2 --out runs/two-stage

Every arm has the same data, head and budget; all of them see every video where they see videos, and
10, 30 or all action labels. Finished parts are kept: run it again after a stop. Writes results.json
and results.md into --out.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

LABELS = (10, 30, None)
STEPS = (1, 3, 5, 10, 30)


@dataclass(frozen=True)
class Settings:
    """Budget of the comparison."""

    data: Path
    """LeRobot dataset of demonstrations."""
    vae: Path
    """Run of the vae stage, the same for every arm."""
    out: Path
    """Folder of the runs, evaluations and tables."""
    video_steps: int = 1500
    """Steps of the video stage."""
    action_steps: int = 1000
    """Steps of the action stage; the joint arm gets the sum of both."""
    episodes: int = 50
    """Seeds per arm."""
    workers: int = 2
    """Processes of an evaluation."""


def call(*words: object) -> None:
    """Runs one vp-agent command."""
    subprocess.run([sys.executable, "-m", "vp_agent.cli", *map(str, words)], check=True)


def train(settings: Settings, run: Path, stage: str, init: Path, steps: int, *more: object) -> Path:
    """One stage, unless it is finished; a stopped one is resumed."""
    if not (run / f"step-{steps:08d}").is_dir():
        resume = ["--resume"] if (run / "config.json").is_file() else []
        flags = ["--data", settings.data, "--init", init, "--out", run, "--steps", steps]
        common = ["--lr-schedule", "cosine", "--warmup-steps", 50, "--ema-decay", 0.998]
        rates = ["--lr", 1e-3, "--head-lr", 1e-3, "--eval-every", steps]
        call("train", "--stage", stage, *flags, *common, *rates, *more, *resume)
    return run


def fly(settings: Settings, agent: Path, out: Path, *more: object) -> dict:
    """One evaluation, unless it is finished."""
    if not (out / "results.json").is_file():
        resume = ["--resume"] if out.is_dir() else []
        flags = ["--agent", agent, "--env", "Robosuite-Lift-v0", "--out", out, "--record", 0]
        count = ["--episodes", settings.episodes, "--seed", 1000, "--workers", settings.workers]
        call("eval", *flags, *count, *more, *resume)
    return json.loads((out / "results.json").read_text())


def table(rows: list[dict], columns: list[str]) -> str:
    """Markdown table: the rows' own columns, then successes with their interval."""
    lines = [
        f"| {' | '.join(columns)} | success | 95 % | s/plan |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for row in rows:
        low, high = row["wilson_95"]
        own = " | ".join(str(row[column]) for column in columns)
        lines.append(
            f"| {own} | {row['successes']}/{row['n']} | {100 * low:.0f}-{100 * high:.0f} | "
            f"{row['seconds_per_plan_median']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(settings: Settings) -> None:
    """Trains and flies every arm, then writes the tables."""
    out, rows = settings.out, []
    draws = ["--action-draws", 4]
    video = train(settings, out / "video", "video", settings.vae, settings.video_steps)
    both = settings.video_steps + settings.action_steps
    for labels in LABELS:
        name = "all" if labels is None else str(labels)
        limit = [] if labels is None else ["--action-episodes", labels]
        arms = {
            "two-stage": ("action", video, settings.action_steps),
            "no video training": ("action", settings.vae, settings.action_steps),
            "joint": ("joint", settings.vae, both),
        }
        for arm, (stage, init, steps) in arms.items():
            run = out / f"{arm.replace(' ', '-')}-{name}"
            train(settings, run, stage, init, steps, *draws, *limit)
            rows.append({"arm": arm, "labels": name, **fly(settings, run, run / "eval")})
    sweep = []
    for steps in STEPS:
        run = out / "two-stage-all"
        result = fly(settings, run, run / f"eval-{steps}-steps", "--steps", steps)
        sweep.append({"steps": steps, **result})
    (out / "results.json").write_text(json.dumps({"arms": rows, "steps": sweep}, indent=2))
    text = table(rows, ["arm", "labels"]) + "\n" + table(sweep, ["steps"])
    (out / "results.md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Settings))
