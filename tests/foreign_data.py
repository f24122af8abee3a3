"""Small real LeRobot datasets in the layouts of others, written with LeRobot's own writer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = "observation.images."
# Where RoboCasa365's exports place the parts of an action; others of them begin with the arm.
BASE_FIRST = {
    "base_motion": (0, 4),
    "control_mode": (4, 5),
    "end_effector_position": (5, 8),
    "end_effector_rotation": (8, 11),
    "gripper_close": (11, 12),
}
ARM_FIRST = {
    "end_effector_position": (0, 3),
    "end_effector_rotation": (3, 6),
    "gripper_close": (6, 7),
    "base_motion": (7, 11),
    "control_mode": (11, 12),
}
STATE = {
    "base_position": (0, 3),
    "base_rotation": (3, 7),
    "end_effector_position_relative": (7, 10),
    "end_effector_rotation_relative": (10, 14),
    "gripper_qpos": (14, 16),
}


def write_dataset(
    root: Path,
    *,
    views: Sequence[str] = ("gripper", "left"),
    action: tuple[int, str] | None = (7, "float32"),
    action_names: list[str] | None = None,
    state: tuple[int, str] | None = None,
    tasks: Sequence[str] = ("move the square",),
    episodes_per_task: int = 2,
    steps: int = 12,
    fps: int = 20,
    size: int = 32,
    video: bool = False,
    still: Sequence[int] = (),
    robot: str | None = None,
    seed: int = 0,
) -> Path:
    """Random numbers but for those that stand `still`; a square top left in every image."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    rng = np.random.default_rng(seed)
    kind = "video" if video else "image"  # image files keep every bit and are written faster
    names = ["height", "width", "channels"]
    features: dict[str, Any] = {
        IMAGES + view: {"dtype": kind, "shape": (size, size, 3), "names": names} for view in views
    }
    columns = {"action": action, "observation.state": state}
    for key, column in columns.items():
        if column is not None:
            given = action_names if key == "action" else None
            features[key] = {"dtype": column[1], "shape": (column[0],), "names": given}
    dataset = LeRobotDataset.create(
        "foreign/data", fps, features, root=root, robot_type=robot, use_videos=video
    )
    for task in tasks:
        for _ in range(episodes_per_task):
            for step in range(steps):
                frame: dict[str, Any] = {"task": task}
                for v, view in enumerate(views):
                    image = np.full((size, size, 3), 60 + 40 * v + step, np.uint8)
                    image[: size // 2, : size // 2] = (250, 40, 40)
                    frame[IMAGES + view] = image
                for key, column in columns.items():
                    if column is not None:
                        frame[key] = rng.uniform(-1, 1, column[0]).astype(column[1])
                        frame[key][list(still)] = -1
                dataset.add_frame(frame)
            dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


def write_libero(root: Path, **options: Any) -> Path:
    """As lerobot/libero: two cameras by number, 10 fps by its label."""
    options = {"fps": 10, "state": (8, "float32"), "robot": "panda"} | options
    return write_dataset(root, views=("image", "image2"), **options)


def write_robocasa365(
    root: Path, *, places: dict[str, tuple[int, int]] = BASE_FIRST, **options: Any
) -> Path:
    """As RoboCasa365 after LeRobot's conversion to v3: float64, parts named by modality.json."""
    cameras = ("robot0_agentview_left", "robot0_agentview_right", "robot0_eye_in_hand")
    write_dataset(root, views=cameras, action=(12, "float64"), state=(16, "float64"), **options)
    modality = {
        "state": _parts(STATE, "observation.state"),
        "action": _parts(places, "action"),
        "video": {camera: {"original_key": IMAGES + camera} for camera in cameras},
    }
    (root / "meta" / "modality.json").write_text(json.dumps(modality))
    return root


def _parts(places: dict[str, tuple[int, int]], key: str) -> dict[str, Any]:
    return {
        name: {"original_key": key, "start": start, "end": stop}
        for name, (start, stop) in places.items()
    }
