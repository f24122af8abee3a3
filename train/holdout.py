"""Held-out metrics of a stage, and a picture of what the model imagines."""

# B batch, V views, T frames per view, C channels, H W pixels

import math
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from vp_agent.agent_config import AgentConfig
from vp_agent.diffusion.sampler import Conditions, sample
from vp_agent.evaluation.film import Film
from vp_agent.folder import AnyPolicy
from vp_agent.model import canvas
from vp_agent.model.diffusion_policy import DiffusionPolicy, sample_actions
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.randomness import mix
from vp_agent.torch_defaults import normal
from vp_agent.train.batches import Batch, Batches
from vp_agent.train.losses import policy_losses
from vp_agent.train.noise_losses import noise_losses
from vp_agent.train.settings import TrainSettings
from vp_agent.train.windows import normalise, to_signed

LOSS_WINDOWS, SAMPLE_WINDOWS, SHOWN = 256, 32, 6


@torch.no_grad()
def evaluate_holdout(
    model: AnyPolicy, batches: Batches, settings: TrainSettings, picture: Path | None
) -> dict[str, float]:
    """Losses, action error and imagined-video PSNR on held-out episodes; writes a sheet and a film.

    Without `picture` nothing is written.
    The same windows and noise at every call, so that the numbers of a run compare.
    """
    data = batches.data
    ids = data.split("holdout")
    held_out = len(ids) > 0
    if not held_out and settings.stage != "vae":
        return {}
    generator = torch.Generator("cpu").manual_seed(mix(settings.seed, "holdout"))
    ids = ids if held_out else batches.train_ids
    ids = ids[
        torch.randperm(len(ids), generator=generator, dtype=torch.int64, device="cpu")[
            :LOSS_WINDOWS
        ].numpy()
    ]
    if isinstance(model, DiffusionPolicy):
        return _actions_alone(model, batches, ids, settings, generator=generator)
    if settings.stage == "vae":
        metrics = _reconstruction(model, batches, ids[:SAMPLE_WINDOWS], picture)
        # The scale of latents may be taken from any images, the rest may not.
        return metrics if held_out else {"latent_std": metrics["latent_std"]}
    losses = [
        policy_losses(
            model,
            batches.load(part, generator=generator),
            generator=generator,
            with_actions=settings.stage != "video",
        )
        for part in _parts(ids, settings)
    ]
    metrics = {"holdout_video": float(np.mean([x.video.item() for x in losses]))}
    if settings.stage != "video":
        metrics["holdout_action"] = float(np.mean([x.action.item() for x in losses]))
    # A window whose frames are all real, so that "+T" means the same everywhere.
    whole = ids[~data.chunk(ids).frame_is_pad_BT.any(1).numpy()][:SAMPLE_WINDOWS]
    if not len(whole):  # every held-out episode is shorter than the imagined video
        return metrics
    return metrics | _imagination(model, batches, _parts(whole, settings), picture, generator)


def _parts(ids: np.ndarray, settings: TrainSettings) -> list[np.ndarray]:
    """As many windows at a time as in training, which the memory is known to hold."""
    return np.array_split(ids, math.ceil(len(ids) / settings.batch_size))


def _actions_alone(
    model: DiffusionPolicy,
    batches: Batches,
    ids: np.ndarray,
    settings: TrainSettings,
    *,
    generator: torch.Generator,
) -> dict[str, float]:
    ids = ids[batches.data.labelled_N[ids]]
    if not len(ids):
        return {}
    losses = [
        noise_losses(model, batches.load(part, generator=generator), generator=generator)
        for part in _parts(ids, settings)
    ]
    config, errors = model.config, []
    for part in _parts(ids[:SAMPLE_WINDOWS], settings):
        batch = batches.load(part, generator=generator)
        shape = (len(part), config.horizon, config.action_dim)
        actions = sample_actions(
            model,
            batch.images_BVCHW,
            batch.text_B1D,
            tier=config.tier("default"),
            noise_BKA=normal(shape, generator).to(model.device),
        )
        errors.append(_action_errors(actions, batch, config))
    return {
        "holdout_action": float(np.mean([x.action.item() for x in losses])),
        "action_mae": torch.cat(errors).mean().item(),
    }


def _action_errors(actions_BKA: Tensor, batch: Batch, config: AgentConfig) -> Tensor:
    """Absolute errors in normalised units of the actions that are real, one per action."""
    assert config.action_stats is not None
    wanted = normalise(batch.chunk.actions_BKA, config.action_stats)
    return (actions_BKA - wanted).abs().mean(-1)[~batch.chunk.action_is_pad_BK]


def _imagination(
    model: VideoPolicy,
    batches: Batches,
    parts: list[np.ndarray],
    picture: Path | None,
    generator: torch.Generator,
) -> dict[str, float]:
    config = model.config
    videos, errors = zip(
        *(_imagine(model, batches, part, generator) for part in parts), strict=True
    )
    imagined, true = torch.cat(videos), to_signed(batches.data.pixels(np.concatenate(parts)))
    metrics: dict[str, float] = {}
    for v, view in enumerate(config.views):
        metrics[f"psnr_last_{view}"] = psnr(imagined[:, v, -1], true[:, v, -1])
        metrics[f"psnr_copy_{view}"] = psnr(true[:, v, 0], true[:, v, -1])
    if config.action_stats is not None:
        metrics["action_mae"] = torch.cat(errors).mean().item()
    if picture is not None:
        contact_sheet(picture, true[:SHOWN], imagined[:SHOWN])
        frame_hz = config.control_hz / max(config.frame_stride, 1)
        clip(picture.with_suffix(".mp4"), true[:SHOWN], imagined[:SHOWN], fps=frame_hz)
    return metrics


def _imagine(
    model: VideoPolicy, batches: Batches, ids: np.ndarray, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Imagined frames (B, V, T, 3, H, W), and the errors of the actions, if it has learnt any."""
    config = model.config
    batch = batches.load(ids, generator=generator)
    condition = canvas.compose_condition(
        model.condition_latents(batch.condition_BVChw), frames=config.frames_per_view
    )
    device = model.device
    result = sample(
        model,
        Conditions(latents_BSChw=condition, text_B1D=batch.text_B1D),
        tier=config.tier("default"),
        video_noise_BSChw=normal(condition.shape, generator).to(device),
        action_noise_BKA=normal((len(ids), config.horizon, config.action_dim), generator).to(
            device
        ),
    )
    assert result.video_BSChw is not None  # asked for
    imagined = model.decode_video(result.video_BSChw).cpu()
    if config.action_stats is None:
        return imagined, torch.empty(0, dtype=torch.float32, device="cpu")
    return imagined, _action_errors(result.actions_BKA, batch, config)


def _reconstruction(
    model: VideoPolicy, batches: Batches, ids: np.ndarray, picture: Path | None
) -> dict[str, float]:
    true = to_signed(batches.data.pixels(ids)).to(model.device)
    moments = model.encode_frames(true.flatten(0, 2)).unflatten(0, true.shape[:3])
    decoded = model.decode_video(canvas.compose(model.target_latents(moments)))
    if picture is not None:
        contact_sheet(picture, true[:SHOWN].cpu(), decoded[:SHOWN].cpu())
    views = model.config.views
    mean, _ = moments.chunk(2, dim=-3)
    metrics = {f"psnr_{view}": psnr(decoded[:, v], true[:, v]) for v, view in enumerate(views)}
    return metrics | {"latent_std": mean.std().item()}


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], from the mean squared error of all.

    58.9 where they are equal: no error is less than that of rounding to 256 levels.
    """
    error = ((a.clamp(-1, 1) - b) ** 2).mean()
    return float(10 * torch.log10(4 / error.clamp(min=(2 / 255) ** 2 / 12)))


def clip(path: Path, true: Tensor, imagined: Tensor, *, fps: float) -> None:
    """The same as a film: a row per sample, in it per view what happened and what was imagined."""
    frames = rearrange(
        torch.stack([true, imagined.clamp(-1, 1)], dim=1), "b r v t c h w -> t (b h) (v r w) c"
    )
    with Film(path, fps=fps) as film:
        for frame in ((frames + 1) * 127.5).round().byte().numpy():
            film.add(frame)


def contact_sheet(path: Path, true: Tensor, imagined: Tensor) -> None:
    """Per sample two rows: what happened above, what was imagined below; views side by side."""
    rows = rearrange(
        torch.stack([true, imagined.clamp(-1, 1)], dim=1), "b r v t c h w -> (b r h) (v t w) c"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(((rows + 1) * 127.5).round().byte().numpy())
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)
