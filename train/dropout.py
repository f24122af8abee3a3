"""Hiding conditions in training, which makes the unconditional branch of guidance."""

# B batch, S slots

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from vp_agent.torch_defaults import uniform


def draw_keep(
    batch: int, slots: int, *, rate: float, per_slot: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Ones and zeros (B, S) for the text and, independently, for the images.

    The published training draws for every slot of a sample; then hardly ever is all of it hidden.
    """
    draws = uniform((2, batch, slots if per_slot else 1), generator) >= rate
    text_BS, images_BS = draws.float().expand(2, batch, slots)
    return text_BS, images_BS


@contextmanager
def hidden_text(unet: nn.Module, keep_BS: Tensor) -> Iterator[None]:
    """Within the block, the U-Net sees the text only in the slots that `keep_BS` keeps.

    diffusers repeats one text row over the slots, so it is hidden where each transformer reads it.
    """

    def hide(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        text = kwargs["encoder_hidden_states"]
        keep = keep_BS.to(text).reshape(-1, 1, 1)
        return args, {**kwargs, "encoder_hidden_states": text * keep}

    handles = [
        module.register_forward_pre_hook(hide, with_kwargs=True)
        for module in unet.modules()
        if isinstance(module, TransformerSpatioTemporalModel)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
