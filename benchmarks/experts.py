"""Success rate and length of the scripted experts.

python benchmarks/experts.py --task Lift --episodes 50 --noise 0.0
python benchmarks/experts.py --task object-3 --episodes 20 --seed 20
python benchmarks/experts.py --task Tabletop-PutInto --episodes 100
"""

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro

import vp_agent  # noqa: F401  (registers the environment ids)
from vp_agent.envs.experts import expert_for
from vp_agent.envs.families import LIBERO_TASKS, TABLETOP_TASKS


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    task: str = "Lift"
    """Lift, Stack, Door, object-0 to object-9 of LIBERO, Tabletop-Lift, Tabletop-All, ..."""
    episodes: int = 50
    """Number of seeds, 0 and up."""
    seed: int = 0
    """First seed."""
    noise: float = 0.0
    """Standard deviation of the noise on the six arm numbers of every action."""


def main(settings: Settings) -> None:
    """Runs the episodes and prints one Markdown table row."""
    if settings.task in TABLETOP_TASKS:
        name = settings.task
    else:
        name = ("LIBERO-" if settings.task in LIBERO_TASKS else "Robosuite-") + settings.task
    env = gym.make(f"{name}-v0", views=())
    expert = expert_for(settings.task)
    lengths, failed, start = [], [], time.process_time()
    for seed in range(settings.seed, settings.seed + settings.episodes):
        env.reset(seed=seed)
        expert.reset(env)
        generator = np.random.default_rng(seed)
        steps, ended, info = 0, False, {}
        while not ended:
            action = expert.act(env)
            action[:6] += generator.normal(0, settings.noise, 6)
            _, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
            ended, steps = terminated or truncated, steps + 1
        if info["is_success"]:
            lengths.append(steps)
        else:
            failed.append(seed)
    cpu_s = (time.process_time() - start) / settings.episodes
    median = f"{np.median(lengths):.0f} ({min(lengths)}-{max(lengths)})" if lengths else "-"
    print(
        f"| {settings.task} | {settings.noise} | {len(lengths)}/{settings.episodes} | {median} | "
        f"{cpu_s:.1f} | {failed} |"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
