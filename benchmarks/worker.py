"""What a worker adds to one step: the same environment in this process and in a worker.

python benchmarks/worker.py --steps 500
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from vp_agent.envs.worker import WorkerEnv

VIEWS = ("gripper", "left", "right")


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    steps: int = 500
    """Steps in each place, in turn."""
    resolution: int = 256
    """Height and width of the three views."""


class Still(gym.Env):
    """Hands out the same three images in every step: all the time a step takes is the worker's."""

    def __init__(self, *, resolution: int) -> None:
        shape = (resolution, resolution, 3)
        image = gym.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict(dict.fromkeys(VIEWS, image)),
                "agent_pos": gym.spaces.Box(-1, 1, (8,), np.float32),
                "task": gym.spaces.Text(20),
            }
        )
        self.action_space = gym.spaces.Box(-1, 1, (7,), np.float32)
        self._shape = shape

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._image = np.random.default_rng(seed).integers(0, 256, self._shape, np.uint8)
        return self._observation(), {"is_success": False}

    def step(self, action: np.ndarray) -> Any:
        return self._observation(), 0.0, False, False, {"is_success": False, "seed": 0}

    def _observation(self) -> dict[str, Any]:
        pixels = {view: self._image.copy() for view in VIEWS}
        return {"pixels": pixels, "agent_pos": np.zeros(8, np.float32), "task": "wait"}


gym.register("Still-v0", entry_point="worker:Still")


def main(settings: Settings) -> None:
    """Prints one Markdown table row for each place."""
    kwargs = {"resolution": settings.resolution}
    places = {
        "in this process": Still(**kwargs),
        "in a worker": WorkerEnv(
            "worker:Still-v0", env={"PYTHONPATH": str(Path(__file__).parent)}, kwargs=kwargs
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in places}
    action = np.zeros(7, np.float32)
    for env in places.values():
        env.reset(seed=0)
    for _ in range(settings.steps):
        for name, env in places.items():
            start = time.perf_counter()
            env.step(action)
            taken[name].append(1e3 * (time.perf_counter() - start))
    for name, env in places.items():
        env.close()
        best, *_, ninth = statistics.quantiles(taken[name], n=10)
        median = statistics.median(taken[name])
        print(f"| {name} | {best:.2f} | {median:.2f} | {ninth:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
