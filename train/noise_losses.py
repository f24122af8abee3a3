"""The Diffusion Policy baselines' loss: the noise in a chunk (epsilon prediction, after UMI)."""

# B batch, N action draws, K action steps, A action dim

import torch
from torch import Tensor

from vp_agent.model.diffusion_policy import DiffusionPolicy, noise_schedule
from vp_agent.torch_defaults import integers, normal, uniform
from vp_agent.train.batches import Batch
from vp_agent.train.losses import Losses, masked_mean, sample_means
from vp_agent.train.windows import normalise


def noise_losses(
    model: DiffusionPolicy,
    batch: Batch,
    *,
    generator: torch.Generator,
    draws: int = 1,
    mask_padding: bool = True,
    augment: bool = False,
) -> Losses:
    """Squared error of the predicted noise; all noise comes from `generator`.

    Args:
        model: what predicts.
        batch: with the current images.
        generator: on the CPU.
        draws: noisy chunks, each of a level of its own, that share one pass of the encoders.
        mask_padding: leave actions past an episode's end out.
        augment: cut the images anywhere instead of in the middle.
    """
    config, device = model.config, batch.images_BVCHW.device
    assert config.action_stats is not None  # the trainer has read the data's
    actions_BKA = normalise(batch.chunk.actions_BKA, config.action_stats)
    size, horizon, width = actions_BKA.shape

    def noise() -> Tensor:
        return normal((size, draws, horizon, width), generator).to(device)

    shift_BV2 = None
    if augment:
        shift_BV2 = uniform((size, len(config.views), 2), generator).to(device) * 2 - 1
    step_BN = integers(config.noise.train_steps, (size, draws), generator).to(device)
    schedule, wanted = noise_schedule(config), noise()
    perturbed = wanted + config.noise.perturbation * noise()
    noisy = schedule.add_noise(
        actions_BKA[:, None].expand_as(wanted).flatten(0, 1),
        perturbed.flatten(0, 1),
        step_BN.flatten(),  # type: ignore[arg-type]
    ).unflatten(0, (size, draws))
    context = model.context(batch.images_BVCHW, batch.text_B1D, shift_BV2)
    error = (model.predict_noise(noisy, step_BN, context) - wanted) ** 2
    real_BK = ~(batch.chunk.action_is_pad_BK & mask_padding) & batch.has_actions_B[:, None]
    real = real_BK[:, None].expand(error.shape[:3]).flatten(0, 1)
    error = error.flatten(0, 1)
    kept = schedule.alphas_cumprod.to(device)[step_BN.flatten()]
    action = masked_mean(error, real)
    return Losses(
        total=action,
        action=action,
        action_B=sample_means(error, real),
        sigma_action_B=((1 - kept) / kept).sqrt(),
    )
