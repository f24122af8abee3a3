"""What LeRobot's trainer must not train the policy on, said before it begins."""

# N frames of the dataset, A action dim

from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import DatasetError
from vp_agent.train.check_clips import first_picture
from vp_agent.train.check_files import Found
from vp_agent.train.clips import IMAGES
from vp_agent.train.dataset_files import DatasetFiles, feature_names
from vp_agent.train.gate import GATE_CHECKS, META_CHECKS, pass_gate
from vp_agent.train.key_maps import Column, Layout, find_layout
from vp_agent.train.mixture import ActionRange, check_range
from vp_agent.train.notes import check_action_kind, read_notes
from vp_agent.train.pictures import is_depth, open_picture


def open_theirs(meta: Any) -> DatasetFiles:
    """The dataset that LeRobot has opened, through our gate; of a streamed one the tables.

    What `vp-agent train` reads right and LeRobot does not, is refused: it looks instructions up by
    their place in the table, and hands on stored pictures as they are.
    """
    files = DatasetFiles(meta.root, name=meta.repo_id)
    streamed = not any((files.root / "data").rglob("*.parquet"))
    pass_gate(files, META_CHECKS if streamed else GATE_CHECKS)
    pass_gate(files, LEROBOT_CHECKS)
    return files


def _order_of_tasks(files: DatasetFiles) -> Found:
    path = files.root / "meta/tasks.parquet"
    table = files.parquet(path).to_pandas()
    in_order = list(table["task_index"]) == list(range(len(table)))
    if not in_order or not all(isinstance(text, str) for text in table.index):
        what = "LeRobot looks instructions up by their place: it wants them as the table's index, "
        what += "in the order of task_index, without a gap"
        yield str(path), what, f"write it so; vp-agent train reads the dataset as it is: {THEN}"


def _stored_as_rgb(files: DatasetFiles) -> Found:
    for view in files.image_views:
        for file in files.data_files:
            mode = open_picture(first_picture(file, view)).mode
            if mode != "RGB" and not is_depth(files.info["features"][view]):
                where = f"{file}, view {view.removeprefix(IMAGES)}"
                what = f"LeRobot reads pictures of kind {mode} as they are, not as RGB"
                yield where, what, f"write them as RGB; vp-agent train converts them: {THEN}"


LEROBOT_CHECKS = {"order of tasks": _order_of_tasks, "stored as RGB": _stored_as_rgb}
THEN = "vp-agent train --data DIR"


def check_images(meta: Any, config: VideoPolicyConfig) -> Layout:
    """Refuses frames of another rate or orientation; returns how the dataset names things."""
    if meta.fps != config.control_hz:
        raise DatasetError(
            f"{meta.repo_id} has {meta.fps} fps, the policy runs at {config.control_hz:g} Hz; "
            f"from a preset, --policy.fps={meta.fps} sets it"
        )
    files = open_theirs(meta)
    layout = find_layout(files, None, views=())  # LeRobot's --rename_map finds the views
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
    check_action_kind(read_notes(meta.root), config.action_names, where=meta.repo_id)
    return names


def check_action_range(meta: Any, config: VideoPolicyConfig, action_range: ActionRange) -> None:
    """Refuses actions that lie outside the agent's range; those of a streamed dataset unseen."""
    if any((meta.root / "data").rglob("*.parquet")) and config.action_stats is not None:
        check_range(
            config.action_stats,
            DatasetFiles(meta.root).column(ACTION).astype(np.float32),
            name=meta.repo_id,
            action_range=action_range,
            flag="--policy.action_range=",
        )
