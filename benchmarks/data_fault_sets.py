"""Clean datasets that differ: scripted experts, noise, random actions, and drawn arms.

python benchmarks/data_fault_sets.py /tmp/clean
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

import vp_agent  # noqa: F401  (registers the environments)
from vp_agent.train.demonstrations import IMAGE, NAMES, Episode, write_dataset

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import drawn_arm

EPISODES, STEPS = 100, 60
COLLECTED = {
    "lift": ["--env", "Robosuite-Lift-v0"],
    "stack": ["--env", "Robosuite-Stack-v0", "--noise", "0.2", "--views", "left", "gripper"],
    "door": ["--env", "Robosuite-Door-v0", "--noise", "0.3", "--disturb", "0.5"],
}


def random_episodes(task: str) -> Iterator[Episode]:
    """An arm that wanders: smooth random actions, nothing is reached."""
    env = gym.make(task, views=("left", "gripper"), resolution=(64, 64), render_quality="fast")
    for seed in range(EPISODES):
        rng, action, frames = np.random.default_rng(seed), np.zeros(7), []
        observation, _ = env.reset(seed=seed)
        for _ in range(STEPS):
            action = np.clip(0.8 * action + rng.normal(0, 0.3, 7), -1, 1)
            frame = {IMAGE + view: image for view, image in observation["pixels"].items()}
            frame["observation.state"] = observation["agent_pos"]
            frame["action"] = action.astype(np.float32)
            frames.append(frame)
            observation, *_ = env.step(frame["action"])
        yield Episode(task=observation["task"], frames=frames, facts={})
    env.close()


def main(out: Path, /) -> None:
    """Makes the datasets that `out` does not have yet."""
    for name, arguments in COLLECTED.items():
        if not (out / name).is_dir():
            size = ["--resolution", "64", "64", "--render-quality", "fast", "--workers", "2"]
            command = [sys.executable, "-m", "vp_agent.cli", "collect", "--out", str(out / name)]
            subprocess.run([*command, "--episodes", str(EPISODES), *size, *arguments], check=True)
    if not (out / "random").is_dir():
        episodes = random_episodes("Robosuite-PickPlaceCan-v0")
        names = {name: NAMES[name] for name in ("action", "observation.state")}
        write_dataset(out / "random", name="random", episodes=episodes, names=names, meta={})
    if not (out / "drawn").is_dir():
        drawn_arm.write(out / "drawn", EPISODES, steps=(50, 90), size=64)
    if not (out / "grainy").is_dir():
        drawn_arm.write(
            out / "grainy", EPISODES, steps=(50, 90), size=64, delta=True, delay=2, grain=4.0
        )


if __name__ == "__main__":
    tyro.cli(main)
