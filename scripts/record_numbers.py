"""Record the numbers that a refactoring must not move as JSON, and compare with an earlier record.

    python scripts/record_numbers.py --out before.json          # before anything is moved
    python scripts/record_numbers.py --out after.json --against before.json

It goes through the names that are fixed (the command line, `VideoPolicyAgent`, `gym.make`), so the
same script runs on both sides. Bits of floats differ between processors: record both on one.
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

import vp_agent
from vp_agent import VideoPolicyAgent

ENV = "Robosuite-Lift-v0"
VERBS = (
    *("demo", "envs", "doctor", "install", "collect", "train", "eval", "merge", "bench"),
    *("convert", "report", "compare", "audit"),
    *("data convert", "data check", "data stats", "data show", "data cache"),
)
STAGES = {
    "vae": ("--stage", "vae", "--preset", "tiny-lift"),
    "video": ("--stage", "video", "--init", "packaged:lift"),
    "action": ("--stage", "action", "--init", "packaged:lift"),
    "joint": ("--stage", "joint", "--init", "packaged:lift"),
    "policy": ("--policy", "dp-resnet", "--preset", "tiny-lift"),
}


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """Records what a refactoring must not change."""

    out: Path
    """JSON file to write."""
    against: Path | None = None
    """An earlier record; exit code 1 if anything differs from it."""
    episodes: int = 20
    """Episodes of packaged:lift, on seeds 700, 701, ..."""
    steps: int = 20
    """Training steps of each stage."""


def digest(data: bytes) -> str:
    """Short sha256."""
    return hashlib.sha256(data).hexdigest()[:16]


def run(*arguments: str) -> str:
    """Standard output of `vp-agent ...` on one thread."""
    command = [sys.executable, "-m", "vp_agent.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def flown(agent: VideoPolicyAgent, seed: int) -> dict[str, Any]:
    """One episode: its end, the hash of all simulator states, the first action of every plan."""
    env: Any = gym.make(ENV, **agent.env_kwargs)
    obs, info = env.reset(seed=seed)
    agent.reset(seed=seed)
    states, firsts, plan, steps, done = hashlib.sha256(), [], None, 0, False
    while not done:
        action = agent.act(obs)
        if agent.current_plan is not plan:
            plan = agent.current_plan
            firsts.append(np.asarray(action, np.float64).tolist())
        obs, _, terminated, truncated, info = env.step(action)
        states.update(np.ascontiguousarray(obs["agent_pos"]).tobytes())
        for view in obs["pixels"].values():
            states.update(np.ascontiguousarray(view).tobytes())
        steps, done = steps + 1, terminated or truncated
    env.close()
    success = bool(info["is_success"])
    return {"success": success, "steps": steps, "states": states.hexdigest()[:16], "plans": firsts}


def saved(agent: VideoPolicyAgent, folder: Path) -> dict[str, Any]:
    """Manifest and fingerprint of the saved agent."""
    agent.save_pretrained(folder)
    again = VideoPolicyAgent.from_pretrained(folder, device="cpu")
    manifest = json.loads((folder / "manifest.json").read_text())
    return {"manifest": manifest, "fingerprint": again.fingerprint}


def trained(data: Path, folder: Path, steps: int) -> dict[str, dict[str, str]]:
    """Hashes of every weights file that each stage ends with."""
    hashes = {}
    for stage, flags in STAGES.items():
        out = folder / stage
        run(
            *("train", *flags, "--data", str(data), "--out", str(out), "--steps", str(steps)),
            *("--batch-size", "4", "--lr", "1e-3", "--head-lr", "1e-3", "--warmup-steps", "5"),
            *("--ema-decay", "0.9", "--threads", "1", "--eval-every", str(steps)),
        )
        weights = (out / f"step-{steps:08d}" / "agent").rglob("*.safetensors")
        hashes[stage] = {
            str(path.relative_to(out)): digest(path.read_bytes()) for path in sorted(weights)
        }
    return hashes


def record(settings: RecordSettings) -> dict[str, Any]:
    """Everything that is compared."""
    torch.set_num_threads(1)
    agent = VideoPolicyAgent.from_pretrained("packaged:lift", device="cpu")
    with TemporaryDirectory() as tmp:
        folder, data = Path(tmp), Path(tmp) / "data"
        run(
            *("collect", "--env", ENV, "--episodes", "6", "--views", "gripper", "left"),
            *("--resolution", "64", "64", "--render-quality", "fast", "--out", str(data)),
        )
        cached = run("data", "cache", "--data", str(data), "--init", "packaged:lift")
        names = sorted({Path(x).name for line in cached.split("\n") for x in line.split(":")[:1]})
        return {
            "version": vp_agent.__version__,
            "episodes": {
                str(seed): flown(agent, seed) for seed in range(700, 700 + settings.episodes)
            },
            "agent": saved(agent, folder / "agent"),
            "caches": [name for name in names if name],
            "weights": trained(data, folder, settings.steps),
            "help": {verb: run(*verb.split(), "--help") for verb in VERBS},
        }


def differences(now: Any, then: Any, path: str = "") -> list[str]:
    """Where two records differ, one line each."""
    if isinstance(now, dict) and isinstance(then, dict):
        return [
            line
            for key in sorted({*now, *then})
            for line in differences(now.get(key), then.get(key), f"{path}/{key}")
        ]
    return [] if now == then else [f"{path}: {then!r:.200} -> {now!r:.200}"]


def main(settings: RecordSettings) -> int:
    """Writes the record; returns 1 if it differs from the earlier one."""
    now = record(settings)
    settings.out.write_text(json.dumps(now, indent=1) + "\n")
    if settings.against is None:
        return 0
    lines = differences(now, json.loads(settings.against.read_text()))
    print("\n".join(lines) or "nothing differs")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(RecordSettings)))
