"""Named configurations: `preset("tiny-lift")`."""

from typing import Any, Literal

from vp_agent.adapter_config import AdapterConfig, LayerConfig, TapConfig
from vp_agent.config import (
    ActionHeadConfig,
    ConditioningConfig,
    NoiseConfig,
    TierConfig,
    VideoPolicyConfig,
)
from vp_agent.diffusion_policy_config import DiffusionPolicyConfig, baseline
from vp_agent.errors import UnknownNameError, closest


def _tiny_unet(widths: tuple[int, int, int], latent_channels: int) -> dict[str, Any]:
    # Attention only in the middle: at this size it would cost as much as everything else.
    return {
        "in_channels": 2 * latent_channels,
        "out_channels": latent_channels,
        "block_out_channels": list(widths),
        "down_block_types": [
            "DownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal",
        ],
        "up_block_types": [
            "UpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "UpBlockSpatioTemporal",
        ],
        "layers_per_block": 1,
        "num_attention_heads": [width // 32 for width in widths],
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 64,
        "projection_class_embeddings_input_dim": 192,
    }


def _tiny_adapter(widths: tuple[int, int, int]) -> AdapterConfig:
    side = LayerConfig(channels=64, groups=4, blocks=1)
    trunk = LayerConfig(channels=96, groups=4)
    return AdapterConfig(
        taps=(
            TapConfig(
                module="up_blocks.2.resnets.1",
                channels=widths[0],
                factor=1,
                trunk=LayerConfig(channels=96, groups=4, stride_s=2),
            ),
            TapConfig(
                module="up_blocks.1.attentions.1",
                channels=widths[1],
                factor=2,
                side=side,
                trunk=trunk,
            ),
            TapConfig(
                module="down_blocks.1.attentions.0",
                channels=widths[1],
                factor=2,
                side=side,
                trunk=trunk,
            ),
        ),
        view_layers=(),
        fused_layers=(
            LayerConfig(channels=192, groups=4, stride_t=2),
            LayerConfig(channels=32, groups=4, expansion=2, stride_t=2),
        ),
        norm_groups=4,
    )


def tiny_lift() -> VideoPolicyConfig:
    """The demo's agent: two 64x64 views, four frames each, 16 actions; learns on a CPU."""
    widths = (32, 64, 64)
    latent_channels = 16
    return VideoPolicyConfig(
        views=("gripper", "left"),
        frames_per_view=4,
        frame_stride=4,
        horizon=16,
        execute=8,
        resolution=(64, 64),
        unet=_tiny_unet(widths, latent_channels),
        vae_patch=4,
        vae={
            "in_channels": 48,
            "out_channels": 48,
            "block_out_channels": [64, 64],
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "layers_per_block": 1,
            "latent_channels": latent_channels,
            "sample_size": 64,
            "scaling_factor": 1.0,
        },
        text_encoder={
            "vocab_size": 514,  # the bytes, alone and at a word's end, and two marks
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "hidden_act": "gelu",
            "projection_dim": 64,
        },
        adapter=_tiny_adapter(widths),
        action_head=ActionHeadConfig(widths=(64, 96, 96), step_width=64, kernel=3),
        # At 64x64 SVD's pixel noise would hide what the small autoencoder keeps.
        conditioning=ConditioningConfig(image_noise=0.0, scale_latents=True),
        noise=NoiseConfig(mean=0.3, std=1.5),
        tiers={
            "fast": TierConfig(steps=3, guidance=1.0, sigma_min=0.02, sigma_max=20.0),
            "paper": TierConfig(steps=30, guidance=2.0, sigma_min=0.02, sigma_max=20.0),
        },
        default_tier="fast",
        render_quality="fast",
    )


def svd_robocasa() -> VideoPolicyConfig:
    """The paper's model on RoboCasa: Stable Video Diffusion, three 256x256 views, 32 actions."""
    return VideoPolicyConfig(clip_actions=False)  # as the published code flies its weights


def svd_robocasa_horizon16() -> VideoPolicyConfig:
    """Ablation (paper figure 3): the video reaches half as far, the actions as far as ever."""
    return svd_robocasa().replace(frame_stride=2)


def svd_robocasa_horizon0() -> VideoPolicyConfig:
    """Ablation (paper figure 3): the video is eight copies of the current frame."""
    return svd_robocasa().replace(frame_stride=0)


def svd_libero10() -> VideoPolicyConfig:
    """LIBERO-10 (paper section 4.1): two views of 12 frames each, 25 slots again."""
    return VideoPolicyConfig(
        views=("agent", "gripper"),
        frames_per_view=12,
        # Twelve frames leave the adapter as two; one grid cell in time is what eight leave as.
        adapter=AdapterConfig(grid=(1, 4, 4)),
    )


def svd_real_256x192() -> VideoPolicyConfig:
    """The real robot (paper A.4): relative pose, relative jaw position, grasp force; 30 Hz."""
    return VideoPolicyConfig(
        execute=24,
        action_dim=8,
        control_hz=30.0,
        resolution=(192, 256),
        # What the adapter gives at this size, so that the head goes on unchanged at 448x320.
        adapter=AdapterConfig(grid=(1, 3, 4)),
    )


def svd_real_448x320() -> VideoPolicyConfig:
    """The second part of the real robot's training: the same at 448x320 (width x height)."""
    return svd_real_256x192().replace(resolution=(320, 448))


PRESETS = {
    "svd-robocasa": svd_robocasa,
    "svd-robocasa-horizon16": svd_robocasa_horizon16,
    "svd-robocasa-horizon0": svd_robocasa_horizon0,
    "svd-libero10": svd_libero10,
    "svd-real-256x192": svd_real_256x192,
    "svd-real-448x320": svd_real_448x320,
    "svd-real": svd_real_448x320,  # what flew
    "tiny-lift": tiny_lift,
}


def preset(name: str) -> VideoPolicyConfig:
    """The configuration called `name`."""
    if name not in PRESETS:
        raise UnknownNameError(
            f"no preset {name!r}{closest(name, PRESETS)}; presets: {', '.join(PRESETS)}"
        )
    return PRESETS[name]()


def baseline_preset(policy: Literal["dp-resnet", "dp-clip"], name: str) -> DiffusionPolicyConfig:
    """The Diffusion Policy to hold against the Video Policy called `name`."""
    return baseline(policy, preset(name), small=name.startswith("tiny-"))
