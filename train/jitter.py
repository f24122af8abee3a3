"""Colour jitter of whole clips, as published: brightness, contrast, saturation, hue."""

# T frames, C channels, H W pixels

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vp_agent.errors import need
from vp_agent.torch_defaults import uniform

STRENGTHS = (0.2, 0.2, 0.2, 0.05)  # of brightness, contrast, saturation, hue


def jitter_clip(frames_TCHW: Tensor, *, generator: torch.Generator) -> Tensor:
    """Images uint8 with other colours, the same change in every frame of the clip."""
    functional: Any = need("torchvision.transforms.v2.functional", extra="lerobot")
    strengths = torch.tensor(STRENGTHS, dtype=torch.float32, device="cpu")
    changes = strengths * (2 * uniform((4,), generator) - 1)
    steps: list[Callable[[Tensor], Tensor]] = [
        lambda frames: functional.adjust_brightness(frames, 1 + changes[0].item()),
        lambda frames: functional.adjust_contrast(frames, 1 + changes[1].item()),
        lambda frames: functional.adjust_saturation(frames, 1 + changes[2].item()),
        lambda frames: functional.adjust_hue(frames, changes[3].item()),
    ]
    frames = frames_TCHW.float() / 255  # no rounding between the steps
    for i in torch.randperm(4, generator=generator, dtype=torch.int64, device="cpu").tolist():
        frames = steps[i](frames)
    return (frames * 255).round().byte()
