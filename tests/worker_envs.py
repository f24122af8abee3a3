"""Toy environments that do what simulators do to their process."""

import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.rendering import Cameras
from vp_agent.errors import ActionError, UnknownNameError

WORDS = "put the cube on the plate"


class Noise(gym.Env):
    """Images and numbers that follow from the seed and the actions, for 3 to 6 steps.

    `reset(options={"trouble": name})` makes the second step call that method; the argument
    `trouble` makes the constructor call it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    control_hz = 20
    render_quality = "full"

    def __init__(
        self,
        *,
        views: tuple[str, ...] = ("right", "left"),
        resolution: tuple[int, int] = (16, 24),
        horizon: int = 6,
        trouble: str = "",
        render_mode: str | None = None,
    ) -> None:
        self.views, self.resolution, self.horizon = views, resolution, horizon
        self.render_mode = render_mode
        self.instruction, self.task = "", "never reset"
        image = gym.spaces.Box(0, 255, (*resolution, 3), np.uint8)
        pixels = [(view, image) for view in views]
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict(pixels),
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
                "task": gym.spaces.Text(60, charset="abcdefghijklmnopqrstuvwxyz 0123456789"),
            }
        )
        self.action_space = gym.spaces.Box(-1.0, np.arange(1, 8, dtype=np.float32))
        if trouble:
            getattr(self, trouble)()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._episode = int(self.np_random.integers(100)) if seed is None else seed
        self._state = np.random.default_rng(self._episode).normal(size=3)
        self.instruction = f"{WORDS} {self._episode}"
        self.task = "reset again" if self.task == "reset once" else "reset once"
        self._steps, self._trouble = 0, (options or {}).get("trouble", "")
        print("a simulator that prints to stdout")
        return self._observation(), {"is_success": False, "seed": self._episode}

    def step(self, action: np.ndarray) -> Any:
        self._steps += 1
        if self._steps == 2 and self._trouble:
            getattr(self, self._trouble)()
        self._state += np.asarray(action, np.float64)[:3]
        success, late = self._steps > 2 + self._episode % 4, self._steps >= self.horizon
        info = {"is_success": success, "seed": self._episode, "state": self._state.copy()}
        return self._observation(), 0.1, success, late and not success, info

    def render(self) -> Any:
        return np.full((2, 2, 3), self._steps, np.uint8)

    def _observation(self) -> Any:
        rng = np.random.default_rng(np.abs(self._state * 1e6).astype(np.uint64))
        shape = (*self.resolution, 3)
        return {
            "pixels": {view: rng.integers(0, 256, shape, np.uint8) for view in self.views},
            "agent_pos": self._state.astype(np.float32),
            "task": self.instruction,
        }

    # troubles

    def segfault(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def stopped(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def leave(self) -> None:
        print("no licence found", file=sys.stderr)
        sys.exit(3)

    def hang(self) -> None:
        time.sleep(600)

    def block(self) -> None:
        ctypes.PyDLL(None).sleep(600)  # unlike time.sleep it keeps the interpreter's lock

    def orphan(self) -> None:
        """Its own subprocess holds every descriptor it can when it dies."""
        if os.fork() == 0:
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)

    def shout(self) -> None:
        """Writes to the descriptors of stdout and stderr what looks like anything."""
        for descriptor in (1, 2):
            os.write(descriptor, b"vpaw\x00\xff" * 20_000)

    def refuse(self) -> None:
        raise ActionError("the arm does not bend like this")

    def unknown(self) -> None:
        raise UnknownNameError("no task 'Lfit'; did you mean 'Lift'?")

    def odd(self) -> None:
        raise subprocess.TimeoutExpired("licence-check", 1)

    def warn(self) -> None:
        warnings.warn("these assets are stand-ins", stacklevel=1)

    def strange(self) -> None:
        self.instruction = {1, 2}  # type: ignore[assignment]  # no message can hold a set

    def no_gl(self) -> None:
        mujoco: Any = importlib.import_module("mujoco")
        model = mujoco.MjModel.from_xml_string("<mujoco/>")
        Cameras(model, resolution=(8, 8), quality="full")


gym.register("Noise-v0", entry_point="worker_envs:Noise")
