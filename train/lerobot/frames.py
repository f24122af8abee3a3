"""LeRobot's batches in our words: images as uint8 views, masks, instructions."""

# B batch, V views, T frames per view, C channels, H W pixels, K action steps

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import DatasetError, ObservationError, closest
from vp_agent.observation import Observation
from vp_agent.train.windows import fit_images
from vp_agent.wrappers.lerobot_keys import IMAGES


def read_frames(batch: Mapping[str, Any], config: VideoPolicyConfig) -> Tensor:
    """Views (B, V, T, 3, H, W), uint8 on the CPU, in the policy's size; T is 1 in flight.

    Raises:
        DatasetError: a view is missing.
    """
    views = []
    for view in config.views:
        key = IMAGES + view
        if key not in batch:
            have = [name for name in batch if name.startswith(IMAGES) and "_is_pad" not in name]
            raise DatasetError(
                f"no {key!r}{closest(key, have)} The batch has {', '.join(have) or 'no images'}; "
                "name the cameras with --policy.views, or rename theirs with --rename_map"
            )
        images = batch[key].cpu()
        if images.is_floating_point():  # LeRobot's 0..1, made from uint8 just before
            images = (images * 255).round().byte()
        images = images if images.ndim == 5 else images[:, None]
        views.append(fit_images(images, config.resolution))
    return torch.stack(views, dim=1)


def read_instructions(batch: Mapping[str, Any], *, count: int) -> tuple[str, ...]:
    """One instruction in words per sample.

    Raises:
        ObservationError: there is none, or an empty one.
    """
    tasks = batch.get("task", ())
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    if len(tasks) != count or not all(isinstance(task, str) and task.strip() for task in tasks):
        raise ObservationError(
            f"expected {count} instructions in words under 'task', got {tasks!r}; the dataset (or "
            "the environment's task_description) must say what the robot is to do"
        )
    return tasks


def read_flight(batch: Mapping[str, Any], config: VideoPolicyConfig) -> Observation:
    """The observation in a batch of an environment or a robot."""
    # Laid out as an environment's images: other strides would take convolutions of other rounding.
    images_BVHW3 = read_frames(batch, config)[:, :, 0].movedim(-3, -1).contiguous().numpy()
    tasks = read_instructions(batch, count=len(images_BVHW3))
    return Observation(images_BVHW3=images_BVHW3, tasks=tasks, batched=True)


def read_mask(batch: Mapping[str, Any], keys: Sequence[str], *, shape: tuple[int, int]) -> Tensor:
    """Entries past the episode's end in any of the keys, bool; none where LeRobot says nothing."""
    masks = [batch[f"{key}_is_pad"].cpu() for key in keys if f"{key}_is_pad" in batch]
    return (
        torch.stack(masks).any(0) if masks else torch.zeros(shape, dtype=torch.bool, device="cpu")
    )


def strided(frames_BVTCHW: Tensor, is_pad_BT: Tensor) -> Tensor:
    """Past the end the last strided frame repeats, where LeRobot repeats the episode's last."""
    last_B1 = (~is_pad_BT).sum(1, keepdim=True) - 1
    real_BT = torch.minimum(
        torch.arange(is_pad_BT.shape[1], dtype=torch.int64, device=is_pad_BT.device), last_B1
    )
    return torch.stack(
        [frames[:, real] for frames, real in zip(frames_BVTCHW, real_BT, strict=True)]
    )
