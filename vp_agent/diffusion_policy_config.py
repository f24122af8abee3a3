"""The paper's Diffusion Policy baselines as configurations (appendix A.3; numbers of UMI's code).

UMI: https://github.com/real-stanford/universal_manipulation_interface,
`config/train_diffusion_unet_timm_umi_workspace.yaml`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vp_agent.agent_config import ActionHeadConfig, ActionStats, AgentConfig
from vp_agent.config import OPENCLIP_VIT_H, VideoPolicyConfig
from vp_agent.errors import require
from vp_agent.read_numbers import read_finite, read_whole


@dataclass(frozen=True, kw_only=True)
class DdpmConfig:
    """The noise that is learned: arguments of diffusers' DDIMScheduler, which predicts epsilon.

    Attributes:
        train_steps: noise levels.
        perturbation: deviation of a second noise on the network's input alone (DDPM-IP).
    """

    train_steps: int = 50
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    perturbation: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DdimConfig:
    """A named sampler setting: steps of DDIM; there is no guidance (1)."""

    steps: int = 16
    guidance: float = 1.0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"tier: steps must be >= 1, got {self.steps}")
        require(
            self.guidance == 1.0,
            f"a Diffusion Policy has no guidance, got {self.guidance}; drop --guidance",
        )

    def changed(self, *, steps: int | None, guidance: float | None) -> "DdimConfig":
        """The same with other steps, where given."""
        return DdimConfig(
            steps=self.steps if steps is None else read_whole("steps", steps, at_least=1),
            guidance=1.0 if guidance is None else read_finite("guidance", guidance),
        )


RESNET18: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}
CLIP_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
    "hidden_act": "quick_gelu",  # of OpenAI's weights
}


@dataclass(frozen=True, kw_only=True)
class DiffusionPolicyConfig(AgentConfig):
    """Everything that defines a Diffusion Policy but its weights (`AgentConfig` has the others).

    Attributes:
        policy: which image encoder: ResNet18 or CLIP.
        vision: arguments of transformers' ResNetConfig or CLIPVisionConfig, one encoder per view.
        norm: of the ResNet: "group" for training from scratch; "batch" keeps the statistics of
            pretrained weights as they are (UMI lets them follow the batch; an average of weights
            and a resumed run would not go with that).
        crop: side of what is seen of an image, cut anywhere in training and from the middle in
            flight; 1 sees all.
    """

    policy: Literal["dp-resnet", "dp-clip"] = "dp-resnet"
    views: tuple[str, ...] = ("gripper", "left", "right")
    frames_per_view: ClassVar[int] = 1  # the current one
    frame_stride: ClassVar[int] = 0
    image_noise: ClassVar[float] = 0.0
    horizon: int = 32  # paper A.3
    execute: int = 16
    action_dim: int = 7
    control_hz: float = 20.0
    resolution: tuple[int, int] = (256, 256)
    vision: dict[str, Any] = field(default_factory=lambda: dict(RESNET18))
    norm: Literal["group", "batch"] = "group"
    crop: float = 0.95
    text_encoder: dict[str, Any] = field(default_factory=lambda: dict(OPENCLIP_VIT_H))
    action_head: ActionHeadConfig = field(default_factory=lambda: ActionHeadConfig(step_width=128))
    noise: DdpmConfig = field(default_factory=DdpmConfig)
    tiers: dict[str, DdimConfig] = field(default_factory=lambda: {"paper": DdimConfig()})
    default_tier: str = "paper"
    action_stats: ActionStats | None = None
    action_names: tuple[str, ...] = ()
    clip_actions: bool = True
    render_quality: Literal["full", "fast"] = "full"
    image_transform: Literal["flip_v", "raw", "rot180"] = "flip_v"
    training: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        self.check_common()
        require(0 < self.crop <= 1, f"crop must be in (0, 1], got {self.crop}")
        if self.policy == "dp-clip":
            height, width = self.resolution
            patch = self.vision.get("patch_size", 32)
            require(
                height == width and height % patch == 0,
                f"CLIP takes square images of a multiple of {patch} pixels, got {self.resolution}",
            )
        for name, tier in self.tiers.items():
            require(
                tier.steps <= self.noise.train_steps,
                f"tier {name!r}: {tier.steps} steps, but only {self.noise.train_steps} noise "
                "levels were learned",
            )

    @property
    def noise_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the sampler's start noise: no video, and actions (K, A)."""
        return (0,), (self.horizon, self.action_dim)

    @property
    def parts(self) -> tuple[str, ...]:
        """The network's parts that have weights, as an agent folder names them."""
        return ("text_encoder", "encoders", "action_head")


def baseline(
    policy: Literal["dp-resnet", "dp-clip"], like: VideoPolicyConfig, *, small: bool = False
) -> DiffusionPolicyConfig:
    """The Diffusion Policy to hold against a Video Policy: the same data, views, chunk and text.

    Args:
        policy: which image encoder.
        like: the Video Policy.
        small: sizes that learn on a CPU: three of ResNet18's four stages (UMI's downsample ratio
            16), or a CLIP tower of a few layers.
    """
    shared = (
        *("views", "horizon", "execute", "action_dim", "control_hz", "resolution"),
        *("text_encoder", "render_quality", "image_transform"),
    )
    values: dict[str, Any] = {name: getattr(like, name) for name in shared}
    if policy == "dp-clip":
        values["vision"] = dict(CLIP_BASE)
        if not small:
            values["resolution"] = (224, 224)  # paper A.3; CLIP's own
    if small:
        sizes = {"hidden_sizes": [64, 128, 256], "depths": [2, 2, 2]}
        if policy == "dp-clip":
            sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
            sizes |= {"num_attention_heads": 4, "patch_size": 8}
        values["vision"] = {**values.get("vision", RESNET18), **sizes}
        values["action_head"] = ActionHeadConfig(widths=(128, 256, 256), step_width=64)
    return DiffusionPolicyConfig(policy=policy, **values)
