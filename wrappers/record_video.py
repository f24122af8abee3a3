"""Films of what the cameras saw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from vp_agent.wrappers.views import views_of


class RecordVideo(gym.Wrapper):
    """Writes every episode as `folder/episode-00000.mp4`: all views side by side, in real time.

    The numbers follow those of the films that are there.
    A film appears when its episode has ended; one that was broken off by `reset` or `close` is
    kept as far as it went. (Gymnasium's own RecordVideo films `render()` and needs moviepy.)
    """

    def __init__(self, env: gym.Env, folder: str | Path) -> None:
        super().__init__(env)
        views_of(env)
        self.folder = Path(folder)
        films = [path.stem.removeprefix("episode-") for path in self.folder.glob("episode-*.mp4")]
        self._episode = max((int(name) for name in films if name.isdecimal()), default=-1)
        self._film: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts the episode and its film."""
        from vp_agent.evaluation.film import Film

        self._finish()
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode += 1
        fps = self.env.metadata.get("render_fps", 20)
        self._film = Film(self.folder / f"episode-{self._episode:05d}.mp4", fps=fps)
        self._add(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps and films."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._add(observation)
        if terminated or truncated:
            self._finish()
        return observation, reward, terminated, truncated, info

    def __getstate__(self) -> dict[str, Any]:
        """A copy films its own episodes, after those that are there."""
        return {**self.__dict__, "_film": None}

    def close(self) -> None:
        """Keeps the film of an episode that is still running."""
        self._finish()
        super().close()

    def _add(self, observation: Mapping[str, Any]) -> None:
        if self._film is not None:
            self._film.add(np.concatenate(list(observation["pixels"].values()), axis=1))

    def _finish(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            film.__exit__(None, None, None)
