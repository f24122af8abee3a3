"""Exact shortcuts through diffusers' video U-Net: the same numbers from less work.

The instruction is one cross-attention token, so the softmax over it is 1 and every cross-attention
is a linear map of the token, the same for all queries. The temporal convolutions, (3, 1, 1), are
2-D convolutions over (time, pixel), which the small agents run faster on a CPU.
"""

# N rows (sample and slot, or sample and pixel), L queries, C channels, D text width

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from einops import rearrange
from torch import Tensor, nn


class OneTokenAttention(AttnProcessor2_0):
    """Attention processor that knows the answer when there is one key: its value."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = False
        self._kept_N1C: Tensor | None = None

    def forget(self, *, keep: bool) -> None:
        """Drops the kept answer; with `keep` the next one is used until the next `forget`."""
        self.keep, self._kept_N1C = keep, None

    def __call__(
        self,
        attn: Any,  # an Attention; its parts are optional to type checkers
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        if self._kept_N1C is not None:
            return self._kept_N1C
        out_N1C = attn.to_out[0](attn.to_v(encoder_hidden_states))  # broadcasts over the queries
        self._kept_N1C = out_N1C if self.keep else None
        return out_N1C


class TemporalConv(nn.Conv3d):
    """A (3, 1, 1) convolution, run as a 2-D one."""

    def forward(self, input: Tensor) -> Tensor:
        x = rearrange(input, "b c t h w -> b c t (h w)")
        out = F.conv2d(x, self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return rearrange(out, "b c t (h w) -> b c t h w", h=input.shape[-2])


def shorten(unet: UNetSpatioTemporalConditionModel) -> None:
    """Puts the shortcuts into `unet`; its weights and their names stay as they are."""
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and name.endswith(".attn2"):
            module.set_processor(OneTokenAttention())  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv3d) and module.kernel_size == (3, 1, 1):
            module.__class__ = TemporalConv


def freeze_idle(unet: UNetSpatioTemporalConditionModel) -> None:
    """Freezes what one token leaves without effect or gradient: queries, keys and their norm."""
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and name.endswith(".attn2"):
            norm = unet.get_submodule(name.removesuffix("attn2") + "norm2")
            for idle in ("to_q", "to_k"):
                module.get_submodule(idle).requires_grad_(False)
            norm.requires_grad_(False)


@contextmanager
def one_text(unet: UNetSpatioTemporalConditionModel) -> Iterator[None]:
    """Within the block every call has the same text and weights: what it makes of them is kept."""
    crosses = [p for p in unet.attn_processors.values() if isinstance(p, OneTokenAttention)]
    try:
        for processor in crosses:
            processor.forget(keep=True)
        yield
    finally:
        for processor in crosses:
            processor.forget(keep=False)
