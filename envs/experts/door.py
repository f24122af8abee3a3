"""The expert that opens a door with a lever handle."""

import gymnasium as gym
import numpy as np


class DoorExpert:
    """Not written yet."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode."""

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action."""
        raise NotImplementedError
