"""What LeRobot's commands can set of a Video Policy: `--policy.type=vp_agent --policy...`."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import DiffuserSchedulerConfig
from lerobot.utils.constants import ACTION

from vp_agent.config import TierConfig, VideoPolicyConfig
from vp_agent.errors import ConfigError, require
from vp_agent.folder import read_config
from vp_agent.locate import locate
from vp_agent.presets import preset
from vp_agent.wrappers.lerobot_keys import IMAGES

# LeRobot's word -> ours in `VideoPolicyConfig`. None on the command line leaves the model's value.
FIELDS = {
    "views": "views",
    "image_size": "resolution",
    "num_video_frames": "frames_per_view",
    "video_frame_stride": "frame_stride",
    "chunk_size": "horizon",
    "n_action_steps": "execute",
    "action_dim": "action_dim",
    "fps": "control_hz",
    "image_transform": "image_transform",
}
# What the weights of a trained agent were made for.
FIXED = ("views", "num_video_frames", "action_dim", "image_transform")


@PreTrainedConfig.register_subclass("vp_agent")
@dataclass
class VPAgentConfig(PreTrainedConfig):
    """One `VideoPolicyConfig` (`model`), LeRobot's names for parts of it, and how it is trained."""

    stage: Literal["video", "action", "joint"] = "video"
    """What learns: the U-Net; the adapter and the action U-Net on the frozen U-Net; all three."""

    preset: str = "svd-robocasa"
    """Configuration to start with (see vp_agent.presets), unless `agent` or a `path` has one."""
    agent: str | None = None
    """Agent to start from: a folder, packaged:NAME, or a Hub repository."""
    svd: str | None = None
    """Stable Video Diffusion to start from (folder or Hub repository), made into `preset`."""
    text_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Folder or Hub repository of the text tower that goes with `svd`."""
    model: dict[str, Any] = field(default_factory=dict)
    """The `VideoPolicyConfig`; written by the policy, not for the command line."""

    views: list[str] | None = None
    """Cameras in canvas order: the dataset's keys observation.images.<view>."""
    image_size: tuple[int, int] | None = None
    """Height and width; other images are cut to shape and resized."""
    num_video_frames: int | None = None
    video_frame_stride: int | None = None
    chunk_size: int | None = None
    n_action_steps: int | None = None
    action_dim: int | None = None
    fps: float | None = None
    image_transform: str | None = None
    """How the dataset's images lie: flip_v (upright), raw or rot180 (LIBERO's)."""

    tier: str = "default"
    """Named sampler setting of the model."""
    num_inference_steps: int | None = None
    """Sampling steps, instead of the tier's."""
    guidance_scale: float | None = None
    """Classifier-free guidance, instead of the tier's."""
    save_predicted_video: bool = False
    """lerobot-eval also writes what was imagined: pred_episode_N.mp4, in step with the episode."""
    seed: int = 1000
    """Of the losses' and the plans' noise; as LeRobot's default, so that plans are those of
    `vp-agent eval` on the same seeds."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast in training."""

    action_range: Literal["check", "keep", "data"] = "check"
    """An agent that has learned actions keeps their range; check: if at most a quarter of the new
    ones lie outside; keep: in any case; data: no, it takes the new data's. Holds for one run."""
    condition_dropout: float = 0.1
    action_draws: int = 1
    video_weight: float | None = None
    stop_action_gradient: bool = False
    optimizer_lr: float = 1e-5
    """Of the U-Net."""
    optimizer_lr_head: float = 5e-5
    """Of the adapter and the action U-Net."""
    optimizer_betas: tuple[float, float] = (0.9, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 0.0
    optimizer_grad_clip_norm: float = 1.0
    scheduler_name: Literal["constant_with_warmup", "cosine"] = "constant_with_warmup"
    scheduler_warmup_steps: int = 0

    # Actions are normalised once, by the range inside `model`: it stays the head's when another
    # dataset is trained on, and the checkpoint is whole without LeRobot's processors.
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.model and (self.agent or self.svd)),
            "--policy.path already says where to start: drop --policy.agent and --policy.svd",
        )
        require(
            not (self.agent and self.svd), "give either --policy.agent or --policy.svd, not both"
        )
        if self.model:
            base = VideoPolicyConfig.from_dict(self.model)
        else:
            base = read_config(locate(self.agent)) if self.agent else preset(self.preset)
        trained = bool(self.model or self.agent)
        changes = {}
        for name, ours in FIELDS.items():
            value, had = getattr(self, name), getattr(base, ours)
            value = tuple(value) if isinstance(value, list) else value
            if value is None or value == had:
                continue
            if trained and name in FIXED:
                raise ConfigError(
                    f"--policy.{name} is {value}, the agent was made with {had} and keeps it; "
                    "drop the flag, or start from a preset"
                )
            changes[ours] = value
        self.adopt(base.replace(**changes))
        self.sampler  # noqa: B018 (an unknown tier is refused now)

    def adopt(self, config: VideoPolicyConfig) -> None:
        """Takes every value from the model's configuration."""
        self.model = json.loads(json.dumps(config.to_dict()))  # lists, as in a file
        for name, ours in FIELDS.items():
            value = getattr(config, ours)
            setattr(self, name, list(value) if name == "views" else value)
        image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, *config.resolution))
        self.input_features = {IMAGES + view: image for view in config.views}
        self.output_features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(config.action_dim,))
        }

    @property
    def video_policy(self) -> VideoPolicyConfig:
        return VideoPolicyConfig.from_dict(self.model)

    @property
    def sampler(self) -> TierConfig:
        """The tier with this configuration's steps and guidance."""
        tier = self.video_policy.tier(self.tier)
        if self.num_inference_steps is not None:
            tier = dataclasses.replace(tier, steps=self.num_inference_steps)
        if self.guidance_scale is not None:
            tier = dataclasses.replace(tier, guidance=self.guidance_scale, guidance_end=None)
        return tier

    @property
    def observation_delta_indices(self) -> list[int]:
        config = self.video_policy
        return [t * config.frame_stride for t in range(config.frames_per_view)]

    @property
    def action_delta_indices(self) -> list[int] | None:
        return None if self.stage == "video" else list(range(self.video_policy.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> DiffuserSchedulerConfig:
        return DiffuserSchedulerConfig(
            name=self.scheduler_name, num_warmup_steps=self.scheduler_warmup_steps
        )

    def validate_features(self) -> None:
        """Refuses normalisers of LeRobot's: images and actions are normalised inside the policy."""
        for kind, mode in self.normalization_mapping.items():
            require(
                mode is NormalizationMode.IDENTITY,
                f"normalization_mapping has {mode.value} for {kind}; the policy normalises by "
                "itself: leave IDENTITY",
            )
