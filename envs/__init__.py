"""Simulators and real robots as Gymnasium environments."""

if __name__ != "vp_agent.envs":  # the top-level folder is installed as vp_agent.envs
    raise ImportError("import vp_agent.envs, not envs (pip install -e . in the repository root)")

import gymnasium as gym

from vp_agent.envs.families import FAMILIES


def register() -> None:
    """Registers every environment id with Gymnasium; loads no simulator."""
    for family in FAMILIES:
        for name, kwargs in family.environments.items():
            if name not in gym.registry:
                # The environment truncates itself, so the horizon is an argument and not
                # Gymnasium's max_episode_steps, whose wrapper would not follow a changed horizon.
                gym.register(
                    name,
                    entry_point="vp_agent.envs.interpreters:make_env",
                    vector_entry_point="vp_agent.envs.worker_vector:make_vector_env",
                    kwargs={"env_id": name, **kwargs},
                )
