"""Simulators and real robots as Gymnasium environments."""

if __name__ != "vp_agent.envs":  # the top-level folder is installed as vp_agent.envs
    raise ImportError("import vp_agent.envs, not envs (pip install -e . in the repository root)")

import gymnasium as gym

# task -> horizon in steps of 1/20 s, about three times what a demonstration needs
ROBOSUITE_HORIZONS = {
    "Lift": 200,
    "Stack": 300,
    "Door": 300,
    "NutAssemblySquare": 400,
    "PickPlaceCan": 400,
}


def register() -> None:
    """Registers every environment id with Gymnasium; loads no simulator."""
    for task, horizon in ROBOSUITE_HORIZONS.items():
        name = f"Robosuite-{task}-v0"
        if name not in gym.registry:
            # The environment truncates itself, so the horizon is an argument and not Gymnasium's
            # max_episode_steps, whose wrapper would not follow a changed horizon.
            gym.register(
                name,
                entry_point="vp_agent.envs.robosuite_env:RobosuiteEnv",
                kwargs={"task": task, "horizon": horizon},
            )
