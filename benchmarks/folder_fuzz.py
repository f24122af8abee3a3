"""Damaged agent folders: is each one refused by the file's name, or does it plan?

    python benchmarks/folder_fuzz.py --count 3000 --out benchmarks/folder_fuzz.md

Every damage is of a random kind in a copy of a small agent (a Video Policy and three Diffusion
Policies), and the manifest's hashes are made anew, so that they agree with it. A folder must be
refused with an `AgentFolderError` that names the damaged file, or load and plan finite actions.
"""

import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from folder_damage import KINDS, damage
from small import SMALL, SMALL_BASELINE, small_baseline, small_model, small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.diffusion_policy_config import baseline
from vp_agent.errors import AgentFolderError
from vp_agent.folder import save_agent

OUTCOMES = [
    *("refused by name", "loads and plans"),
    *("refused, file not named", "raw error", "loads, cannot plan"),
]
MEMORY = 16 << 30  # of the address space: a gigantic allocation fails and does not kill
CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "patch_size": 8}
CLIP |= {"num_attention_heads": 2}


@dataclass(frozen=True)
class Settings:
    """How many, and where the table goes."""

    count: int = 300
    """Damaged folders."""
    seed: int = 0
    """Of the damages; folder i is a function of (seed, i)."""
    out: Path | None = None
    """Markdown file."""


def save_agents(folder: Path) -> list[Path]:
    """One agent of every kind."""
    baselines = {
        "resnet": SMALL_BASELINE,
        "resnet-batch": SMALL_BASELINE.replace(norm="batch"),
        "clip": baseline("dp-clip", SMALL).replace(
            vision=CLIP,
            action_head=SMALL_BASELINE.action_head,
            action_stats=SMALL.action_stats,
            resolution=(32, 32),
        ),
    }
    save_agent(small_model(), folder / "video", card="")
    for name, config in baselines.items():
        save_agent(small_baseline(config), folder / name, card="")
    return [folder / "video", *(folder / name for name in baselines)]


def judge(folder: Path, name: str) -> tuple[str, str]:
    """An outcome and its words."""
    try:
        agent = VideoPolicyAgent.from_pretrained(folder, device="cpu")
    except AgentFolderError as error:
        named = name in str(error) or f"/{Path(name).parts[0]}/" in str(error)  # its folder is gone
        return OUTCOMES[0 if named else 2], str(error)
    except Exception:
        return OUTCOMES[3], traceback.format_exc()
    if agent.config.action_stats is None:  # as after a video stage: no fault, and says so
        return OUTCOMES[1], ""
    try:
        views = agent.config.views
        height, width = agent.config.resolution
        image = small_observation()["pixels"]["left"]
        image = np.resize(image, (height, width, 3))
        obs = {"pixels": dict.fromkeys(views, image), "task": "lift the cube"}
        obs["agent_pos"] = np.zeros(8, np.float32)
        plan = agent.plan(obs, seed=0)
        assert np.isfinite(plan.actions).all()
    except Exception:
        return OUTCOMES[4], traceback.format_exc()
    return OUTCOMES[1], ""


def main(settings: Settings) -> None:
    """Prints what went wrong as it comes, and the table at the end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    slowest = (0.0, "")
    kinds = list(KINDS)
    weights = [6, 4, 3, 2, 4, 2, 1, 2]
    with tempfile.TemporaryDirectory() as tmp:
        agents = save_agents(Path(tmp))
        for i in range(settings.count):
            rng = random.Random(settings.seed * 1_000_003 + i)
            kind = rng.choices(kinds, weights)[0]
            folder = Path(shutil.copytree(rng.choice(agents), Path(tmp) / "damaged"))
            name = damage(folder, kind, rng)
            started = time.monotonic()
            outcome, words = judge(folder, name)
            seconds = time.monotonic() - started
            slowest = max(slowest, (seconds, f"{i} ({kind}, {name}, {outcome})"))
            counts[kind][outcome] += 1
            if outcome not in OUTCOMES[:2]:
                print(f"{i}: {kind}, {name}: {outcome}\n{words}\n", flush=True)
            shutil.rmtree(folder)
    rows = [f"| what is damaged | {' | '.join(OUTCOMES)} |", "|---" * 6 + "|"]
    for kind, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        rows.append(f"| {kind} | {' | '.join(str(found[x]) for x in OUTCOMES)} |")
    table = "\n".join(rows)
    note = f"Slowest load and plan: {slowest[0]:.1f} s, folder {slowest[1]}."
    print(f"{table}\n\n{note}")
    if settings.out is not None:
        command = f"python benchmarks/folder_fuzz.py --count {settings.count}"
        command += f" --seed {settings.seed} --out {settings.out}"
        settings.out.write_text(
            f"# Damaged agent folders\n\n`{command}`\n\n"
            "Random damages in copies of small agents of all kinds, hashes made anew. Right are\n"
            f"the first two columns; the others must be 0.\n\n{table}\n\n{note}\n"
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
