"""Camera images brought to the policy's size, in training and in flight by the same code."""

from collections.abc import Iterable

import numpy as np

from vp_agent.errors import ConfigError, need


def fit_image(image_HW3: np.ndarray, resolution: tuple[int, int]) -> np.ndarray:
    """An image uint8 (H, W, 3), cut in the middle to the wanted shape and resized to it."""
    height, width = image_HW3.shape[:2]
    if (height, width) == resolution:
        return image_HW3
    cv2 = need("cv2", extra="lerobot")  # its rounding is the published pipeline's
    wanted = resolution[1] / resolution[0]
    if width / height > wanted:
        cut = int(height * wanted)
        image_HW3 = image_HW3[:, (width - cut) // 2 :][:, :cut]
    else:
        cut = int(width / wanted)
        image_HW3 = image_HW3[(height - cut) // 2 :][:cut]
    return cv2.resize(
        np.ascontiguousarray(image_HW3), resolution[::-1], interpolation=cv2.INTER_LINEAR
    )


def check_resolution(resolution: object) -> tuple[int, int]:
    """(height, width) as plain numbers; anything else is a `ConfigError`."""
    sizes = tuple(resolution) if isinstance(resolution, Iterable) else ()
    if len(sizes) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in sizes):
        raise ConfigError(f"resolution must be (height, width), both > 0, not {resolution!r}")
    return int(sizes[0]), int(sizes[1])
