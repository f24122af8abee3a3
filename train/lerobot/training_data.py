"""What LeRobot's trainer must not train the policy on, said before it begins."""

# N frames of the dataset, A action dim

from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import DatasetError
from vp_agent.train.action_meaning import check_action_kind
from vp_agent.train.dataset_files import DatasetFiles, feature_names
from vp_agent.train.key_maps import Column, Layout, find_layout
from vp_agent.train.mixture import ActionRange, check_range
from vp_agent.train.notes import read_notes


def check_images(meta: Any, config: VideoPolicyConfig) -> Layout:
    """Refuses frames of another rate or orientation; returns how the dataset names things."""
    if meta.fps != config.control_hz:
        raise DatasetError(
            f"{meta.repo_id} has {meta.fps} fps, the policy runs at {config.control_hz:g} Hz; "
            f"from a preset, --policy.fps={meta.fps} sets it"
        )
    layout = find_layout(meta.root, None, views=())  # LeRobot's --rename_map finds the views
    wanted = config.image_transform
    have = layout.image_transform or read_notes(meta.root).transform or wanted
    if have != wanted:
        raise DatasetError(
            f"the images of {meta.repo_id} are {have}, the policy's {wanted}; from a preset, "
            f"--policy.image_transform={have} sets it; vp-agent train turns them over"
        )
    return layout


def check_actions(meta: Any, config: VideoPolicyConfig, layout: Layout) -> tuple[str, ...]:
    """Refuses actions that mean something else; returns the names of their dimensions."""
    feature = meta.features.get(ACTION, {"shape": (0,)})
    (width,) = feature["shape"]
    if width != config.action_dim:
        raise DatasetError(
            f"{meta.repo_id} has {width}-D actions, the policy has action_dim "
            f"{config.action_dim}; from a preset, --policy.action_dim sets it"
        )
    whole = layout.action == (Column(key=ACTION, start=0, stop=width),)
    names = layout.action_names if whole else feature_names(feature)
    if config.action_names and names not in ((), config.action_names):
        raise DatasetError(
            f"{meta.repo_id} has the actions {', '.join(names)}; the policy's are "
            f"{', '.join(config.action_names)}; if they mean the same, vp-agent train takes them "
            "with a key map (docs/data.md)"
        )
    check_action_kind(
        read_notes(meta.root).action,
        names=names,
        policy_names=config.action_names,
        where=meta.repo_id,
    )
    return names


def check_action_range(meta: Any, config: VideoPolicyConfig, action_range: ActionRange) -> None:
    """Refuses actions that lie outside the agent's range; those of a streamed dataset unseen."""
    files = sorted((meta.root / "data").rglob("*.parquet"))
    if files and config.action_stats is not None:
        parts = [DatasetFiles(meta.root).columns_of(file, [ACTION])[ACTION] for file in files]
        check_range(
            config.action_stats,
            np.concatenate(parts).astype(np.float32),
            name=meta.repo_id,
            action_range=action_range,
            flag="--policy.action_range=",
        )
