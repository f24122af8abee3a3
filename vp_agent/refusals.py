"""What can be refused within a second, before torch, weights or a simulator are loaded."""

import json
from pathlib import Path

from vp_agent.checkpoints.settings import ConvertSettings
from vp_agent.envs.interpreters import POLICIES
from vp_agent.errors import (
    AgentFolderError,
    ConfigError,
    DatasetError,
    OutputExistsError,
    UnknownNameError,
    closest,
)
from vp_agent.files import check_makeable, holds_anything
from vp_agent.train.settings import TrainSettings

_YARDSTICKS = ("hold-still", "random", "expert")


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


def check_file(path: Path) -> None:
    """Refuses a file to write that is a folder, or whose folder cannot be made."""
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; --out is the file to write")
    check_makeable(path.parent)


def check_training(settings: TrainSettings) -> None:
    """Refuses a used run folder, one that cannot be made, and what `check_sources` refuses."""
    out = settings.out
    check_makeable(out)
    if holds_anything(out) and not settings.resume:
        raise OutputExistsError(f"{out} exists; give --resume or another --out")
    if settings.resume and not (out / "config.json").is_file():
        raise ConfigError(f"{out} is not a run folder; drop --resume to start one")
    check_sources(settings)


def check_sources(settings: TrainSettings) -> None:
    """Refuses an unknown preset, agents and datasets that are not there, and views they lack.

    Agents and datasets on the Hub are looked at when they are loaded.
    """
    from vp_agent.locate import locate
    from vp_agent.train.dataset_files import DatasetFiles
    from vp_agent.train.dataset_source import locate_dataset
    from vp_agent.train.key_maps import find_layout

    if settings.init is None or settings.from_svd:
        views = settings.preset_config.views
    else:
        views = () if _on_the_hub(settings.init) else _views(locate(settings.init))
    maps = settings.key_map or (None,)
    maps = maps * len(settings.datasets) if len(maps) == 1 else maps
    for data, key_map in zip(settings.datasets, maps, strict=True):
        if not data.exists() and not _on_the_hub(data):
            raise DatasetError(
                f"{data} is not there; a dataset is a LeRobot v3 folder or a Hub repository "
                "(user/name); make one: vp-agent collect --env Robosuite-Lift-v0 --out DIR"
            )
        if data.exists():
            root, name = locate_dataset(data)
            find_layout(DatasetFiles(root, name=name), key_map, views=views)


def _views(agent: Path) -> tuple[str, ...]:
    """The views that an agent's folder asks for; none where its configuration is damaged."""
    try:
        views = json.loads((agent / "config.json").read_text())["views"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # damage is named where the agent is loaded
    return tuple(view for view in views if isinstance(view, str)) if isinstance(views, list) else ()


def check_conversion(settings: ConvertSettings) -> None:
    """Refuses a checkpoint that is not there, an output that is, and an unknown preset."""
    check_preset(settings.preset)
    if not settings.checkpoint.is_file():
        raise AgentFolderError(f"{settings.checkpoint} is not there; expected a .ckpt file")
    check_makeable(settings.out)
    if settings.out.exists():
        raise OutputExistsError(f"{settings.out} exists; remove it or give another --out")


def _on_the_hub(path: Path) -> bool:
    """Whether a name that is no folder here may be a Hub repository: user/name.

    outputs/lift is none while there is a folder outputs.
    """
    user = path.parent
    return len(path.parts) == 2 and not path.exists() and not user.is_dir() and user.name != ".."
