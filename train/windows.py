"""What a training window holds: which frames and actions, in which size and range."""

# B batch, T frames per view, K action steps, A action dim, C channels, H W height/width

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vp_agent.config import ActionStats
from vp_agent.errors import DatasetError
from vp_agent.images import fit_image

ActionPadding = Literal["last", "zero"]


def frame_steps(start_B: np.ndarray, last_B: np.ndarray, *, frames: int, stride: int):
    """Steps (B, T) of strided frames and which of them lie past the episode's last step.

    Those repeat the last strided frame before the end, as the published pipeline does.
    """
    wanted_BT = start_B[:, None] + np.arange(frames) * stride
    present_B = (last_B - start_B) // max(stride, 1) * stride  # stride 0: copies of the first
    return np.minimum(wanted_BT, (start_B + present_B)[:, None]), wanted_BT > last_B[:, None]


def action_chunks(
    actions_NA: np.ndarray,
    start_B: np.ndarray,
    last_B: np.ndarray,
    *,
    horizon: int,
    padding: ActionPadding,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw actions (B, K, A) and which of them (B, K) lie past the episode's last step."""
    wanted_BK = start_B[:, None] + np.arange(horizon)
    is_pad_BK = wanted_BK > last_B[:, None]
    chunks_BKA = actions_NA[np.minimum(wanted_BK, last_B[:, None])]
    if padding == "zero":
        chunks_BKA[is_pad_BK] = 0
    return chunks_BKA, is_pad_BK


def action_range(actions_NA: np.ndarray, *, where: str) -> ActionStats:
    """Range of every dimension; a constant one is a `DatasetError` that names `where`."""
    constant = np.flatnonzero(np.ptp(actions_NA, axis=0) == 0)
    if len(constant):
        raise DatasetError(
            f"{where}: action dimension {constant[0]} is constant; it cannot be normalised"
        )
    return ActionStats(
        min=tuple(actions_NA.min(axis=0).tolist()), max=tuple(actions_NA.max(axis=0).tolist())
    )


def fit_images(images: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Images uint8 (..., C, H, W), cut in the middle to the wanted shape and resized."""
    if tuple(images.shape[-2:]) == resolution:
        return images
    flat = images.flatten(0, -4).movedim(-3, -1).numpy()
    fitted = np.stack([fit_image(image, resolution) for image in flat])
    return torch.from_numpy(fitted).movedim(-1, -3).unflatten(0, images.shape[:-3])


def to_signed(frames: Tensor) -> Tensor:
    """Images uint8 in 0..255 to float32 in [-1, 1]."""
    return frames.float() / 127.5 - 1


def normalise(actions: Tensor, stats: ActionStats) -> Tensor:
    """Actions to [-1, 1] by the training range, per dimension."""
    low, high = (
        torch.tensor(v, dtype=actions.dtype, device=actions.device) for v in (stats.min, stats.max)
    )
    return 2 * (actions - low) / (high - low) - 1
