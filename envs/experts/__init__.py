"""Scripted experts that see the simulator's state; for making demonstrations, not for policies."""

from typing import Protocol

import gymnasium as gym
import numpy as np

from vp_agent.errors import UnknownNameError, closest


class Expert(Protocol):
    """Solves one task by looking at the simulator's state."""

    def reset(self, env: gym.Env) -> None:
        """Forgets the last episode; call it after `env.reset`."""
        ...

    def act(self, env: gym.Env) -> np.ndarray:
        """The next action, float32 of shape (7,)."""
        ...


def expert_for(task: str) -> Expert:
    """The scripted expert of a robosuite task."""
    from vp_agent.envs.experts.door import DoorExpert
    from vp_agent.envs.experts.pick import LiftExpert, StackExpert

    experts = {"Lift": LiftExpert, "Stack": StackExpert, "Door": DoorExpert}
    if task not in experts:
        raise UnknownNameError(
            f"no scripted expert for {task!r}{closest(task, experts)} Known: {', '.join(experts)}"
        )
    return experts[task]()
