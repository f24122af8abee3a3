"""Which simulators there are, which environment ids they serve, and what is missing here."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vp_agent.envs.robocasa_tasks import TASKS as ROBOCASA_TASKS
from vp_agent.envs.tabletop_words import HORIZON as TABLETOP_HORIZON
from vp_agent.envs.tabletop_words import TASKS as TABLETOP_TASKS

# task -> horizon in steps of 1/20 s, about three times what a demonstration needs
ROBOSUITE_HORIZONS = {
    "Lift": 200,
    "Stack": 300,
    "Door": 300,
    "NutAssemblySquare": 400,
    "PickPlaceCan": 400,
}

# suite -> number of tasks; which they are is in LIBERO's files
_LIBERO_SUITES = {"spatial": 10, "object": 10, "goal": 10, "10": 10, "90": 90}
LIBERO_TASKS = tuple(
    f"{suite}-{n}" for suite, count in _LIBERO_SUITES.items() for n in range(count)
)


@dataclass(frozen=True)
class Missing:
    """Why a family cannot run here, and the command to type."""

    what: str
    fix: str


@dataclass(frozen=True)
class Family:
    """One simulator.

    Attributes:
        name: in `vp-agent.toml` and in messages.
        entry_point: "module:class" of its environments.
        environments: id -> arguments of the class.
        missing: looks, without importing the simulator; None if everything is there.
    """

    name: str
    entry_point: str
    environments: Mapping[str, Mapping[str, Any]]
    missing: Callable[[], Missing | None]


def _robosuite_missing() -> Missing | None:
    if importlib.util.find_spec("robosuite") is not None:
        return None
    return Missing("robosuite is not installed", "pip install 'vp-agent[robosuite]'")


def _robocasa_missing() -> Missing | None:
    from vp_agent.envs.robocasa_install import missing  # which imports this module

    return missing()


def _libero_missing() -> Missing | None:
    from vp_agent.envs.libero_install import missing  # which imports this module

    return missing()


FAMILIES = (
    Family(
        name="robosuite",
        entry_point="vp_agent.envs.robosuite_env:RobosuiteEnv",
        environments={
            f"Robosuite-{task}-v0": {"task": task, "horizon": horizon}
            for task, horizon in ROBOSUITE_HORIZONS.items()
        },
        missing=_robosuite_missing,
    ),
    Family(
        name="robocasa",
        entry_point="vp_agent.envs.robocasa_env:RoboCasaEnv",
        environments={f"RoboCasa-{task}-v0": {"task": task} for task in ROBOCASA_TASKS},
        missing=_robocasa_missing,
    ),
    Family(
        name="libero",
        entry_point="vp_agent.envs.libero_env:LiberoEnv",
        environments={f"LIBERO-{task}-v0": {"task": task} for task in LIBERO_TASKS},
        missing=_libero_missing,
    ),
    Family(
        name="tabletop",  # robosuite's parts, another scene
        entry_point="vp_agent.envs.tabletop_env:TabletopEnv",
        environments={
            f"{task}-v0": {"task": task, "horizon": TABLETOP_HORIZON} for task in TABLETOP_TASKS
        },
        missing=_robosuite_missing,
    ),
)
