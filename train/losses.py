"""The losses: v-prediction on both streams (sections 3.2, 3.3), and the autoencoder's."""

# B batch, V views, T frames, S slots, K action steps, A action dim, N action draws

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vp_agent.diffusion.precondition import c_in, c_noise, sample_sigma, velocity
from vp_agent.model import canvas
from vp_agent.model.video_policy import VideoPolicy, decode, encode
from vp_agent.train.batches import Batch
from vp_agent.train.dataset import normalise

_NONE = torch.tensor(float("nan"))  # of a stream that the stage does not have


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over what is real: total to optimise, and each stream's own."""

    total: Tensor
    video: Tensor
    action: Tensor = _NONE

    def parts(self) -> dict[str, float]:
        """Each stream's loss that there is, for the log."""
        values = {"video": self.video.item(), "action": self.action.item()}
        return {name: value for name, value in values.items() if not math.isnan(value)}


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of the rows (leading dims of `mask`) that are real; 0 if none is."""
    rows = error.flatten(mask.ndim).mean(-1)
    return (rows * mask).sum() / mask.sum().clamp(min=1)


def policy_losses(
    model: VideoPolicy,
    batch: Batch,
    *,
    generator: torch.Generator,
    with_actions: bool,
    draws: int = 1,
    dropout: float = 0.0,
    video_weight: float | None = None,
    stop_action_gradient: bool = False,
) -> Losses:
    """Video and action loss of one batch; all noise comes from `generator`."""
    config, size = model.config, len(batch.text_B1D)
    views = len(config.views)
    device = batch.text_B1D.device

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    clean = canvas.compose(model.target_latents(batch.moments_BVTChw))
    condition = canvas.compose_condition(
        model.condition_latents(batch.condition_BVChw), frames=config.frames_per_view
    )
    text = batch.text_B1D
    if dropout:
        keep = (torch.rand(2, size, generator=generator) >= dropout).float().to(device)
        text = text * keep[0, :, None, None]
        condition = condition * keep[1, :, None, None, None, None]
    sigma = sample_sigma(config.noise, size, generator=generator).to(device)
    s = sigma[:, None, None, None, None]
    video_noise = noise(*clean.shape)
    actions_in = target = None
    if with_actions:
        assert config.action_stats is not None
        actions = normalise(batch.chunk.actions_BKA, config.action_stats)[:, None]
        actions_noise = noise(size, draws, *actions.shape[2:])
        actions_in = (actions + s[..., 0] * actions_noise) * c_in(s[..., 0])
        target = velocity(actions, actions_noise, s[..., 0])
    video_out, actions_out = model(
        (clean + s * video_noise) * c_in(s),
        condition,
        text,
        c_noise(sigma),
        actions_in,
        with_video=not with_actions or video_weight != 0,
        stop_action_gradient=stop_action_gradient,
    )
    video = _NONE
    if video_out is not None:
        real_BS = canvas.slot_mask(batch.chunk.frame_is_pad_BT.to(device), views=views)
        video = masked_mean((video_out - velocity(clean, video_noise, s)) ** 2, real_BS)
    if target is None:
        return Losses(total=video, video=video)
    error = ((actions_out - target) ** 2).mean(1)  # over the draws
    real_BK = ~batch.chunk.action_is_pad_BK.to(device) & batch.has_actions_B.to(device)[:, None]
    action = masked_mean(error, real_BK)
    if video_out is None:
        return Losses(total=action, video=video, action=action)
    slots, steps = clean.shape[1], error.shape[1]
    weight = slots / (slots + steps) if video_weight is None else video_weight
    return Losses(total=weight * video + (1 - weight) * action, video=video, action=action)


def autoencoder_losses(
    model: VideoPolicy, clips_BTCHW: Tensor, *, generator: torch.Generator, kl_weight: float
) -> Losses:
    """Absolute and squared error of the reconstruction, and the KL term (smooth latents)."""
    frames = rearrange(clips_BTCHW, "b t c h w -> (b t) c h w")
    patch = model.config.vae_patch
    mean, logvar = encode(model.vae, frames, patch=patch).chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    noise = torch.randn(mean.shape, generator=generator).to(frames.device)
    z = mean + (0.5 * logvar).exp() * noise
    image = decode(model.vae, z, num_frames=clips_BTCHW.shape[1], patch=patch)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    error = F.l1_loss(image, frames) + F.mse_loss(image, frames)
    return Losses(total=error + kl_weight * kl, video=F.mse_loss(image, frames))
