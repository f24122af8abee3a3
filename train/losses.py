"""The losses: v-prediction on both streams (sections 3.2, 3.3), and the autoencoder's."""

# B batch, V views, T frames, S slots, K action steps, A action dim, N action draws

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vp_agent.diffusion.precondition import c_in, c_noise, sample_sigma, velocity
from vp_agent.model import canvas
from vp_agent.model.video_policy import VideoPolicy, decode, encode
from vp_agent.torch_defaults import normal
from vp_agent.train.batches import Batch
from vp_agent.train.dropout import draw_keep, hidden_text
from vp_agent.train.windows import normalise

_NONE = torch.tensor(
    float("nan"), dtype=torch.float32, device="cpu"
)  # of a stream that the stage does not have


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over what is real: total to optimise, each stream's own, and sample by sample."""

    total: Tensor
    video: Tensor = _NONE
    action: Tensor = _NONE
    video_B: Tensor = _NONE
    action_B: Tensor = _NONE
    sigma_video_B: Tensor = _NONE
    sigma_action_B: Tensor = _NONE

    def parts(self) -> dict[str, float]:
        """Each stream's mean that there is."""
        values = {"video": self.video.item(), "action": self.action.item()}
        return {name: value for name, value in values.items() if not math.isnan(value)}


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of the rows (leading dims of `mask`) that are real; 0 if none is."""
    rows = error.flatten(mask.ndim).mean(-1)
    return (rows * mask).sum() / mask.sum().clamp(min=1)


def sample_means(error: Tensor, mask_BR: Tensor) -> Tensor:
    """The same mean sample by sample (B,), for the log; not a number where no row is real."""
    rows_BR = error.detach().flatten(2).mean(-1)
    return (rows_BR * mask_BR).sum(1) / mask_BR.sum(1)


def stream_errors(
    model: VideoPolicy,
    *,
    video_BSChw: Tensor,
    video_noise_BSChw: Tensor,
    condition_BSChw: Tensor,
    text_B1D: Tensor,
    sigma_B: Tensor,
    sigma_action_B: Tensor | None = None,
    actions_BKA: Tensor | None = None,
    action_noise_BNKA: Tensor | None = None,
    with_video: bool = True,
    stop_action_gradient: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Squared errors of both v-predictions, element by element, from clean signals and noises.

    One noise level for both streams unless the actions have their own; the EDM-weighted error of
    the denoised signal is the same.
    """
    s = sigma_B[:, None, None, None, None]
    s_action = s[..., 0] if sigma_action_B is None else sigma_action_B[:, None, None, None]
    actions_in = actions = None
    if actions_BKA is not None and action_noise_BNKA is not None:
        actions = actions_BKA[:, None]
        actions_in = (actions + s_action * action_noise_BNKA) * c_in(s_action)
    video_out, actions_out = model(
        (video_BSChw + s * video_noise_BSChw) * c_in(s),
        condition_BSChw,
        text_B1D,
        c_noise(sigma_B),
        actions_in,
        c_noise_action_B=None if sigma_action_B is None else c_noise(sigma_action_B),
        with_video=with_video,
        stop_action_gradient=stop_action_gradient,
    )
    video_error = None
    if video_out is not None:
        video_error = (video_out - velocity(video_BSChw, video_noise_BSChw, s)) ** 2
    if actions is None or action_noise_BNKA is None:
        return video_error, None
    return video_error, (actions_out - velocity(actions, action_noise_BNKA, s_action)) ** 2


def policy_losses(
    model: VideoPolicy,
    batch: Batch,
    *,
    generator: torch.Generator,
    with_actions: bool,
    draws: int = 1,
    dropout: float = 0.0,
    dropout_per_slot: bool = False,
    video_weight: float | None = None,
    stop_action_gradient: bool = False,
    mask_padding: bool = True,
    sample_latents: bool = False,
    independent_sigmas: bool = False,
) -> Losses:
    """Video and action loss of one batch; all noise comes from `generator`."""
    config, size, device = model.config, len(batch.text_B1D), batch.text_B1D.device

    def noise(*shape: int) -> Tensor:
        return normal(shape, generator).to(device)

    moments = canvas.compose(batch.moments_BVTChw)
    latent_noise = noise(size, config.slots, *config.latent_shape) if sample_latents else None
    clean = model.target_latents(moments, noise=latent_noise)
    condition = canvas.compose_condition(
        model.condition_latents(batch.condition_BVChw), frames=config.frames_per_view
    )
    text, text_in_slots = batch.text_B1D, nullcontext()
    if dropout:
        keep_text_BS, keep_images_BS = (
            keep.to(device)
            for keep in draw_keep(
                size, config.slots, rate=dropout, per_slot=dropout_per_slot, generator=generator
            )
        )
        condition = condition * keep_images_BS[:, :, None, None, None]
        if dropout_per_slot:
            text_in_slots = hidden_text(model.unet, keep_text_BS)
        else:
            text = text * keep_text_BS[:, :1, None]
    sigma = sample_sigma(config.noise, size, generator=generator).to(device)
    video_noise = noise(*clean.shape)
    actions = actions_noise = None
    if with_actions:
        assert config.action_stats is not None
        actions = normalise(batch.chunk.actions_BKA, config.action_stats)
        actions_noise = noise(size, draws, *actions.shape[1:])
    sigma_action = None
    if with_actions and independent_sigmas:
        sigma_action = sample_sigma(config.noise, size, generator=generator).to(device)
    with text_in_slots:
        video_error, action_error = stream_errors(
            model,
            video_BSChw=clean,
            video_noise_BSChw=video_noise,
            condition_BSChw=condition,
            text_B1D=text,
            sigma_B=sigma,
            sigma_action_B=sigma_action,
            actions_BKA=actions,
            action_noise_BNKA=actions_noise,
            with_video=not with_actions or video_weight != 0,
            stop_action_gradient=stop_action_gradient,
        )
    video = action = _NONE
    for_log = {"sigma_video_B": sigma, "sigma_action_B": sigma}
    if sigma_action is not None:
        for_log["sigma_action_B"] = sigma_action
    if video_error is not None:
        frame_is_pad_BT = batch.chunk.frame_is_pad_BT.to(device) & mask_padding
        real_BS = canvas.slot_mask(frame_is_pad_BT, views=len(config.views))
        video = masked_mean(video_error, real_BS)
        for_log["video_B"] = sample_means(video_error, real_BS)
    if action_error is not None:
        real_BK = ~(batch.chunk.action_is_pad_BK.to(device) & mask_padding)
        real_BK = real_BK & batch.has_actions_B.to(device)[:, None]
        action_error = action_error.mean(1)  # over the draws
        action = masked_mean(action_error, real_BK)
        for_log["action_B"] = sample_means(action_error, real_BK)
    if video_error is None or action_error is None:
        total = video if action_error is None else action
        return Losses(total=total, video=video, action=action, **for_log)
    if video_weight is None:
        video_weight = config.slots / (config.slots + config.horizon)
    total = video_weight * video + (1 - video_weight) * action
    return Losses(total=total, video=video, action=action, **for_log)


def autoencoder_losses(
    model: VideoPolicy, clips_BTCHW: Tensor, *, generator: torch.Generator, kl_weight: float
) -> Losses:
    """Absolute and squared error of the reconstruction, and the KL term (smooth latents)."""
    frames = rearrange(clips_BTCHW, "b t c h w -> (b t) c h w")
    patch = model.config.vae_patch
    mean, logvar = encode(model.vae, frames, patch=patch).chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    noise = normal(mean.shape, generator).to(frames.device)
    z = mean + (0.5 * logvar).exp() * noise
    image = decode(model.vae, z, num_frames=clips_BTCHW.shape[1], patch=patch)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    error = F.l1_loss(image, frames) + F.mse_loss(image, frames)
    return Losses(total=error + kl_weight * kl, video=F.mse_loss(image, frames))
