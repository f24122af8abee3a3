"""What was imagined, in the shapes in which LeRobot's evaluation collects and shows it."""

# B lanes, V views, T frames per view, H W pixels

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vp_agent.agent import Plan
from vp_agent.config import VideoPolicyConfig


def imagined(plan: Plan) -> Tensor:
    """The plan's frames (B, 3, T, H, V W): LeRobot joins those of several plans along T."""
    assert plan.video is not None  # asked for
    views = np.concatenate(list(plan.video.values()), axis=-2)
    return rearrange(torch.from_numpy(views), "b t h w c -> b c t h w")


def film(frames: Tensor, config: VideoPolicyConfig) -> Tensor:
    """Plans side by side in time, (B, 3, plans T, H, V W), as (T, H, W, 3): a row for each lane.

    Of every plan the part that was executed before the next, a frame per control step.
    """
    stride = max(config.frame_stride, 1)
    shown = min(-(-config.execute // stride), config.frames_per_view)
    plans = rearrange(frames, "b c (p t) h w -> p t (b h) w c", t=config.frames_per_view)
    executed = plans[:, :shown].repeat_interleave(stride, dim=1)[:, : config.execute]
    return rearrange(executed, "p t h w c -> (p t) h w c")
