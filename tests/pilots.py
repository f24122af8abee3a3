"""A toy task and stand-ins for the agent: enough to test what flies episodes, in milliseconds."""

import os
import string
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.evaluation.suites import Episode

SIDE = 16


class Reach(gym.Env):
    """A white column must be moved to the left edge; action 0 in [-1, 1] moves it."""

    horizon = 20

    def __init__(
        self,
        *,
        views: tuple[str, ...] = ("left", "right"),
        resolution: tuple[int, int] = (SIDE, SIDE),
        render_quality: str = "full",
        fail_at: int | None = None,
    ) -> None:
        self.views, self.resolution, self.fail_at = views, tuple(resolution), fail_at
        image = gym.spaces.Box(0, 255, (*self.resolution, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict(dict.fromkeys(views, image)),
                "agent_pos": gym.spaces.Box(-1, 1, (1,), np.float32),
                "task": gym.spaces.Text(100, charset=string.printable),
            }
        )
        self.action_space = gym.spaces.Box(-1, 1, (7,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.column, self.step_count = float(self.np_random.integers(8, SIDE)), 0
        return self._observation(), {"is_success": False, "versions": {"reach": "1"}}

    def step(self, action: np.ndarray) -> Any:
        self.step_count += 1
        if self.step_count == self.fail_at:
            raise RuntimeError("the simulator broke")
        self.column = float(np.clip(self.column + action[0], 0, SIDE - 1))
        success = self.column <= 0
        truncated = not success and self.step_count >= self.horizon
        info = {"is_success": success, "versions": {"reach": "1"}}
        return self._observation(), float(success), success, truncated, info

    def _observation(self) -> dict[str, Any]:
        image = np.zeros((*self.resolution, 3), np.uint8)
        image[:, int(self.column)] = 255
        return {
            "pixels": {view: image.copy() for view in self.views},
            "agent_pos": np.zeros(1, np.float32),
            "task": "move the column to the left",
        }


class BrokenReach(Reach):
    """Its simulator breaks in the third step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fail_at=3, **kwargs)


class Wander(Reach):
    """Its column moves by itself: about every other episode succeeds without a policy."""

    def step(self, action: np.ndarray) -> Any:
        drift = self.np_random.normal(-0.5, 2.0)
        time.sleep(0.001)
        return super().step(np.array([drift]))


class MoodyReach(Reach):
    """Its simulator breaks in the episode of seed 8."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.fail_at = 3 if seed == 8 else None
        return super().reset(seed=seed, options=options)


class FiveBroken(Reach):
    """Its simulator breaks in the episodes of seeds 0 to 4."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.fail_at = 1 if seed is not None and seed < 5 else None
        return super().reset(seed=seed, options=options)


class DyingReach(Reach):
    """Takes its process with it, once: a file says that it has happened."""

    def step(self, action: np.ndarray) -> Any:
        broken = Path(os.environ["BREAK_ONCE"])
        if self.step_count == 2 and not broken.exists():
            broken.touch()
            os._exit(3)
        return super().step(action)


class MirroredReach(Reach):
    """Its images are mirrored, and it says so."""

    transform = "rot180"


gym.register("Reach-v0", entry_point="pilots:Reach")
gym.register("BrokenReach-v0", entry_point="pilots:BrokenReach")
gym.register("Wander-v0", entry_point="pilots:Wander")
gym.register("MoodyReach-v0", entry_point="pilots:MoodyReach")
gym.register("FiveBroken-v0", entry_point="pilots:FiveBroken")
gym.register("DyingReach-v0", entry_point="pilots:DyingReach")
gym.register("MirroredReach-v0", entry_point="pilots:MirroredReach")


@dataclass(frozen=True)
class ToyPlan:
    """The fields of a plan that the runner reads."""

    actions: np.ndarray
    video: dict[str, np.ndarray] | None
    latency_s: float = 0.25


class Looker:
    """Plans six actions to the left when it sees a column and executes four; blind it stays."""

    execute = 4

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def reset(self, env: gym.Env, *, seed: int) -> None:
        self.seeds.append(seed)

    def plan(self, obs: Any, *, seed: int, video: bool = False) -> ToyPlan:
        sees = obs["pixels"]["left"].any()
        actions = np.zeros((6, 7), np.float32)
        actions[:, 0] = -1.0 if sees else 0.0
        frames = {view: np.stack([image] * 3) for view, image in obs["pixels"].items()}
        return ToyPlan(actions, frames if video else None)


def episode(number: int, env: str = "pilots:Reach-v0") -> Episode:
    return Episode(task="Reach", number=number, env=env, seed=number, policy_seed=number)
