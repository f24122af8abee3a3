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
    """The scripted expert of a task: Lift, Stack, Door, Tabletop-Lift, object-0 of LIBERO, ..."""
    from vp_agent.envs.experts.door import DoorExpert
    from vp_agent.envs.experts.libero_object import LiberoObjectExpert
    from vp_agent.envs.experts.pick import LiftExpert, StackExpert
    from vp_agent.envs.tabletop_motions import TabletopExpert
    from vp_agent.envs.tabletop_words import TASKS

    experts: dict[str, type[Expert]] = {
        "Lift": LiftExpert,
        "Stack": StackExpert,
        "Door": DoorExpert,
        **{f"object-{index}": LiberoObjectExpert for index in range(10)},
        **dict.fromkeys(TASKS, TabletopExpert),
    }
    if task not in experts:
        raise UnknownNameError(
            f"no scripted expert for {task!r}{closest(task, experts)}; known: {', '.join(experts)}"
        )
    return experts[task]()
