"""The smallest Video Policy: the classes of every agent, sized for tests."""

from vp_agent.adapter_config import AdapterConfig, LayerConfig, TapConfig
from vp_agent.config import (
    ActionHeadConfig,
    ActionStats,
    ConditioningConfig,
    TierConfig,
    VideoPolicyConfig,
)
from vp_agent.diffusion_policy_config import DiffusionPolicyConfig, baseline
from vp_agent.randomness import mix

SMALL = VideoPolicyConfig(
    views=("gripper", "left"),
    frames_per_view=3,
    frame_stride=2,
    horizon=8,
    execute=4,
    resolution=(32, 32),
    unet={
        "in_channels": 8,
        "out_channels": 4,
        "block_out_channels": [32, 32],
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
        "layers_per_block": 1,
        "num_attention_heads": [1, 1],
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
    },
    vae_patch=4,
    vae={
        "in_channels": 48,
        "out_channels": 48,
        "block_out_channels": [32, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "layers_per_block": 1,
        "latent_channels": 4,
        "sample_size": 32,
        "scaling_factor": 1.0,
    },
    text_encoder={
        "vocab_size": 514,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "projection_dim": 32,
    },
    adapter=AdapterConfig(
        taps=(
            TapConfig(
                module="up_blocks.1.attentions.1",
                channels=32,
                factor=1,
                trunk=LayerConfig(channels=32, groups=2, blocks=1, stride_s=2),
            ),
            TapConfig(
                module="up_blocks.0.resnets.1",
                channels=32,
                factor=2,
                side=LayerConfig(channels=16, groups=2, blocks=1),
                trunk=LayerConfig(channels=32, groups=2, blocks=1),
            ),
        ),
        view_layers=(),
        fused_layers=(LayerConfig(channels=16, groups=2, blocks=1, stride_t=2),),
        norm_groups=2,
    ),
    action_head=ActionHeadConfig(widths=(16, 32), step_width=16, kernel=3, groups=4),
    conditioning=ConditioningConfig(image_noise=0.0, scale_latents=True),
    tiers={
        "fast": TierConfig(steps=2, guidance=1.0, sigma_min=0.02, sigma_max=20.0),
        "guided": TierConfig(steps=3, guidance=2.0, sigma_min=0.02, sigma_max=20.0),
    },
    default_tier="fast",
    action_stats=ActionStats(min=(-1.0,) * 7, max=(1.0,) * 7),
    render_quality="fast",
)
SMALL_BASELINE = baseline("dp-resnet", SMALL).replace(
    vision={
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    action_head=ActionHeadConfig(widths=(16, 32), step_width=16, kernel=3, groups=8),
    action_stats=SMALL.action_stats,
)


def small_model(config: VideoPolicyConfig = SMALL, *, seed: int = 0):
    """Fresh weights, the same for the same seed."""
    import torch

    from vp_agent.model.video_policy import VideoPolicy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "test weights"))
        return VideoPolicy(config).eval()


def small_baseline(config: DiffusionPolicyConfig = SMALL_BASELINE, *, seed: int = 0):
    """The same of a Diffusion Policy."""
    import torch

    from vp_agent.model.diffusion_policy import DiffusionPolicy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "test weights"))
        return DiffusionPolicy(config).eval()


def small_observation(*, seed: int = 0, lanes: int | None = None):
    """An observation as an environment gives it, with random images."""
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (32, 32, 3) if lanes is None else (lanes, 32, 32, 3)
    return {
        "pixels": {view: rng.integers(0, 256, shape, dtype=np.uint8) for view in SMALL.views},
        "agent_pos": np.zeros((8,) if lanes is None else (lanes, 8), np.float32),
        "task": "lift the cube" if lanes is None else ("lift the cube",) * lanes,
    }
