"""Settings of `vp-agent train`: one frozen dataclass, no heavy import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vp_agent.errors import require


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Trains one stage of a Video Policy on a LeRobot dataset."""

    stage: Literal["vae", "video", "action", "joint"]
    """vae: a small autoencoder; video: the U-Net; action: the head on the frozen U-Net; joint:
    U-Net and head."""
    data: Path
    """LeRobot v3 dataset folder."""
    out: Path
    """Run folder; must not exist unless --resume."""
    preset: str | None = None
    """Configuration to start from scratch with, or to make from Stable Video Diffusion (see
    vp_agent.presets)."""
    init: Path | None = None
    """Run folder or agent folder whose weights to start from (the stage before), or Stable Video
    Diffusion: stabilityai/stable-video-diffusion-img2vid-xt or a folder in its layout."""
    text_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Folder or Hub repository of the text tower that goes with Stable Video Diffusion."""
    views: tuple[str, ...] | None = None
    """With --preset: cameras, in canvas order, instead of the preset's."""
    resolution: tuple[int, int] | None = None
    """Height and width to train at, instead of the preset's or the stage before's."""
    steps: int = 10_000
    batch_size: int = 16
    lr: float = 1e-5
    """Learning rate of the U-Net (or the VAE)."""
    head_lr: float = 5e-5
    """Learning rate of the adapter and the action U-Net."""
    warmup_steps: int = 0
    lr_schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    """Decay of the averaged weights that checkpoints carry; 0 keeps the last weights."""
    condition_dropout: float = 0.1
    """Share of samples whose text, and independently whose images, are hidden (for guidance)."""
    dropout_per_slot: bool = False
    """Hide conditions frame slot by frame slot, as published, instead of in whole samples."""
    sample_latents: bool = False
    """Draw the target latents from the VAE's posterior, as published, instead of its mean."""
    action_padding: Literal["last", "zero"] = "last"
    """Actions past an episode's end: the last one again, or zero (published)."""
    mask_padding: bool = True
    """Leave frames and actions past an episode's end out of the losses (published: they count)."""
    action_draws: int = 1
    """Action noises that share one U-Net pass."""
    video_weight: float | None = None
    """Weight of the video loss; the default is the published share of rows, S / (S + K)."""
    stop_action_gradient: bool = False
    """Joint stage: keep the action loss out of the U-Net (published joint training lets it in)."""
    action_episodes: int | None = None
    """Only the first n episodes have action labels; the video loss still sees all."""
    holdout: float = 0.05
    """Share of the episodes (the last ones) kept for held-out metrics."""
    kl_weight: float = 1e-3
    """Stage vae: weight of the KL term."""
    cache: bool = True
    """Encode every frame once into memory-mapped latents beside the dataset."""
    seed: int = 0
    save_every: int = 500
    eval_every: int = 500
    log_every: int = 20
    keep: int = 2
    """Checkpoints to keep."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """CPU threads of torch; the default is torch's own choice."""
    resume: bool = False
    """Go on with the run in --out."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"--steps must be >= 1, got {self.steps}")
        require(self.batch_size >= 1, f"--batch-size must be >= 1, got {self.batch_size}")
        require(0 <= self.holdout < 1, f"--holdout must be in [0, 1), got {self.holdout}")
        require(
            self.from_svd or (self.preset is None) != (self.init is None),
            "give either --preset NAME (from scratch) or --init FOLDER (the stage before)",
        )
        require(
            self.views is None or self.preset is not None or self.from_svd,
            "--views goes with --preset; an agent that was trained keeps its views",
        )
        require(
            self.stage != "action" or self.init is not None,
            "--stage action needs --init: the run folder of the video stage",
        )

    @property
    def from_svd(self) -> bool:
        """Whether --init is Stable Video Diffusion, on the Hub or in a folder of its layout."""
        return self.init is not None and (
            self.init.parts[0] == "stabilityai" or (self.init / "model_index.json").is_file()
        )
