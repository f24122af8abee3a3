"""What drawing once per chunk saves in an episode: CPU seconds with single steps and with chunks.

    python benchmarks/chunked_flight.py --agent packaged:lift --env Robosuite-Lift-v0 --episodes 3

Black images, so that every episode lasts until its horizon; the two ways by turns.
"""

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

from vp_agent import VideoPolicyAgent
from vp_agent.evaluation.episode import PlanLike, fly


@dataclass(frozen=True)
class Settings:
    """What to fly."""

    agent: str = "packaged:lift"
    env: str = "Robosuite-Lift-v0"
    episodes: int = 3


@dataclass
class SingleSteps:
    """The agent, giving chunks of one action: the environment draws at every step."""

    agent: VideoPolicyAgent

    @property
    def current_plan(self) -> PlanLike | None:
        return self.agent.current_plan

    def reset(self, lanes: Any = None, *, seed: int | None = None) -> None:
        self.agent.reset(lanes, seed=seed)

    def act(self, obs: Any, *, video: bool = False, chunk: bool = False) -> np.ndarray:
        action = self.agent.act(obs, video=video)
        return action[None] if chunk else action


def main(settings: Settings) -> None:
    """Prints a Markdown table."""
    torch.set_num_threads(1)
    agent = VideoPolicyAgent.from_pretrained(settings.agent)
    print("| seed | steps | single steps, CPU s | chunks, CPU s | ratio |\n|---|---|---|---|---|")
    for seed in range(settings.episodes):
        spent, steps = [], set()
        for pilot in (SingleSteps(agent), agent):
            env = gym.make(settings.env, disable_env_checker=True, **agent.env_kwargs)
            start = time.process_time()
            steps.add(fly(pilot, env, seed=seed, blank_images=True)["steps"])
            spent.append(time.process_time() - start)
            env.close()
        (count,) = steps  # the same episode
        print(f"| {seed} | {count} | {spent[0]:.1f} | {spent[1]:.1f} | {spent[0] / spent[1]:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
