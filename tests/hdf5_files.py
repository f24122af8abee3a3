"""Tiny HDF5 files in robomimic's layout whose pictures and actions tell episode and step."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CAMERA = "robot0_agentview_left_image"
VIEW = {"left": CAMERA}
SIZE = 32


def env_args(**env_kwargs: Any) -> dict[str, Any]:
    """Those of a Lift at 20 Hz; None leaves a word out."""
    kwargs = {"control_freq": 20, "robots": ["Panda"], **env_kwargs}
    said = {key: value for key, value in kwargs.items() if value is not None}
    return {"env_name": "Lift", "type": 1, "env_kwargs": said}


def picture(episode: int, step: int) -> np.ndarray:
    """Bright below, so that up is known; the grey above tells episode and step."""
    image = np.full((SIZE, SIZE, 3), 20 + 40 * episode + 8 * step, np.uint8)
    image[SIZE // 2 :] = 250
    return image


def read_picture(image: np.ndarray) -> tuple[int, int]:
    """Episode and step of a decoded `picture` (3, H, W); (-1, -1) if it is upside down."""
    if image[:, -4:].mean() < 200:
        return -1, -1
    return divmod(round((float(image[:, : SIZE // 3].mean()) - 20) / 8), 5)


def write(
    path: Path,
    lengths: Sequence[int] = (3, 2),
    *,
    env: Any = None,
    attributes: Mapping[str, Any] | None = None,
    lang: Any = "lift the cube",
    turned: bool = False,
    state: Mapping[str, int] | None = None,
    change: Callable[[Any], object] = lambda file: None,
) -> Path:
    """A file with demonstrations of `lengths`; `change` does the rest to the open file."""
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args() if env is None else env)
        data.attrs.update(attributes or {})
        for number, steps in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["ep_meta"] = json.dumps({"lang": lang})
            rows = np.arange(steps)[:, None] * 0.01 + np.arange(7) * 0.001 + number * 0.1
            demo["actions"] = rows
            images = np.stack([picture(number, step) for step in range(steps)])
            demo[f"obs/{CAMERA}"] = images[:, ::-1] if turned else images
            for key, width in (state or {}).items():
                numbers = rows[:, :1] + np.linspace(0.1, 0.5, width)
                if key.endswith("quat"):
                    numbers = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
                demo[f"obs/{key}"] = numbers
        change(file)
    return path
