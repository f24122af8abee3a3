"""Does video training help the action head? Two-stage, no video training and joint, by label count.

    python benchmarks/two_stage.py --data data/lift --vae packaged:lift --out runs/two-stage

Every arm has the same data, autoencoder, head and untrained U-Net to begin with. The U-Net of the
two-stage and of the joint arm learns from the same number of samples; all of them see every video
where they see videos, and 10, 30 or all action labels. Finished parts are kept: run it again after
a stop, or beside another process that has other --labels. Writes results.json and results.md.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from vp_agent.folder import load_agent, save_agent
from vp_agent.locate import locate
from vp_agent.model.video_policy import VideoPolicy

STEPS = 3  # sampling steps of every arm
ARMS = ("two-stage", "no video training", "joint")
LABELS = (10, 30, 0)  # demonstrations whose actions are used; 0 is all of them


@dataclass(frozen=True)
class Settings:
    """Budget of the comparison."""

    data: Path
    """LeRobot dataset of demonstrations."""
    vae: Path
    """Run or agent whose autoencoder every arm takes."""
    out: Path
    """Folder of the runs, evaluations and tables."""
    labels: tuple[int, ...] = LABELS
    """Which of these label counts to run."""
    video_steps: int = 700
    """Steps of the video stage, and of the joint arm."""
    action_steps: int = 400
    """Steps of the action stage."""
    sampling_steps: tuple[int, ...] = (1, 3, 5, 10, 30)
    """Sampling steps at which the two-stage agent with all labels flies."""
    episodes: int = 50
    """Seeds per arm."""
    workers: int = 1
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
        rates = ["--threads", 1, "--lr", 1e-3, "--head-lr", 1e-3, "--eval-every", steps]
        call("train", "--stage", stage, *flags, *common, *rates, *more, *resume)
    return run


def fly(settings: Settings, run: Path, steps: int) -> None:
    """One evaluation at so many sampling steps, unless it is finished."""
    out = flown(run, steps)
    if not (out / "results.json").is_file():
        resume = ["--resume"] if out.is_dir() else []
        flags = ["--agent", run, "--env", "Robosuite-Lift-v0", "--out", out, "--record", 0]
        count = ["--episodes", settings.episodes, "--seed", 1000, "--workers", settings.workers]
        call("eval", *flags, *count, "--steps", steps, *resume)


def flown(run: Path, steps: int) -> Path:
    return run / f"eval-{steps}-steps"


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


def untrained(settings: Settings) -> Path:
    """The autoencoder in an agent that has learnt nothing else."""
    folder = settings.out / "untrained"
    if not folder.is_dir():
        trained = load_agent(locate(settings.vae))
        config = trained.config.replace(action_stats=None, training=())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = VideoPolicy(config)
        model.vae.load_state_dict(trained.vae.state_dict())
        save_agent(model, folder, card="Only the autoencoder of this agent is trained.\n")
    return folder


def run_of(settings: Settings, arm: str, labels: int) -> Path:
    return settings.out / f"{arm.replace(' ', '-')}-{labels or 'all'}"


def fly_arm(settings: Settings, arm: str, labels: int) -> None:
    """Trains and flies one arm."""
    start = untrained(settings)
    stage, init, steps = "action", start, settings.action_steps
    if arm == "two-stage":
        init = train(settings, settings.out / "video", "video", start, settings.video_steps)
    if arm == "joint":
        stage, steps = "joint", settings.video_steps
    run = run_of(settings, arm, labels)
    limit = ["--action-episodes", labels] if labels else []
    train(settings, run, stage, init, steps, "--action-draws", 4, *limit)
    fly(settings, run, STEPS)


def training_minutes(run: Path) -> float:
    """Wall time of a run, from its log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "samples_per_s" in line][-1]
    batch = json.loads((run / "config.json").read_text())["batch_size"]
    return last["step"] * batch / last["samples_per_s"] / 60


def write_tables(settings: Settings) -> None:
    """Tables of everything that is finished in the output folder."""
    rows, sweep = [], []
    for labels in LABELS:
        for arm in ARMS:
            run = run_of(settings, arm, labels)
            path = flown(run, STEPS) / "results.json"
            if path.is_file():
                minutes = training_minutes(run)
                if arm == "two-stage":
                    minutes += training_minutes(settings.out / "video")
                own = {"arm": arm, "labels": labels or "all", "minutes": round(minutes, 1)}
                rows.append({**own, **json.loads(path.read_text())})
    for steps in settings.sampling_steps:
        path = flown(run_of(settings, "two-stage", 0), steps) / "results.json"
        if path.is_file():
            sweep.append({"steps": steps, **json.loads(path.read_text())})
    text = table(rows, ["arm", "labels", "minutes"]) + "\n" + table(sweep, ["steps"])
    (settings.out / "results.json").write_text(json.dumps({"arms": rows, "steps": sweep}, indent=2))
    (settings.out / "results.md").write_text(text)


def main(settings: Settings) -> None:
    """Trains and flies the arms of these label counts, then the sampling steps."""
    for labels in settings.labels:
        for arm in ARMS:
            fly_arm(settings, arm, labels)
            write_tables(settings)
    if 0 in settings.labels:
        run = run_of(settings, "two-stage", 0)
        for steps in settings.sampling_steps:
            fly(settings, run, steps)
            write_tables(settings)


if __name__ == "__main__":
    main(tyro.cli(Settings))
