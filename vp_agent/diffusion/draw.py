"""One run of a policy's sampler, whichever kind it is: images and instruction to a chunk."""

# B batch, V views, T frames per view, S slots, C channels, H W pixels, h w latent
# K action steps, A action dim

from dataclasses import dataclass

import torch
from torch import Tensor

from vp_agent.config import TierConfig
from vp_agent.diffusion.sampler import Conditions, sample
from vp_agent.diffusion_policy_config import DdimConfig
from vp_agent.errors import PlanError
from vp_agent.model import canvas
from vp_agent.model.diffusion_policy import DiffusionPolicy, sample_actions
from vp_agent.model.shortcuts import one_text
from vp_agent.model.video_policy import VideoPolicy


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Normalised actions (B, K, A) and, if asked for, frames (B, V, T, 3, H, W) in [-1, 1]."""

    actions_BKA: Tensor
    frames_BVTCHW: Tensor | None = None


def draw(
    model: VideoPolicy | DiffusionPolicy,
    images_BVCHW: Tensor,
    text_B1D: Tensor,
    *,
    sampler: TierConfig | DdimConfig,
    video_noise: Tensor,
    action_noise_BKA: Tensor,
    with_video: bool,
) -> Drawn:
    """Chunks for the current views, in [-1, 1], from start noise of the shapes in `config`.

    A Diffusion Policy imagines no video.

    Raises:
        PlanError: a number of the actions or frames is not finite.
    """
    if isinstance(model, DiffusionPolicy):
        assert isinstance(sampler, DdimConfig)  # of the model's own configuration
        actions = sample_actions(
            model, images_BVCHW, text_B1D, tier=sampler, noise_BKA=action_noise_BKA
        )
        return _finite(Drawn(actions_BKA=actions))
    assert isinstance(sampler, TierConfig)
    moments = model.encode_condition(images_BVCHW.flatten(0, 1))
    current = model.condition_latents(moments.unflatten(0, images_BVCHW.shape[:2]))
    with one_text(model.unet):
        result = sample(
            model,
            Conditions(
                latents_BSChw=canvas.compose_condition(
                    current, frames=model.config.frames_per_view
                ),
                text_B1D=text_B1D,
            ),
            tier=sampler,
            video_noise_BSChw=video_noise,
            action_noise_BKA=action_noise_BKA,
            with_video=with_video,
        )
    frames = None if result.video_BSChw is None else model.decode_video(result.video_BSChw)
    return _finite(Drawn(actions_BKA=result.actions_BKA, frames_BVTCHW=frames))


def _finite(drawn: Drawn) -> Drawn:
    # Before anything clamps them: of infinity that would make a full-speed action.
    for name, numbers in (("actions", drawn.actions_BKA), ("frames", drawn.frames_BVTCHW)):
        if numbers is not None and not numbers.is_meta and not torch.isfinite(numbers).all():
            raise PlanError(
                f"the planned {name} are not finite, so nothing is executed: the weights or the "
                "sampler's settings (--steps, --guidance, a tier's sigmas) are out of their range"
            )
    return drawn
