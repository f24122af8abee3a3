"""What the paper varies, as frozen dataclasses that round-trip through JSON.

The defaults are the paper's model (three views, Stable Video Diffusion); the small agents of the
demo are the same classes with other numbers.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vp_agent.adapter_config import AdapterConfig
from vp_agent.agent_config import ActionHeadConfig, ActionStats, AgentConfig
from vp_agent.errors import require
from vp_agent.read_numbers import read_finite, read_whole


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """What SVD's U-Net is told beside the noisy latents."""

    fps_id: int = 6
    motion_bucket_id: int = 100
    image_noise: float = 0.02  # pixel noise on the condition images, and the id that tells of it
    scale_latents: bool = False  # SVD concatenates the unscaled latent of the condition image


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Training noise: ln sigma ~ N(mean, std^2), one sigma for video and actions."""

    mean: float = 1.0
    std: float = 1.6


@dataclass(frozen=True, kw_only=True)
class TierConfig:
    """A named sampler setting (Euler on the Karras schedule, rho 7).

    Attributes:
        guidance: classifier-free guidance scale.
        guidance_end: if given, the scale grows evenly from `guidance` at the first frame slot (and
            the first action) to this at the last one, as in Stable Video Diffusion.
    """

    steps: int = 30
    guidance: float = 2.0
    guidance_end: float | None = None
    sigma_min: float = 0.002
    sigma_max: float = 700.0

    @property
    def guided(self) -> bool:
        """Whether a step needs the unconditional half, too."""
        return self.guidance != 1.0 or self.guidance_end is not None

    def changed(self, *, steps: int | None, guidance: float | None) -> "TierConfig":
        """The same with other steps or guidance, where given."""
        tier = self
        if steps is not None:
            tier = dataclasses.replace(tier, steps=read_whole("steps", steps, at_least=1))
        if guidance is None:
            return tier
        scale = read_finite("guidance", guidance)
        return dataclasses.replace(tier, guidance=scale, guidance_end=None)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"tier: steps must be >= 1, got {self.steps}")
        require(
            0 < self.sigma_min < self.sigma_max,
            f"tier: need 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}",
        )


@dataclass(frozen=True, kw_only=True)
class VideoPolicyConfig(AgentConfig):
    """Everything that defines a Video Policy but its weights (`AgentConfig` has the other fields).

    Attributes:
        views: cameras in canvas order; the first one also fills the pad slot.
        frames_per_view: imagined frames, the first of which is the current one.
        frame_stride: control steps between two imagined frames; 0 imagines copies of the first.
        vae_patch: side of the pixel blocks the VAE sees as channels; makes small VAEs cheap.
        unet, vae: arguments of the diffusers classes.
        condition_encoder: the condition images have an encoder of their own, not the VAE's.
    """

    policy: ClassVar[Literal["video"]] = "video"
    views: tuple[str, ...] = ("gripper", "left", "right")
    frames_per_view: int = 8
    frame_stride: int = 4
    horizon: int = 32  # 1.6 s at 20 Hz (paper 4.4)
    execute: int = 16
    action_dim: int = 7
    control_hz: float = 20.0
    resolution: tuple[int, int] = (256, 256)
    unet: dict[str, Any] = field(default_factory=dict)
    vae_patch: int = 1  # pixels folded into channels before the VAE (1: none, as in SVD)
    vae: dict[str, Any] = field(default_factory=lambda: dict(SVD_VAE))
    condition_encoder: bool = False
    text_encoder: dict[str, Any] = field(default_factory=lambda: dict(OPENCLIP_VIT_H))
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    action_head: ActionHeadConfig = field(default_factory=ActionHeadConfig)
    conditioning: ConditioningConfig = ConditioningConfig()
    noise: NoiseConfig = NoiseConfig()
    tiers: dict[str, TierConfig] = field(default_factory=lambda: {"paper": TierConfig()})
    default_tier: str = "paper"
    action_stats: ActionStats | None = None
    action_names: tuple[str, ...] = ()
    clip_actions: bool = True  # to the training range (the published code does not)
    render_quality: Literal["full", "fast"] = "full"
    image_transform: Literal["flip_v", "raw", "rot180"] = "flip_v"
    training: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        self.check_common()
        require(self.frames_per_view >= 1, "frames_per_view must be >= 1")
        require(self.frame_stride >= 0, "frame_stride must be >= 0")
        factor = self.latent_factor * max(tap.factor for tap in self.adapter.taps)
        require(
            all(side % factor == 0 for side in self.resolution),
            f"resolution {self.resolution} must be multiples of {factor} (VAE and deepest tap)",
        )

    @property
    def slots(self) -> int:
        """Frame slots of the canvas: one pad frame and every view's frames."""
        return 1 + len(self.views) * self.frames_per_view

    @property
    def latent_factor(self) -> int:
        """Image side / latent side of the VAE."""
        return self.vae_patch * 2 ** (len(self.vae.get("block_out_channels", (64,))) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one frame's latent."""
        height, width = (side // self.latent_factor for side in self.resolution)
        return self.vae.get("latent_channels", 4), height, width

    @property
    def image_noise(self) -> float:
        """Deviation of the pixel noise on the current views."""
        return self.conditioning.image_noise

    @property
    def noise_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the sampler's start noise: video (S, C, h, w) and actions (K, A)."""
        return (self.slots, *self.latent_shape), (self.horizon, self.action_dim)

    @property
    def parts(self) -> tuple[str, ...]:
        """The network's parts that have weights, as an agent folder names them."""
        own = ("condition_vae",) if self.condition_encoder else ()
        return ("unet", "vae", "text_encoder", "adapter", "action_head", *own)


# Stable Video Diffusion's own numbers, which are not diffusers' defaults.
SVD_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
OPENCLIP_VIT_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
