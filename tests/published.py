"""A small checkpoint in the published layout: all 3625 tensors of it, by the golden formula."""

from collections.abc import Mapping
from pathlib import Path

import torch
from golden_formula import manifest, weight
from torch import Tensor

from vp_agent.adapter_config import AdapterConfig, LayerConfig, TapConfig
from vp_agent.checkpoints.keys import part_and_key
from vp_agent.config import (
    SVD_VAE,
    ActionHeadConfig,
    ActionStats,
    VideoPolicyConfig,
)
from vp_agent.model.video_policy import VideoPolicy, blank_policy
from vp_agent.presets import PRESETS

HEADS = ("model.diffusion_model.vision_encoder.", "model.diffusion_model.pose_pred_net.")
CONDITION_VAE = "conditioner.embedders.3.encoder."
STATS = ActionStats(min=(-1.0,) * 7, max=(1.0,) * 7)


# As few channels as group norms allow. Widths that differ still differ, equal ones are equal: that
# decides which blocks have a shortcut convolution.
WIDTHS = {320: 32, 420: 56, 540: 48, 576: 72, 640: 64, 720: 40, 864: 80, 960: 88, 1280: 96}


def _narrow(layer: LayerConfig) -> LayerConfig:
    return LayerConfig(
        channels=WIDTHS[layer.channels],
        groups=2,
        blocks=layer.blocks,
        expansion=layer.expansion,
        stride_t=layer.stride_t,
        stride_s=layer.stride_s,
    )


def _narrow_adapter(paper: AdapterConfig) -> AdapterConfig:
    return AdapterConfig(
        taps=tuple(
            TapConfig(
                module=tap.module,
                channels=WIDTHS[tap.channels],
                factor=tap.factor,
                trunk=_narrow(tap.trunk),
                side=tap.side and _narrow(tap.side),
            )
            for tap in paper.taps
        ),
        view_layers=tuple(map(_narrow, paper.view_layers)),
        fused_layers=tuple(map(_narrow, paper.fused_layers)),
        norm_groups=2,
    )


PAPER = PRESETS["svd-robocasa"]()
# The paper's model in narrow: the same modules, so the same names.
NARROW = PAPER.replace(
    resolution=(64, 64),
    unet={
        "block_out_channels": [32, 64, 96, 96],
        "num_attention_heads": [1, 2, 3, 3],
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
    },
    vae={**SVD_VAE, "block_out_channels": [32, 64, 96, 96]},
    text_encoder={
        **PAPER.text_encoder,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 1,
        "projection_dim": 32,
    },
    adapter=_narrow_adapter(PAPER.adapter),
    action_head=ActionHeadConfig(widths=(16, 24, 32), step_width=16),
)


def published_shapes(config: VideoPolicyConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a published stage-2 checkpoint of this configuration."""
    ours: VideoPolicy = blank_policy(config.replace(condition_encoder=True))
    shapes = {}
    for name in manifest("checkpoint_layout.json"):
        place = part_and_key(name)
        if place is None:
            shapes[name] = (1,)  # nobody reads it
            continue
        part, key = place
        shape = tuple(ours.get_parameter(f"{part}.{key.replace('{}', 'q')}").shape)
        if "{}" in key:
            shape = (3 * shape[0], *shape[1:])  # q, k and v in one
        if ".mid.attn_1." in name and len(shape) == 2:
            shape = (*shape, 1, 1)
        shapes[name] = shape
    return shapes


def published_state(config: VideoPolicyConfig, *, same_encoder: bool = False) -> dict[str, Tensor]:
    """A stage-2 `state_dict`; by formula its two image encoders differ, unless asked not to."""
    state = {name: weight(name, shape) for name, shape in published_shapes(config).items()}
    if same_encoder:
        mix, shift = (state[f"{CONDITION_VAE}quant_conv.{x}"] for x in ("weight", "bias"))
        for name, tensor in state.items():
            if name.startswith(f"{CONDITION_VAE}encoder."):
                state[name.replace(CONDITION_VAE, "first_stage_model.")] = tensor
        last = "first_stage_model.encoder.conv_out."
        state[last + "weight"] = torch.einsum(
            "om,mchw->ochw", mix[:, :, 0, 0], state[last + "weight"]
        )
        state[last + "bias"] = mix[:, :, 0, 0] @ state[last + "bias"] + shift
    return state


def without_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stage-1 `state_dict`."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}


def save_checkpoint(state: Mapping[str, Tensor], path: Path) -> Path:
    """Writes a file as Lightning does."""
    torch.save({"epoch": 1, "global_step": 2, "state_dict": dict(state)}, path)
    return path
