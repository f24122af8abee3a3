"""Every RoboCasa task once: reset, steps, pictures, and hashes to compare two runs or machines.

MUJOCO_GL=osmesa python benchmarks/robocasa_smoke.py --scene 1 1 --pictures FOLDER

Prints one Markdown table row per task, with CPU times. Equal hashes in two runs mean equal
episodes, bit for bit.
"""

import argparse  # and not tyro: RoboCasa 0.2's own environment has only what RoboCasa needs
import hashlib
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

import vp_agent  # noqa: F401  (registers the environment ids)
from vp_agent.envs.robocasa_tasks import TASKS

COLUMNS = "task, first reset s, reset s, step ms, images ms, instruction, success, state, episode"


def smoke(task: str, given: argparse.Namespace) -> str:
    """Runs one episode of random actions, after a reset of another seed."""
    clock, seed = time.process_time, given.seed  # other programs do not count
    env = gym.make(
        f"RoboCasa-{task}-v0", scene=tuple(given.scene), relax_version_checks=given.relax
    )
    arm: Any = env.unwrapped
    started = clock()
    env.reset(seed=seed + 1000)
    first_s, started = clock() - started, clock()
    observation, info = env.reset(seed=seed)
    reset_s, state = clock() - started, info["state_hash"]
    assert env.observation_space.contains(observation), task
    if given.pictures is not None:
        views = np.concatenate(list(observation["pixels"].values()), axis=1)
        Image.fromarray(views).save(given.pictures / f"{task}.png")

    episode = hashlib.sha256(_bits(observation))
    step_s, image_s = [], []
    for action in np.random.default_rng(seed).uniform(-1, 1, (given.steps, 7)).astype(np.float32):
        started = clock()
        observation, _, ended, _, info = env.step(action)
        both, started = clock() - started, clock()
        arm._observation()
        image_s.append(clock() - started)
        step_s.append(both - image_s[-1])
        episode.update(_bits(observation))
        if ended:
            break
    env.close()
    return (
        f"| {task} | {first_s:.1f} | {reset_s:.1f} | {1000 * np.median(step_s):.0f} | "
        f"{1000 * np.median(image_s):.0f} | {observation['task']} | {info['is_success']} | "
        f"`{state[:8]}` | `{episode.hexdigest()[:8]}` |"
    )


def _bits(observation: dict) -> bytes:
    images = (observation["pixels"][view].tobytes() for view in sorted(observation["pixels"]))
    return b"".join([observation["agent_pos"].tobytes(), *images])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--scene", nargs=2, type=int, default=(1, 1), metavar=("LAYOUT", "STYLE"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pictures", type=Path, help="folder for one PNG per task")
    parser.add_argument("--relax", action="store_true", help="accept other NumPy and MuJoCo")
    given = parser.parse_args()
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
    columns = COLUMNS.split(", ")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    begun = time.perf_counter()
    for name in given.tasks:
        print(smoke(name, given), flush=True)
    print(f"\n{len(given.tasks)} tasks in {time.perf_counter() - begun:.0f} s")
