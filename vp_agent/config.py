"""What the paper varies, as frozen dataclasses that round-trip through JSON.

The defaults are the paper's model (three views, Stable Video Diffusion); the small agents of the
demo are the same classes with other numbers.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import cattrs
from cattrs.v import format_exception

from vp_agent.adapter_config import AdapterConfig
from vp_agent.errors import ConfigError, UnknownNameError, closest, require


@dataclass(frozen=True, kw_only=True)
class ActionHeadConfig:
    """The 1-D action U-Net (adapted from Diffusion Policy)."""

    widths: tuple[int, ...] = (256, 512, 1024)
    step_width: int = 256
    kernel: int = 5
    groups: int = 8


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

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"tier: steps must be >= 1, got {self.steps}")
        require(
            0 < self.sigma_min < self.sigma_max,
            f"tier: need 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}",
        )


@dataclass(frozen=True, kw_only=True)
class ActionStats:
    """Per-dimension range of the training actions; the policy works in [-1, 1] between them."""

    min: tuple[float, ...]
    max: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.min) == len(self.max), "action statistics: min and max differ in width")
        for i, (low, high) in enumerate(zip(self.min, self.max, strict=True)):
            require(
                low < high and math.isfinite(high - low),  # also refuses NaN
                f"action statistics: dimension {i} has min {low}, max {high}; "
                "expected finite numbers with min < max",
            )


@dataclass(frozen=True, kw_only=True)
class VideoPolicyConfig:
    """Everything that defines a Video Policy but its weights.

    Attributes:
        views: cameras in canvas order; the first one also fills the pad slot.
        frames_per_view: imagined frames, the first of which is the current one.
        frame_stride: control steps between two imagined frames; 0 imagines copies of the first.
        horizon: actions of one chunk (K).
        execute: how many of them are executed before the next plan.
        resolution: (height, width) of the images.
        vae_patch: side of the pixel blocks the VAE sees as channels; makes small VAEs cheap.
        unet, vae, text_encoder: arguments of the diffusers and transformers classes.
        condition_encoder: the condition images have an encoder of their own, not the VAE's.
        action_stats: None until the action stage has seen a dataset.
        action_names: what the action's dimensions are, by that dataset; empty if it did not say.
        render_quality: how the simulator drew the training images.
        image_transform: how they were turned: "flip_v" upright, "raw" and "rot180" as LIBERO's
            demonstrations and LeRobot's processor have them (`LiberoEnv`).
        training: what trained it, stage by stage.
        origin: the weights this agent began with and their licence; empty if trained from scratch.
    """

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
    action_head: ActionHeadConfig = ActionHeadConfig()
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
        require(len(self.views) > 0, "views must name at least one camera")
        require(len(set(self.views)) == len(self.views), f"views repeat: {self.views}")
        require(
            0 < self.execute <= self.horizon,
            f"execute must be in 1..horizon={self.horizon}, got {self.execute}",
        )
        require(self.frames_per_view >= 1, "frames_per_view must be >= 1")
        require(self.frame_stride >= 0, "frame_stride must be >= 0")
        factor = self.latent_factor * max(tap.factor for tap in self.adapter.taps)
        require(
            all(side % factor == 0 for side in self.resolution),
            f"resolution {self.resolution} must be multiples of {factor} (VAE and deepest tap)",
        )
        lengths = 2 ** (len(self.action_head.widths) - 1)
        require(
            self.horizon % lengths == 0, f"horizon must be a multiple of {lengths}: {self.horizon}"
        )
        require(
            self.default_tier in self.tiers,
            f"default_tier {self.default_tier!r} is not among tiers {sorted(self.tiers)}",
        )
        if self.action_stats is not None:
            require(
                len(self.action_stats.min) == self.action_dim,
                f"action statistics have {len(self.action_stats.min)} dimensions, "
                f"action_dim is {self.action_dim}",
            )
        require(
            len(self.action_names) in (0, self.action_dim),
            f"{len(self.action_names)} action_names for action_dim {self.action_dim}",
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
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments for `gym.make` that give the images the policy is trained on."""
        turned = self.image_transform != "flip_v"  # only LIBERO's environments can
        return {
            "views": list(self.views),
            "resolution": list(self.resolution),
            "render_quality": self.render_quality,
            **({"transform": self.image_transform} if turned else {}),
        }

    def tier(self, name: str) -> TierConfig:
        """The sampler setting called `name` ("default" is the configuration's own choice)."""
        name = self.default_tier if name == "default" else name
        if name not in self.tiers:
            raise UnknownNameError(
                f"no tier {name!r}{closest(name, self.tiers)}; tiers: {', '.join(self.tiers)}"
            )
        return self.tiers[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary."""
        values = cattrs.unstructure(self)
        if not self.action_names:  # agents without it keep their bytes, and so their fingerprint
            del values["action_names"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VideoPolicyConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown or has a value that does not fit.
        """
        return structure(values, cls)

    def replace(self, **changes: Any) -> "VideoPolicyConfig":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


_converter = cattrs.Converter(forbid_extra_keys=True)


def structure(values: Mapping[str, Any], cls: type[Any]) -> Any:
    """Builds the frozen dataclass `cls` from JSON values, refusing unknown fields."""
    try:
        return _converter.structure(values, cls)
    except ConfigError:
        raise
    except Exception as error:  # cattrs raises exception groups; their messages name the field
        details = "; ".join(cattrs.transform_error(error, format_exception=_in_words))
        raise ConfigError(f"{cls.__name__} does not fit: {details}") from error


def _in_words(error: BaseException, cls: type | None) -> str:
    # cattrs would call our own checks' words "invalid value"
    return str(error) if isinstance(error, ConfigError) else format_exception(error, cls)


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
