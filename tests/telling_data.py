"""A small LeRobot dataset whose pictures and actions both tell episode and frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = (10, 12, 8, 9)
TASKS = ("open the drawer", "close the drawer", "push the button", "open the drawer")
VIEWS = ("gripper", "left")


def picture(view: int, episode: int, frame: int, size: int) -> np.ndarray:
    """The left half's level tells the frame, the right half's the episode, the lowest the view."""
    image = np.zeros((size, size, 3), np.uint8)
    image[:, : size // 2] = 20 + 10 * frame
    image[:, size // 2 :] = 20 + 40 * episode
    image[size * 3 // 4 :] = 40 + 80 * view
    return image


def read_picture(image_3HW: np.ndarray) -> tuple[int, int, int]:
    """Episode, frame and view that a picture tells."""
    height, width = image_3HW.shape[1:]

    def level(rows: tuple[int, int], columns: tuple[int, int]) -> float:
        (top, bottom), (left, right) = rows, columns
        part = image_3HW[:, height * top // 8 : height * bottom // 8]
        return float(part[..., width * left // 8 : width * right // 8].mean())

    frame = (level((1, 5), (1, 3)) - 20) / 10
    episode = (level((1, 5), (5, 7)) - 20) / 40
    view = (level((7, 8), (1, 7)) - 40) / 80
    assert max(abs(x - round(x)) for x in (frame, episode, view)) < 0.4
    return round(episode), round(frame), round(view)


def write_telling(
    root: Path,
    *,
    lengths: Sequence[int] = LENGTHS,
    tasks: Sequence[str] = TASKS,
    video: bool = True,
    size: int = 32,
    fps: int = 20,
) -> Path:
    """Written with LeRobot's own writer; action 0 is the frame / 100, action 1 the episode / 10."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["height", "width", "channels"]
    kind = "video" if video else "image"
    features: dict[str, Any] = {
        f"observation.images.{view}": {"dtype": kind, "shape": (size, size, 3), "names": names}
        for view in VIEWS
    }
    features["action"] = {"dtype": "float32", "shape": (7,), "names": None}
    features["observation.state"] = {"dtype": "float32", "shape": (2,), "names": None}
    dataset = LeRobotDataset.create(
        "telling/data",
        fps,
        features,
        root=root,
        use_videos=video,
        rgb_encoder=RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p", crf=4, g=2),
    )
    for episode, (length, task) in enumerate(zip(lengths, tasks, strict=True)):
        for step in range(length):
            frame: dict[str, Any] = {
                f"observation.images.{view}": picture(v, episode, step, size)
                for v, view in enumerate(VIEWS)
            }
            wave = np.sin(step + np.arange(7)) * 0.5
            wave[:2] = step / 100, episode / 10
            frame |= {"action": wave.astype(np.float32), "task": task}
            frame["observation.state"] = np.array([step, episode], np.float32)
            dataset.add_frame(frame)
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


def misaligned(data: Any, tasks: Sequence[str] = TASKS) -> list[str]:
    """Rows of `Demonstrations` whose pictures, actions, states or instruction tell another row."""
    wrong = []
    for row, views in enumerate(data.pixels(np.arange(len(data)))[:, :, 0].numpy()):
        action, state = data.actions_NA[row], data.states_NS[row]
        said = [(round(10 * float(action[1])), round(100 * float(action[0])))]
        said += [(round(float(state[1])), round(float(state[0])))]
        shown = [read_picture(image) for image in views]
        if {x[:2] for x in shown} | set(said) != {said[0]} or [x[2] for x in shown] != [0, 1]:
            wrong.append(f"row {row}: pictures {shown}, numbers {said}")
        elif data.tasks[data.task_N[row]] != tasks[said[0][0]]:
            wrong.append(f"row {row}: {data.tasks[data.task_N[row]]!r}")
    return wrong
