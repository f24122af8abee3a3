"""The one switch for GPUs: convolutions channels-last, blocks through torch.compile."""

from typing import Any

import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn

from vp_agent.model.video_policy import VideoPolicy


def compile_model(model: VideoPolicy, *, backend: str = "inductor") -> None:
    """Compiles block by block, so that equal blocks share code and taps stay between them."""
    for module in model.unet.modules():
        if isinstance(module, nn.Conv2d):  # their outputs follow their weights' format
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    blocks = [
        module
        for module in model.unet.modules()
        if isinstance(module, SpatioTemporalResBlock | TransformerSpatioTemporalModel)
    ]
    pieces: list[Any] = [*blocks, model.adapter, model.action_head]
    for module in pieces:
        module.forward = torch.compile(module.forward, backend=backend)
