"""Settings of `vp-agent train`: one frozen dataclass, no heavy import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vp_agent.agent_config import AgentConfig
from vp_agent.errors import require
from vp_agent.presets import baseline_preset, preset


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Trains one stage of a Video Policy, or a Diffusion Policy, on a LeRobot dataset."""

    policy: Literal["video", "dp-resnet", "dp-clip"] = "video"
    """video: the Video Policy; dp-resnet, dp-clip: the paper's Diffusion Policy baselines, for the
    data and the robot of --preset."""
    stage: Literal["vae", "video", "action", "joint", "none", "policy"] = "policy"
    """vae: a small autoencoder; video: the U-Net; action: the head on the frozen U-Net; joint:
    U-Net and head; none: the head on a frozen U-Net that no video stage has tuned; policy: all of
    a Diffusion Policy, which has no other stage."""
    data: Annotated[Path | tuple[Path, ...], tyro.conf.arg(metavar="PATH [PATH ...]")]
    """LeRobot v3 dataset folders or Hub repositories; several are mixed."""
    out: Path
    """Run folder; must not exist unless --resume."""
    recipe: str | None = None
    """Start from a named set of flags (see vp_agent.train.recipes); yours win over them."""
    show: bool = False
    """Print the settings in full and stop."""
    data_weights: tuple[float, ...] | None = None
    """Share of the samples from each dataset; the default is its share of the frames."""
    key_map: tuple[str, ...] | None = None
    """How the datasets name things, one for all or one each: own, libero, robocasa365 or a .json
    file; the default is to look at their features."""
    tasks_with_actions: tuple[str, ...] | None = None
    """Instructions (* stands for any text) or dataset names whose actions are learned; of the
    others only the video is."""
    action_range: Literal["check", "keep", "data"] = "check"
    """An agent that has learned actions keeps their range; check: if at most a quarter of the new
    ones lie outside and none of their dimensions spans less than 3 % of it; keep: in any case;
    data: no, it takes the new data's."""
    preset: str | None = None
    """Configuration to start from scratch with, or to make from Stable Video Diffusion (see
    vp_agent.presets)."""
    init: Path | None = None
    """Run folder or agent folder whose weights to start from (the stage before), or Stable Video
    Diffusion: stabilityai/stable-video-diffusion-img2vid-xt or a folder in its layout."""
    encoder: str | None = None
    """With a Diffusion Policy: folder or Hub repository whose image encoder every view starts from
    (microsoft/resnet-18, openai/clip-vit-base-patch16); --text-encoder is then loaded, too."""
    text_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Folder or Hub repository of the text tower that goes with Stable Video Diffusion or
    --encoder."""
    views: tuple[str, ...] | None = None
    """With --preset: cameras, in canvas order, instead of the preset's."""
    resolution: tuple[int, int] | None = None
    """Height and width to train at, instead of the preset's or the stage before's."""
    steps: int = 10_000
    """Optimisation steps of the whole run."""
    batch_size: int = 16
    """Samples of one process and one pass; a step has this times processes times accumulation."""
    accumulation: int = 1
    """Passes whose gradients are added up before a step."""
    lr: float = 1e-5
    """Learning rate of the U-Net (or the VAE, or a Diffusion Policy's image encoders)."""
    head_lr: float = 5e-5
    """Learning rate of the adapter and the action U-Net (or a Diffusion Policy's)."""
    warmup_steps: int = 0
    """Steps in which the learning rates rise from 0 to theirs."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rates go on after that: unchanged, or down to 0 along a cosine."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW, with eps: as published; without weight decay it is the published Adam."""
    eps: float = 1e-8
    """Of AdamW: what is added to the root of the squared gradients' mean."""
    weight_decay: float = 0.0
    """Of AdamW: how strongly weights are pulled towards 0."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it (inf: never)."""
    ema_decay: float = 0.999
    """Decay of the averaged weights that checkpoints carry; 0 keeps the last weights."""
    condition_dropout: float = 0.1
    """Share of samples whose text, and independently whose images, are hidden (for guidance)."""
    dropout_per_slot: bool = False
    """Hide conditions frame slot by frame slot, as published, instead of in whole samples."""
    independent_sigmas: bool = False
    """Draw the actions' noise level apart from the video's, for samplers that step them apart."""
    sample_latents: bool = False
    """Draw the target latents from the VAE's posterior, as published, instead of its mean."""
    action_padding: Literal["last", "zero"] = "last"
    """Actions past an episode's end: the last one again, or zero (published)."""
    mask_padding: bool = True
    """Leave frames and actions past an episode's end out of the losses (published: they count)."""
    action_draws: int = 1
    """Action noises that share one pass of the U-Net, or of a Diffusion Policy's encoders."""
    video_weight: float | None = None
    """Weight of the video loss; the default is the published share of rows, S / (S + K)."""
    stop_action_gradient: bool = False
    """Joint stage: keep the action loss out of the U-Net (published joint training lets it in)."""
    lora_rank: int = 0
    """Train low-rank adapters on the U-Net's transformers instead of its weights (extra [lora])."""
    gradient_checkpointing: bool = False
    """Compute the U-Net's feature maps again in the backward pass instead of keeping them."""
    action_episodes: int | None = None
    """Only the first n episodes have action labels; the video loss still sees all."""
    holdout: float = 0.05
    """Share of the episodes (the last ones) kept for held-out metrics."""
    kl_weight: float = 1e-3
    """Stage vae: weight of the KL term."""
    cache: bool = True
    """Encode every frame once into memory-mapped latents beside the dataset."""
    jitter: bool = False
    """Change the colours of every training window, view by view, as published."""
    cache_variants: int = 4
    """With the cache: copies of a frame to draw from, where --jitter (the first copy is plain) or
    the policy's image noise makes them differ."""
    seed: int = 0
    """Of everything random: which samples a step sees, their noise, fresh weights."""
    save_every: int = 500
    """Steps between checkpoints."""
    eval_every: int = 500
    """Steps between held-out metrics."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    keep: int = 2
    """Newest checkpoints to keep."""
    keep_every: int | None = None
    """Also keep the checkpoints at multiples of this many steps."""
    log_with: Literal["tensorboard", "wandb"] | None = None
    """Also log there (extras of these names); metrics.jsonl is always written."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Numbers that the network computes with: float32, or 16 bits where that is safe (GPUs)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: on the GPU if there is one."""
    threads: int | None = None
    """CPU threads of torch; the default is torch's own choice."""
    resume: bool = False
    """Go on with the run in --out."""
    plan: bool = False
    """Print the memory, FLOPs and days that this command would take, and do nothing else."""

    @property
    def preset_config(self) -> AgentConfig:
        """The configuration of fresh weights, and of those from Stable Video Diffusion."""
        name = self.preset or "svd-robocasa"
        config = preset(name) if self.policy == "video" else baseline_preset(self.policy, name)
        return config.replace(
            views=self.views or config.views, resolution=self.resolution or config.resolution
        )

    def __post_init__(self) -> None:
        count = len(self.datasets)
        require(count > 0, "--data names no dataset")
        require(
            self.data_weights is None
            or (len(self.data_weights) == count and min(self.data_weights) > 0),
            f"--data-weights needs a positive number for each of {count} datasets, got "
            f"{self.data_weights}",
        )
        require(
            self.key_map is None or len(self.key_map) in (1, count),
            f"--key-map needs one name, or one for each of {count} datasets, got {self.key_map}",
        )
        require(
            self.cache_variants >= (2 if self.jitter and self.cache else 1),
            "--cache-variants counts the plain copy, too: with --jitter it must be >= 2, got "
            f"{self.cache_variants}",
        )
        self._check_ranges()
        self._check_policy()
        require(
            self.views is None or self.init is None or self.from_svd,
            "--views goes with --preset; an agent that was trained keeps its views",
        )
        require(
            self.stage != "action" or self.init is not None,
            "--stage action needs --init: the run folder of the video stage; for a U-Net that no "
            "video stage has tuned, --stage none",
        )
        require(
            not self.lora_rank or self.stage in ("video", "joint"),
            f"--lora-rank is for stages that train the U-Net (video, joint), not {self.stage}",
        )
        require(
            self.mixed_precision != "fp16" or self.device != "cpu",
            "--mixed-precision fp16 needs a GPU; on the CPU use bf16 or no",
        )

    def _check_ranges(self) -> None:
        at_least: dict[int, tuple[str, ...]] = {
            0: ("lora_rank", "warmup_steps", "weight_decay", "video_weight", "kl_weight"),
            1: (
                *("steps", "batch_size", "accumulation", "action_draws", "action_episodes", "keep"),
                *("save_every", "eval_every", "log_every", "keep_every", "threads"),
            ),
        }
        for least, names in at_least.items():
            for name in names:
                value = getattr(self, name)
                flag = name.replace("_", "-")
                require(
                    value is None or value >= least, f"--{flag} must be >= {least}, got {value}"
                )
        for name in ("holdout", "ema_decay"):
            value, flag = getattr(self, name), name.replace("_", "-")
            require(0 <= value < 1, f"--{flag} must be in [0, 1), got {value}")
        require(
            all(0 <= beta < 1 for beta in self.betas),
            f"--betas must be in [0, 1), got {self.betas}",
        )
        for name in ("lr", "head_lr", "eps", "clip_norm"):
            value, flag = getattr(self, name), name.replace("_", "-")
            require(value > 0, f"--{flag} must be > 0, got {value}")

    def _check_policy(self) -> None:
        """Refuses flags of the other kind of policy."""
        if self.policy == "video":
            require(self.stage != "policy", "give --stage vae, video, action, joint or none")
            require(
                self.from_svd or (self.preset is None) != (self.init is None),
                "give either --preset NAME (from scratch) or --init FOLDER (the stage before)",
            )
            require(self.encoder is None, "--encoder goes with --policy dp-resnet or dp-clip")
            return
        require(
            self.stage == "policy",
            f"--policy {self.policy} has one stage and --stage {self.stage} is the Video Policy's; "
            "drop --stage",
        )
        require(
            not self.from_svd,
            f"--policy {self.policy} does not start from Stable Video Diffusion; give its image "
            "encoder: --encoder",
        )
        starts = [flag for flag in ("preset", "encoder") if getattr(self, flag) is not None]
        require(
            self.init is None or not starts,
            f"--init already says where to start: drop {', '.join('--' + x for x in starts)}",
        )
        theirs = {"dropout_per_slot", "independent_sigmas", "sample_latents", "video_weight"}
        theirs |= {"stop_action_gradient", "gradient_checkpointing"}
        for name in sorted(theirs):
            flag = "--" + name.replace("_", "-")
            require(not getattr(self, name), f"{flag} is the Video Policy's; drop it")

    @property
    def learns_actions(self) -> bool:
        """Whether there is an action loss."""
        return self.stage in ("action", "joint", "none", "policy")

    @property
    def needs_actions(self) -> bool:
        """Whether a sample without actions would teach nothing."""
        return self.stage in ("action", "none", "policy")

    @property
    def head_only(self) -> bool:
        """Whether the U-Net stays as it is."""
        return self.stage in ("action", "none")

    @property
    def datasets(self) -> tuple[Path, ...]:
        """The datasets of --data; run folders hold a single one as a plain path."""
        return (self.data,) if isinstance(self.data, Path) else self.data

    @property
    def from_svd(self) -> bool:
        """Whether --init is Stable Video Diffusion, on the Hub or in a folder of its layout."""
        return self.init is not None and (
            self.init.parts[:1] == ("stabilityai",) or (self.init / "model_index.json").is_file()
        )
