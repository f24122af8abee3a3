"""The joint sampler: video latents and actions are denoised together (paper section 3.3)."""

# B batch, S slots, C latent channels, h w latent height/width, K action steps, A action dim

from copy import deepcopy
from dataclasses import dataclass

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from vp_agent.config import TierConfig
from vp_agent.diffusion.precondition import c_noise
from vp_agent.model.video_policy import VideoPolicy


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a plan is conditioned on: current views and instruction, encoded once."""

    latents_BSChw: Tensor
    text_B1D: Tensor

    def with_unconditional(self) -> "Conditions":
        """[unconditional, conditional] along the batch; only text and images are zeroed."""
        return Conditions(
            latents_BSChw=torch.cat([torch.zeros_like(self.latents_BSChw), self.latents_BSChw]),
            text_B1D=torch.cat([torch.zeros_like(self.text_B1D), self.text_B1D]),
        )


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """Clean latents (B, S, C, h, w), if wanted, and normalised actions (B, K, A)."""

    video_BSChw: Tensor | None
    actions_BKA: Tensor


@torch.no_grad()
def sample(
    model: VideoPolicy,
    conditions: Conditions,
    *,
    scheduler: EulerDiscreteScheduler,
    tier: TierConfig,
    video_noise_BSChw: Tensor,
    action_noise_BKA: Tensor,
    with_video: bool = True,
) -> Denoised:
    """Runs the sampler from unit-variance start noise.

    Without `with_video` the last step stops at the U-Net's last feature tap: the actions need no
    more, and are the same.

    Guidance acts on both streams. It is written on the network outputs, which is the same as on the
    denoised predictions because both are linear in them at a given noisy input.
    """
    schedulers = deepcopy(scheduler), deepcopy(scheduler)  # a diffusers scheduler counts its steps
    for each in schedulers:
        each.set_timesteps(tier.steps, device=video_noise_BSChw.device)
    video = video_noise_BSChw * schedulers[0].init_noise_sigma
    actions = action_noise_BKA * schedulers[0].init_noise_sigma
    if guided := tier.guidance != 1.0:
        conditions = conditions.with_unconditional()

    for step, timestep in enumerate(schedulers[0].timesteps):
        sigma = schedulers[0].sigmas[step].to(video.device)
        scaled = [
            each.scale_model_input(x, timestep)  # x c_in(sigma)
            for each, x in zip(schedulers, (video, actions), strict=True)
        ]
        if guided:
            scaled = [torch.cat([x, x]) for x in scaled]
        video_out, actions_out = model(
            scaled[0],
            conditions.latents_BSChw,
            conditions.text_B1D,
            c_noise(sigma).expand(len(scaled[0])),
            scaled[1][:, None],
            with_video=with_video or step + 1 < tier.steps,
        )
        if video_out is not None:
            out = guide(video_out, tier.guidance)
            video = schedulers[0].step(out, timestep, video, return_dict=False)[0]
        out = guide(actions_out.squeeze(1), tier.guidance)
        actions = schedulers[1].step(out, timestep, actions, return_dict=False)[0]
    return Denoised(video_BSChw=video if with_video else None, actions_BKA=actions)


def guide(outputs: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance of [unconditional, conditional] outputs; scale 1 has no halves."""
    if scale == 1.0:
        return outputs
    off, on = outputs.chunk(2)
    return off + scale * (on - off)
