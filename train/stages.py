"""The stages: where a model starts, what of it learns, and what is minimised."""

from typing import Any

import torch
from torch import nn

from vp_agent.checkpoints.svd import start_from_svd
from vp_agent.checkpoints.vision import start_from_encoder
from vp_agent.config import VideoPolicyConfig
from vp_agent.diffusion_policy_config import DiffusionPolicyConfig
from vp_agent.errors import ConfigError
from vp_agent.folder import AnyPolicy, load_agent, load_any_agent
from vp_agent.locate import locate
from vp_agent.model.diffusion_policy import DiffusionPolicy
from vp_agent.model.shortcuts import freeze_idle
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.randomness import mix
from vp_agent.train.batches import Batch
from vp_agent.train.lora import add_lora
from vp_agent.train.losses import Losses, autoencoder_losses, policy_losses
from vp_agent.train.noise_losses import noise_losses
from vp_agent.train.settings import TrainSettings

PARTS = {
    "vae": ("vae",),
    "video": ("unet",),
    "action": ("adapter", "action_head"),
    "joint": ("unet", "adapter", "action_head"),
    "none": ("adapter", "action_head"),
    "policy": ("encoders", "action_head"),
}


class StageModel(nn.Module):
    """What is optimised: a policy whose forward pass gives the stage's losses.

    Data-parallel wrappers act on calls, so the losses are computed in one.
    """

    def __init__(self, policy: AnyPolicy, settings: TrainSettings) -> None:
        super().__init__()
        self.policy, self.settings = policy, settings

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Losses of one batch; all noise comes from `generator`."""
        settings = self.settings
        if isinstance(self.policy, DiffusionPolicy):
            return noise_losses(
                self.policy,
                batch,
                generator=generator,
                draws=settings.action_draws,
                mask_padding=settings.mask_padding,
                augment=True,
            )
        if settings.stage == "vae":
            return autoencoder_losses(
                self.policy, batch.clips_BTCHW, generator=generator, kl_weight=settings.kl_weight
            )
        return policy_losses(
            self.policy,
            batch,
            generator=generator,
            with_actions=settings.stage != "video",
            draws=settings.action_draws,
            dropout=settings.condition_dropout,
            dropout_per_slot=settings.dropout_per_slot,
            mask_padding=settings.mask_padding,
            sample_latents=settings.sample_latents,
            # The frozen U-Net makes the video loss a constant of the head's stages: not computed.
            video_weight=0.0 if settings.head_only else settings.video_weight,
            stop_action_gradient=settings.stop_action_gradient,
            independent_sigmas=settings.independent_sigmas,
        )


def start_model(settings: TrainSettings) -> AnyPolicy:
    """The stage before's agent, pretrained weights, or fresh ones from a preset."""
    if settings.policy == "video":
        return start_video_model(settings)
    if settings.init is not None:
        model = load_any_agent(locate(settings.init), resolution=settings.resolution)
        if not isinstance(model, DiffusionPolicy) or model.config.policy != settings.policy:
            raise ConfigError(
                f"{settings.init} is {model.config.policy}, --policy says {settings.policy}; give "
                "both the same"
            )
        return model
    config = settings.preset_config
    assert isinstance(config, DiffusionPolicyConfig)
    return _fresh(config, settings)


def _fresh(config: DiffusionPolicyConfig, settings: TrainSettings) -> DiffusionPolicy:
    # Fresh weights come from torch's global generator: set it here only, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(settings.seed, "weights"))
        if settings.encoder is None:
            return DiffusionPolicy(config)
        return start_from_encoder(config, encoder=settings.encoder, text=settings.text_encoder)


def start_video_model(settings: TrainSettings) -> VideoPolicy:
    """The same where the settings ask for a Video Policy."""
    if settings.init is not None and not settings.from_svd:
        return load_agent(locate(settings.init), resolution=settings.resolution)
    config = settings.preset_config
    assert isinstance(config, VideoPolicyConfig)
    if settings.from_svd:
        return start_from_svd(
            config, svd=str(settings.init), text=settings.text_encoder, seed=settings.seed
        )
    # Fresh weights come from torch's global generator: set it here only, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(settings.seed, "weights"))
        return VideoPolicy(config)


def choose_trainable(policy: AnyPolicy, settings: TrainSettings) -> None:
    """Leaves gradients to the stage's parts, or to the U-Net's adapter matrices."""
    policy.requires_grad_(False).eval()
    for part in PARTS[settings.stage]:
        getattr(policy, part).requires_grad_(True).train()
    if isinstance(policy, DiffusionPolicy):
        return
    if settings.lora_rank:
        add_lora(policy.unet, rank=settings.lora_rank, seed=settings.seed)
    freeze_idle(policy.unet)
    if settings.gradient_checkpointing:
        policy.unet.enable_gradient_checkpointing()


def parameter_groups(policy: AnyPolicy, settings: TrainSettings) -> list[dict[str, Any]]:
    """The heads learn at their own rate."""
    groups = []
    for part in PARTS[settings.stage]:
        rate = settings.head_lr if part in ("adapter", "action_head") else settings.lr
        groups.append({"params": list(getattr(policy, part).parameters()), "lr": rate})
    return groups


def set_latent_scale(policy: VideoPolicy, scale: float) -> None:
    """Makes `scale` the VAE's scaling factor, in its own configuration and in ours."""
    policy.vae.register_to_config(scaling_factor=scale)
    policy.config = policy.config.replace(vae={**policy.config.vae, "scaling_factor": scale})
