"""Names of the published implementation's checkpoints (stage 1, stage 2, joint) as our own names.

Three questions, one answer each:

* `part_and_key(name)`: which part of the network a tensor belongs to, and its name there.
* `reshape(key, tensor)`: the same numbers in our layout. It gives a dictionary, because one tensor
  can become three: for a fused projection of the text tower (`in_proj_weight`, `in_proj_bias`)
  `part_and_key` gives one key that holds the placeholder `{}`, and `reshape` fills it with q, k, v.
* `convert(state)`: both, for a whole checkpoint.

Not in those files: the target VAE's `quant_conv`, which the published model does not have (identity
in ours), and the statistics of the actions.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from vp_agent.adapter_config import AdapterConfig
from vp_agent.errors import AgentFolderError

Rules = Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]

VAE_LEVELS = (
    4  # Stable Video Diffusion's; the published decoder numbers them from the image inwards
)
UNUSED = (
    r"conditioner\.embedders\.3\.encoder\.(decoder|post_quant_conv)\..+",  # it only encodes
    r"conditioner\.embedders\.0\.open_clip\.model\.logit_scale",  # of the contrastive loss
)


def part_and_key(name: str, *, adapter: AdapterConfig | None = None) -> tuple[str, str] | None:
    """Part ("unet", "vae", "condition_vae", "text_encoder", "adapter", "action_head") and our key.

    None for a tensor that is known and not needed.

    Args:
        name: key of the published checkpoint.
        adapter: its layers are numbered through in the published names; None for the paper's.

    Raises:
        AgentFolderError: no published model has such a key (a `ValueError`).
    """
    if any(re.fullmatch(pattern, name) for pattern in UNUSED):
        return None
    config = adapter or AdapterConfig()
    translators: dict[str, tuple[str, Callable[[str], str | None]]] = {
        "model.diffusion_model.vision_encoder.": ("adapter", lambda key: adapter_key(key, config)),
        "model.diffusion_model.pose_pred_net.": ("action_head", action_head_key),
        "model.diffusion_model.": ("unet", unet_key),
        "first_stage_model.": ("vae", vae_key),
        "conditioner.embedders.3.encoder.": ("condition_vae", vae_key),
        "conditioner.embedders.0.open_clip.model.": ("text_encoder", text_key),
    }
    for prefix, (part, translate) in translators.items():
        if name.startswith(prefix):
            key = translate(name.removeprefix(prefix))
            if key is not None:
                return part, key
            break
    raise AgentFolderError(
        f"{name!r} is no tensor of a published Video Policy checkpoint; expected the state_dict of "
        "a stage-1, stage-2 or joint .ckpt file"
    )


def reshape(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensors that the published `tensor` becomes under our `key`; views, not copies."""
    if "{}" in key:
        return {key.format(x): part for x, part in zip("qkv", tensor.chunk(3), strict=True)}
    if key == "text_projection.weight":
        return {key: tensor.T}
    if re.search(r"\.to_(q|k|v|out\.0)\.weight$", key):
        return {key: tensor.flatten(1)}  # the VAE's attention was written as 1x1 convolutions
    return {key: tensor}


def convert(
    state: Mapping[str, Tensor], *, adapter: AdapterConfig | None = None
) -> dict[str, dict[str, Tensor]]:
    """A whole published `state_dict` as one of ours per part."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        place = part_and_key(name, adapter=adapter)
        if place is not None:
            parts.setdefault(place[0], {}).update(reshape(place[1], tensor))
    return parts


def _translate(name: str, rules: Rules) -> str | None:
    """`name` by the first rule that fits all of it."""
    for pattern, target in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(target) if isinstance(target, str) else target(match)
    return None


# ---- video U-Net: sgm's flat lists of blocks are diffusers' levels of three


def unet_key(name: str) -> str | None:
    """Key of diffusers' `UNetSpatioTemporalConditionModel`."""
    return _translate(
        name,
        (
            (r"time_embed\.([02])\.(\w+)", lambda m: f"time_embedding.{_linear(m[1])}.{m[2]}"),
            (r"label_emb\.0\.([02])\.(\w+)", lambda m: f"add_embedding.{_linear(m[1])}.{m[2]}"),
            (r"input_blocks\.0\.0\.(\w+)", r"conv_in.\1"),
            (r"out\.0\.(\w+)", r"conv_norm_out.\1"),
            (r"out\.2\.(\w+)", r"conv_out.\1"),
            (
                r"input_blocks\.(\d+)\.0\.op\.(\w+)",
                lambda m: f"down_blocks.{(int(m[1]) - 1) // 3}.downsamplers.0.conv.{m[2]}",
            ),
            (
                r"input_blocks\.(\d+)\.([01])\.(.+)",
                lambda m: _block(f"down_blocks.{(int(m[1]) - 1) // 3}", (int(m[1]) - 1) % 3, m),
            ),
            (
                r"output_blocks\.(\d+)\.[12]\.conv\.(\w+)",
                lambda m: f"up_blocks.{int(m[1]) // 3}.upsamplers.0.conv.{m[2]}",
            ),
            (
                r"output_blocks\.(\d+)\.([01])\.(.+)",
                lambda m: _block(f"up_blocks.{int(m[1]) // 3}", int(m[1]) % 3, m),
            ),
            (r"middle_block\.1\.(.+)", lambda m: f"mid_block.attentions.0.{_attention(m[1])}"),
            (
                r"middle_block\.([02])\.(.+)",
                lambda m: f"mid_block.resnets.{int(m[1]) // 2}.{_resnet(m[2])}",
            ),
        ),
    )


def _linear(index: str) -> str:
    return f"linear_{int(index) // 2 + 1}"


def _block(level: str, place: int, match: re.Match[str]) -> str:
    if match[2] == "0":
        return f"{level}.resnets.{place}.{_resnet(match[3])}"
    return f"{level}.attentions.{place}.{_attention(match[3])}"


def _resnet(name: str) -> str:
    if name.startswith("time_mixer."):
        return name
    branch = "temporal" if name.startswith("time_stack.") else "spatial"
    name = name.removeprefix("time_stack.")
    for theirs, ours in (
        ("in_layers.0", "norm1"),
        ("in_layers.2", "conv1"),
        ("emb_layers.1", "time_emb_proj"),
        ("out_layers.0", "norm2"),
        ("out_layers.3", "conv2"),
        ("skip_connection", "conv_shortcut"),
        ("nin_shortcut", "conv_shortcut"),  # the VAE's word
    ):
        name = name.replace(theirs, ours)
    return f"{branch}_res_block.{name}"


def _attention(name: str) -> str:
    name = re.sub(r"^time_stack\.", "temporal_transformer_blocks.", name)
    return re.sub(r"^time_pos_embed\.([02])", lambda m: f"time_pos_embed.{_linear(m[1])}", name)


# ---- the two VAEs


def vae_key(name: str) -> str | None:
    """Key of diffusers' `AutoencoderKLTemporalDecoder`."""

    def resnet(match: re.Match[str]) -> str:
        if name.startswith("encoder."):
            return match[3].replace("nin_shortcut", "conv_shortcut")
        return "time_mixer.mix_factor" if match[3] == "mix_factor" else _resnet(match[3])

    return _translate(
        name,
        (
            (r"quant_conv\.(\w+)", r"quant_conv.\1"),
            (r"((?:en|de)coder\.conv_in\.\w+)", r"\1"),
            (r"((?:en|de)coder)\.norm_out\.(\w+)", r"\1.conv_norm_out.\2"),
            (r"((?:en|de)coder\.conv_out\.\w+)", r"\1"),
            (r"decoder\.conv_out\.time_mix_conv\.(\w+)", r"decoder.time_conv_out.\1"),
            (
                r"encoder\.down\.(\d)\.downsample\.conv\.(\w+)",
                r"encoder.down_blocks.\1.downsamplers.0.conv.\2",
            ),
            (
                r"decoder\.up\.(\d)\.upsample\.conv\.(\w+)",
                lambda m: f"decoder.up_blocks.{_up_level(m[1])}.upsamplers.0.conv.{m[2]}",
            ),
            (
                r"encoder\.down\.(\d)\.block\.(\d)\.(.+)",
                lambda m: f"encoder.down_blocks.{m[1]}.resnets.{m[2]}.{resnet(m)}",
            ),
            (
                r"decoder\.up\.(\d)\.block\.(\d)\.(.+)",
                lambda m: f"decoder.up_blocks.{_up_level(m[1])}.resnets.{m[2]}.{resnet(m)}",
            ),
            (
                r"((?:en|de)coder)\.mid\.block_([12])\.(.+)",
                lambda m: f"{m[1]}.mid_block.resnets.{int(m[2]) - 1}.{resnet(m)}",
            ),
            (
                r"((?:en|de)coder)\.mid\.attn_1\.norm\.(\w+)",
                r"\1.mid_block.attentions.0.group_norm.\2",
            ),
            (
                r"((?:en|de)coder)\.mid\.attn_1\.([qkv])\.(\w+)",
                r"\1.mid_block.attentions.0.to_\2.\3",
            ),
            (
                r"((?:en|de)coder)\.mid\.attn_1\.proj_out\.(\w+)",
                r"\1.mid_block.attentions.0.to_out.0.\2",
            ),
        ),
    )


def _up_level(level: str) -> int:
    return VAE_LEVELS - 1 - int(level)


# ---- text tower


def text_key(name: str) -> str | None:
    """Key of transformers' `CLIPTextModelWithProjection`; fused projections keep a `{}`."""
    layer = r"transformer\.resblocks\.(\d+)\."
    ours = r"text_model.encoder.layers.\1."
    return _translate(
        name,
        (
            ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
            ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
            (r"ln_final\.(\w+)", r"text_model.final_layer_norm.\1"),
            ("text_projection", "text_projection.weight"),
            (layer + r"ln_([12])\.(\w+)", ours + r"layer_norm\2.\3"),
            (layer + r"attn\.in_proj_(\w+)", ours + r"self_attn.{}_proj.\2"),
            (layer + r"attn\.out_proj\.(\w+)", ours + r"self_attn.out_proj.\2"),
            (layer + r"mlp\.c_fc\.(\w+)", ours + r"mlp.fc1.\2"),
            (layer + r"mlp\.c_proj\.(\w+)", ours + r"mlp.fc2.\2"),
        ),
    )


# ---- adapter and action head: ours


def adapter_key(name: str, config: AdapterConfig) -> str | None:
    """Key of our `Adapter`: the published layers count through taps, view layers, fused layers."""
    if name in ("norm.weight", "norm.bias"):
        return name
    match = re.fullmatch(r"layer(\d+)(?:_(\d))?(_cat)?\.(\d+)\.(.+)", name)
    if match is None:
        return None
    number, view, side, block, tail = match.groups()
    place, taps = int(number) - 1, len(config.taps)
    if view is None:
        layer = f"fused.{place - taps - len(config.view_layers)}"
    elif side:
        layer = f"views.{int(view) - 1}.sides.{place - 1}"  # the first tap has none
    elif place < taps:
        layer = f"views.{int(view) - 1}.trunks.{place}"
    else:
        layer = f"views.{int(view) - 1}.layers.{place - taps}"
    inner = _translate(
        tail,
        (
            (r"emb_layers\.1\.(\w+)", r"time.\1"),
            (r"conv(\d)\.0\.(\w+)", r"conv\1.\2"),
            (r"conv(\d)\.1\.(\w+)", r"norm\1.\2"),
            (r"downsample\.(.+)", r"shortcut.\1"),
        ),
    )
    return inner and f"{layer}.blocks.{block}.{inner}"


def action_head_key(name: str) -> str | None:
    """Key of our `ActionUNet`."""
    block = _translate(
        name,
        (
            (r"diffusion_step_encoder\.(.+)", r"step.\1"),
            (r"final_conv\.0\.block\.(.+)", r"out.0.\1"),
            (r"final_conv\.1\.(.+)", r"out.1.\1"),
            (r"(down|up|mid)_modules\.(.+)", r"\1.\2"),
        ),
    )
    if block is None:
        return None
    block = re.sub(r"\.blocks\.(\d)\.block\.", lambda m: f".block{int(m[1]) + 1}.", block)
    block = block.replace(".cond_encoder.1.", ".film.").replace(".residual_conv.", ".shortcut.")
    return re.sub(r"^((?:down|up)\.\d\.2)\.conv\.", r"\1.", block)
