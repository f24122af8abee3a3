"""The canvas: the frame slots of the U-Net as one pad frame and each view's frames in order.

The pad slot repeats the first view's current frame (paper section 4.1: slot 1; 2-9; 10-17; 18-25).
"""

# B batch, V views, T frames per view, S = 1 + V T slots, C channels, H W height/width

import torch
from einops import rearrange, repeat
from torch import Tensor


def compose(frames_BVTCHW: Tensor) -> Tensor:
    """Views (B, V, T, C, H, W) to slots (B, 1 + V T, C, H, W)."""
    slots_BSCHW = rearrange(frames_BVTCHW, "b v t c h w -> b (v t) c h w")
    return torch.cat([frames_BVTCHW[:, 0, :1], slots_BSCHW], dim=1)


def split(slots_BSCHW: Tensor, *, views: int) -> Tensor:
    """Slots (B, 1 + V T, C, H, W) to views (B, V, T, C, H, W); the pad slot is dropped."""
    return rearrange(slots_BSCHW[:, 1:], "b (v t) c h w -> b v t c h w", v=views)


def compose_condition(current_BVCHW: Tensor, *, frames: int) -> Tensor:
    """Each view's current image or latent (B, V, C, H, W) in all its slots (B, S, C, H, W)."""
    return compose(repeat(current_BVCHW, "b v c h w -> b v t c h w", t=frames))


def slot_mask(is_pad_BT: Tensor, *, views: int) -> Tensor:
    """Which slots hold a real frame, (B, 1 + V T) bool, from the frames past the episode's end."""
    real_BT = ~is_pad_BT
    return torch.cat([real_BT[:, :1], repeat(real_BT, "b t -> b (v t)", v=views)], dim=1)
