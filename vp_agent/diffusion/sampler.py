"""The joint sampler: video latents and actions are denoised together (paper section 3.3)."""

# B batch, S slots, C latent channels, h w latent height/width, K action steps, A action dim

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vp_agent.config import TierConfig
from vp_agent.diffusion.precondition import c_in, c_noise, denoise
from vp_agent.model.video_policy import VideoPolicy

RHO = 7


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


def schedule(tier: TierConfig) -> Tensor:
    """Karras noise levels from sigma_max to sigma_min and a final 0, (steps + 1,) (rho 7)."""
    high, low = tier.sigma_max ** (1 / RHO), tier.sigma_min ** (1 / RHO)
    fractions = torch.linspace(0, 1, tier.steps, dtype=torch.float32, device="cpu")
    levels = (high + fractions * (low - high)) ** RHO
    return torch.cat([levels, levels.new_zeros(1)])


@torch.no_grad()
def sample(
    model: VideoPolicy,
    conditions: Conditions,
    *,
    tier: TierConfig,
    video_noise_BSChw: Tensor,
    action_noise_BKA: Tensor,
    with_video: bool = True,
) -> Denoised:
    """Runs Euler's method from unit-variance start noise; guidance acts on both streams.

    Without `with_video` the last step stops at the U-Net's last feature tap: the actions need no
    more, and are the same.
    """
    sigmas = schedule(tier).to(video_noise_BSChw.device)
    streams = [x * (sigmas[0] ** 2 + 1).sqrt() for x in (video_noise_BSChw, action_noise_BKA)]
    scales = [_guidance(tier, like=x) for x in streams]
    if tier.guided:
        conditions = conditions.with_unconditional()

    for sigma, following in pairwise(sigmas):
        noisy = [torch.cat([x, x]) if tier.guided else x for x in streams]
        video_out, actions_out = model(
            noisy[0] * c_in(sigma),
            conditions.latents_BSChw,
            conditions.text_B1D,
            c_noise(sigma).expand(len(noisy[0])),
            noisy[1][:, None] * c_in(sigma),
            with_video=with_video or bool(following > 0),
        )
        for i, output in enumerate((video_out, actions_out.squeeze(1))):
            if output is None:
                continue
            clean = denoise(output, noisy[i], sigma)
            if tier.guided:
                off, on = clean.chunk(2)
                clean = off + scales[i] * (on - off)
            streams[i] = streams[i] + (streams[i] - clean) / sigma * (following - sigma)
    return Denoised(video_BSChw=streams[0] if with_video else None, actions_BKA=streams[1])


def _guidance(tier: TierConfig, *, like: Tensor) -> Tensor:
    """The guidance scale of every frame slot or action (dimension 1 of `like`)."""
    end = tier.guidance if tier.guidance_end is None else tier.guidance_end
    scale = torch.linspace(
        tier.guidance, end, like.shape[1], dtype=torch.float32, device=like.device
    )
    return scale.reshape(-1, *[1] * (like.ndim - 2))
