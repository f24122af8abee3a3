"""Bounds of every number in an agent's config.json, and the arguments its networks may be given.

A configuration may come from a stranger: what no agent has (a negative width, a million layers, an
image of a gigapixel) is refused by name before anything is built of it. The bounds are generous:
the paper's model is within them by a factor of ten or more.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vp_agent.errors import require

LARGEST_CLIP = 1 << 25  # pixels of all views and frames; the paper's model has 1.6 million
LONGEST_LIST, DEEPEST, LONGEST_TEXT = 1024, 8, 100_000

_WIDTH, _COUNT, _SIDE = (1, 32_768), (1, 256), (1, 8_192)
# Field -> least and greatest value; whole numbers have whole bounds.
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("frames_per_view", "layers_per_block", "num_hidden_layers"), _COUNT),
    **dict.fromkeys(("transformer_layers_per_block", "num_attention_heads", "depths"), _COUNT),
    **dict.fromkeys(("blocks", "expansion", "norm_groups", "grid", "kernel"), _COUNT),
    **dict.fromkeys(("in_channels", "out_channels", "block_out_channels"), _WIDTH),
    **dict.fromkeys(("latent_channels", "channels", "groups", "widths", "step_width"), _WIDTH),
    **dict.fromkeys(("hidden_size", "hidden_sizes", "intermediate_size"), _WIDTH),
    **dict.fromkeys(("projection_dim", "embedding_size", "cross_attention_dim"), _WIDTH),
    **dict.fromkeys(("addition_time_embed_dim", "num_channels"), _WIDTH),
    **dict.fromkeys(("projection_class_embeddings_input_dim",), _WIDTH),
    **dict.fromkeys(("resolution", "sample_size", "image_size", "num_frames"), _SIDE),
    **dict.fromkeys(("vae_patch", "patch_size", "factor", "stride_t", "stride_s"), (1, 64)),
    **dict.fromkeys(("horizon", "execute", "action_dim"), (1, 4_096)),
    "frame_stride": (0, 1_000),
    "control_hz": (0.001, 10_000.0),
    "vocab_size": (2, 1_000_000),
    "max_position_embeddings": (77, 8_192),  # CLIP's context at least
    "layer_norm_eps": (1e-12, 0.1),
    **dict.fromkeys(("attention_dropout", "dropout"), (0.0, 1.0)),
    **dict.fromkeys(("initializer_range", "initializer_factor"), (0.0, 1e3)),
    "scaling_factor": (1e-6, 1e6),
    **dict.fromkeys(("fps_id", "motion_bucket_id"), (0, 100_000)),
    **dict.fromkeys(("image_noise", "perturbation", "std"), (0.0, 100.0)),
    "mean": (-100.0, 100.0),
    "steps": (1, 1_000),
    "train_steps": (1, 10_000),
    **dict.fromkeys(("guidance", "guidance_end"), (-1e3, 1e3)),
    **dict.fromkeys(("sigma_min", "sigma_max"), (1e-6, 1e6)),
    **dict.fromkeys(("beta_start", "beta_end"), (1e-9, 0.999)),
    "crop": (0.01, 1.0),
    **dict.fromkeys(("min", "max"), (-1e9, 1e9)),
}
# What is no number among the arguments of diffusers' and transformers' classes. Others, such as
# `attn_implementation`, which may name code on the Hub, no agent needs.
TEXTS = {"down_block_types", "up_block_types", "hidden_act", "layer_type"}
SWITCHES = {"force_upcast", "downsample_in_first_stage", "downsample_in_bottleneck"}
ARGUMENTS = ("unet", "vae", "text_encoder", "vision")


def check_bounds(values: Mapping[str, Any]) -> None:
    """Raises a `ConfigError` that names the first number, text or list out of its bounds."""
    for where, key, value in _leaves(values, "", "", 0):
        if isinstance(value, str):
            require(len(value) <= LONGEST_TEXT, f"{where} has {len(value)} letters")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key in BOUNDS:
            low, high = BOUNDS[key]
            require(low <= value <= high, f"{where} must be in {low}..{high}, got {value}")
    for name in ARGUMENTS:
        arguments = values.get(name, {})
        require(isinstance(arguments, Mapping), f"{name} must be an object, got {arguments!r}")
        for where, key, value in _leaves(arguments, name, "", 0):
            _check_argument(where, key, value)


def _check_argument(where: str, key: str, value: Any) -> None:
    if key in TEXTS:
        require(isinstance(value, str), f"{where} must be text, got {value!r}")
    elif key in SWITCHES:
        require(isinstance(value, bool), f"{where} must be true or false, got {value!r}")
    else:
        require(key in BOUNDS, f"{where}: no agent's network has such an argument")
        kinds = (int,) if isinstance(BOUNDS[key][0], int) else (int, float)
        require(
            value is None or (isinstance(value, kinds) and not isinstance(value, bool)),
            f"{where} must be a {'whole ' if kinds == (int,) else ''}number, got {value!r}",
        )


def _leaves(value: Any, where: str, key: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """(path, name of the field, value) of everything that is no list or object."""
    require(depth <= DEEPEST, f"{where} is nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        require(len(value) <= LONGEST_LIST, f"{where} has {len(value)} entries")
        for name, inner in value.items():
            yield from _leaves(inner, f"{where}.{name}" if where else str(name), name, depth + 1)
    elif isinstance(value, list | tuple):
        require(len(value) <= LONGEST_LIST, f"{where} has {len(value)} entries")
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{i}]", key, depth + 1)
    else:
        yield where, key, value
