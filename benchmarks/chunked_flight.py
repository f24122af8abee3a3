"""What drawing once per chunk saves in an episode: CPU seconds with single steps and with chunks.

    python benchmarks/chunked_flight.py --agent packaged:lift --env Robosuite-Lift-v0 --episodes 3

Black images, so that every episode lasts until its horizon; the two ways by turns.
"""

import time
from dataclasses import dataclass

import gymnasium as gym
import torch
import tyro

from vp_agent import VideoPolicyAgent
from vp_agent.evaluation.episode import fly
from vp_agent.evaluation.planner import Planner
from vp_agent.evaluation.policy import ByStep
from vp_agent.evaluation.suites import one_environment


@dataclass(frozen=True)
class Settings:
    """What to fly."""

    agent: str = "packaged:lift"
    env: str = "Robosuite-Lift-v0"
    episodes: int = 3


def main(settings: Settings) -> None:
    """Prints a Markdown table."""
    torch.set_num_threads(1)
    agent = VideoPolicyAgent.from_pretrained(settings.agent)
    print("| seed | steps | single steps, CPU s | chunks, CPU s | ratio |\n|---|---|---|---|---|")
    for seed in range(settings.episodes):
        spent, steps = [], set()
        (episode,) = one_environment(settings.env, seed=seed, episodes=1)
        for policy in (ByStep(agent), Planner(agent)):
            env = gym.make(settings.env, disable_env_checker=True, **agent.env_kwargs)
            start = time.process_time()
            steps.add(fly(policy, env, episode, blank_images=True).steps)
            spent.append(time.process_time() - start)
            env.close()
        (count,) = steps  # the same episode
        print(f"| {seed} | {count} | {spent[0]:.1f} | {spent[1]:.1f} | {spent[0] / spent[1]:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
