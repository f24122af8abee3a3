"""A small real LeRobot dataset: a bright square moves the way the actions say."""

from pathlib import Path

import numpy as np


def write_toy_dataset(
    root: Path,
    *,
    views: tuple[str, ...] = ("gripper", "left"),
    episodes: int = 6,
    steps: int = 24,
    size: int = 64,
    action_dim: int = 7,
    fps: int = 20,
    seed: int = 0,
) -> Path:
    """Writes a LeRobot v3 dataset with LeRobot's own writer."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    rng = np.random.default_rng(seed)
    features = {
        f"observation.images.{view}": {
            "dtype": "video",
            "shape": (size, size, 3),
            "names": ["height", "width", "channels"],
        }
        for view in views
    }
    features["action"] = {"dtype": "float32", "shape": (action_dim,), "names": None}
    dataset = LeRobotDataset.create(
        "toy/square", fps, features, root=root, robot_type="toy", use_videos=True
    )
    for _ in range(episodes):
        place = rng.uniform(size * 0.2, size * 0.8, 2)
        for _ in range(steps):
            action = rng.uniform(-1, 1, action_dim).astype(np.float32)
            place = np.clip(place + 2 * action[:2], 8, size - 8)
            frame = {"action": action, "task": "move the square"}
            for v, view in enumerate(views):
                image = np.full((size, size, 3), 60 + 40 * v, np.uint8)
                y, x = place.astype(int)
                image[y - 6 : y + 6, x - 6 : x + 6] = (250, 40, 40)
                frame[f"observation.images.{view}"] = image
            dataset.add_frame(frame)
        # LeRobot's pool of encoders would fork a process with torch's threads
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root
