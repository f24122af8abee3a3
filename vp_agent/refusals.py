"""What can be refused within a second, before torch, weights or a simulator are loaded."""

import json
from pathlib import Path

from vp_agent.checkpoints.settings import ConvertSettings
from vp_agent.envs.interpreters import POLICIES
from vp_agent.errors import (
    AgentFolderError,
    DatasetError,
    OutputExistsError,
    UnknownNameError,
    closest,
)
from vp_agent.train.settings import TrainSettings

_YARDSTICKS = ("hold-still", "random", "expert")
_RUN_LOCK = ".lock"  # a refused start leaves it in a run folder


def check_preset(name: str) -> None:
    """Refuses a preset that there is not."""
    from vp_agent.presets import preset

    preset(name)


def check_tier(agent: str, tier: str) -> None:
    """Refuses an agent that is not here, or a tier that it does not have.

    Agents on the Hub, and policies of other packages, are looked at when they are loaded.
    """
    from vp_agent.locate import locate

    if agent in _YARDSTICKS or agent.partition(":")[0] in POLICIES or _on_the_hub(Path(agent)):
        return
    if not agent.startswith("packaged:") and not Path(agent).is_dir():
        raise AgentFolderError(
            f"no agent folder {agent!r} here; give a folder, packaged:lift, or a Hub repository "
            "(user/name)"
        )
    config = locate(agent) / "config.json"
    if tier == "default" or not config.is_file():
        return
    try:
        tiers = json.loads(config.read_text()).get("tiers", {})
    except (ValueError, AttributeError):
        return  # damage is named where the agent is loaded
    if isinstance(tiers, dict) and tier not in tiers:
        raise UnknownNameError(
            f"{agent} has no tier {tier!r}{closest(tier, tiers)}; tiers: {', '.join(tiers)}"
        )


def check_training(settings: TrainSettings) -> None:
    """Refuses a used run folder, an unknown preset, and agents and datasets that are not there."""
    from vp_agent.locate import locate

    out = settings.out
    used = out.is_dir() and any(entry.name != _RUN_LOCK for entry in out.iterdir())
    if used and not settings.resume:
        raise OutputExistsError(f"{out} exists; give --resume or another --out")
    if settings.preset is not None:
        check_preset(settings.preset)
    if settings.init is not None and not settings.from_svd and not _on_the_hub(settings.init):
        locate(settings.init)
    for data in settings.datasets:
        if not data.exists() and not _on_the_hub(data):
            raise DatasetError(
                f"{data} is not there; a dataset is a LeRobot v3 folder or a Hub repository "
                "(user/name); make one: vp-agent collect --env Robosuite-Lift-v0 --out DIR"
            )


def check_conversion(settings: ConvertSettings) -> None:
    """Refuses a checkpoint that is not there, an output that is, and an unknown preset."""
    check_preset(settings.preset)
    if not settings.checkpoint.is_file():
        raise AgentFolderError(f"{settings.checkpoint} is not there; expected a .ckpt file")
    if settings.out.exists():
        raise OutputExistsError(f"{settings.out} exists; remove it or give another --out")


def _on_the_hub(path: Path) -> bool:
    """Whether a name that is no folder here may be a Hub repository: user/name.

    outputs/lift is none while there is a folder outputs.
    """
    user = path.parent
    return len(path.parts) == 2 and not path.exists() and not user.is_dir() and user.name != ".."
