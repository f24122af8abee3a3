"""`vp-agent train`: one loop from settings to checkpoints; the stage decides what learns."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from vp_agent.checkpoints.svd import start_from_svd
from vp_agent.errors import VPAgentError
from vp_agent.folder import load_agent
from vp_agent.locate import locate
from vp_agent.model.shortcuts import freeze_idle
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.presets import preset
from vp_agent.randomness import mix
from vp_agent.train.batches import Batch, Batches
from vp_agent.train.checkpoint import (
    Run,
    averaged,
    load_checkpoint,
    save_checkpoint,
    trainable,
)
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.holdout import evaluate_holdout
from vp_agent.train.losses import Losses, autoencoder_losses, policy_losses
from vp_agent.train.settings import TrainSettings

PARTS = {
    "vae": ("vae",),
    "video": ("unet",),
    "action": ("adapter", "action_head"),
    "joint": ("unet", "adapter", "action_head"),
}


class NonFiniteLoss(VPAgentError, RuntimeError):
    """The loss or the gradient stopped being a number; nothing was stepped."""


def train(settings: TrainSettings) -> Path:
    """Runs one stage; returns the last checkpoint's folder."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision, cpu=settings.device == "cpu"
    )
    # Everything that can be refused is refused before the run folder exists.
    model = start_model(settings)
    data = Demonstrations(
        settings.data,
        model.config,
        holdout=settings.holdout,
        action_padding=settings.action_padding,
    )
    if settings.stage in ("action", "joint"):
        # The range of the data the head learns from; a later stage keeps the first one's.
        stats = model.config.action_stats or data.action_stats
        model.config = model.config.replace(action_stats=stats)
    done = f"{settings.stage}, {settings.steps} steps of {settings.batch_size} on {data.root.name}"
    model.config = model.config.replace(training=(*model.config.training, done))
    run = Run(folder=settings.out)
    run.start(settings)
    model.to(accelerator.device).requires_grad_(False).eval()
    for part in PARTS[settings.stage]:
        getattr(model, part).requires_grad_(True).train()
    freeze_idle(model.unet)
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings), weight_decay=settings.weight_decay
    )
    ema = None
    if settings.ema_decay:
        ema = EMAModel(parameters.values(), decay=settings.ema_decay, use_ema_warmup=False)
    first = 0
    latest = run.latest()
    if settings.resume and latest is not None:
        first = load_checkpoint(latest, model, optimizer, ema)
    run.forget_after(first)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # a schedule that begins in its middle asks for it
    schedule = get_scheduler(
        "cosine" if settings.lr_schedule == "cosine" else "constant_with_warmup",
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
        last_epoch=first - 1,
    )
    batches = Batches(model, data, settings)

    started, bar = time.monotonic(), tqdm(total=settings.steps, initial=first, desc=settings.stage)
    waited = 0.0
    for step in range(first + 1, settings.steps + 1):
        generator = torch.Generator().manual_seed(
            mix(settings.seed, settings.stage, step, accelerator.process_index)
        )
        asked = time.monotonic()
        ids = batches.draw(generator)
        batch = batches.load(ids, generator=generator)
        waited += time.monotonic() - asked
        with accelerator.autocast():
            losses = stage_losses(model, batch, settings, generator)
        accelerator.backward(losses.total)
        clipped = accelerator.clip_grad_norm_(parameters.values(), settings.clip_norm)
        norm = torch.as_tensor(clipped).item()
        if not math.isfinite(losses.total.item() + norm):
            raise NonFiniteLoss(
                f"step {step}: loss {losses.total.item()}, gradient norm {norm}; samples "
                f"{ids.tolist()}; the last checkpoint is intact, lower --lr or check the data"
            )
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.step(parameters.values())
        bar.update()
        if step % settings.log_every == 0 or step == settings.steps:
            elapsed = time.monotonic() - started
            rate = (step - first) / elapsed
            record = {
                "step": step,
                "loss": losses.total.item(),
                **losses.parts(),
                "grad_norm": norm,
                "lr": schedule.get_last_lr()[0],
                "samples_per_s": rate * settings.batch_size,
                "loader_share": waited / elapsed,
                "eta_s": (settings.steps - step) / rate,
            }
            run.log(record)
            bar.set_postfix(loss=f"{record['loss']:.4f}", eta_s=f"{record['eta_s']:.0f}")
        if step % settings.eval_every == 0 or step == settings.steps:
            with averaged(parameters.values(), ema):
                picture = run.folder / "samples" / f"step-{step:08d}.png"
                metrics = evaluate_holdout(model, batches, settings, picture)
            run.log({"step": step, **metrics})
            if "latent_std" in metrics:  # the diffusion wants latents of unit variance
                set_latent_scale(model, 1 / metrics["latent_std"])
        if step % settings.save_every == 0 or step == settings.steps:
            save_checkpoint(run, step, model, optimizer, ema, keep=settings.keep)
    bar.close()
    return run.checkpoint(settings.steps)


def start_model(settings: TrainSettings) -> VideoPolicy:
    """The stage before's agent, Stable Video Diffusion, or fresh weights from a preset."""
    if settings.init is not None and not settings.from_svd:
        return load_agent(locate(settings.init), resolution=settings.resolution)
    config = preset(settings.preset or "svd-robocasa")
    config = config.replace(
        views=settings.views or config.views, resolution=settings.resolution or config.resolution
    )
    if settings.from_svd:
        return start_from_svd(
            config, svd=str(settings.init), text=settings.text_encoder, seed=settings.seed
        )
    # Fresh weights come from torch's global generator: set it here only, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(settings.seed, "weights"))
        return VideoPolicy(config)


def parameter_groups(model: VideoPolicy, settings: TrainSettings) -> list[dict[str, Any]]:
    """The heads learn at their own rate."""
    groups = []
    for part in PARTS[settings.stage]:
        rate = settings.head_lr if part in ("adapter", "action_head") else settings.lr
        groups.append({"params": list(getattr(model, part).parameters()), "lr": rate})
    return groups


def stage_losses(
    model: VideoPolicy, batch: Batch, settings: TrainSettings, generator: torch.Generator
) -> Losses:
    """What the stage minimises on one batch."""
    if settings.stage == "vae":
        return autoencoder_losses(
            model, batch.clips_BTCHW, generator=generator, kl_weight=settings.kl_weight
        )
    return policy_losses(
        model,
        batch,
        generator=generator,
        with_actions=settings.stage != "video",
        draws=settings.action_draws,
        dropout=settings.condition_dropout,
        dropout_per_slot=settings.dropout_per_slot,
        mask_padding=settings.mask_padding,
        sample_latents=settings.sample_latents,
        # The frozen U-Net makes the video loss a constant of the action stage: not computed.
        video_weight=0.0 if settings.stage == "action" else settings.video_weight,
        stop_action_gradient=settings.stop_action_gradient,
    )


def set_latent_scale(model: VideoPolicy, scale: float) -> None:
    """Makes `scale` the VAE's scaling factor, in its own configuration and in ours."""
    model.vae.register_to_config(scaling_factor=scale)
    model.config = model.config.replace(vae={**model.config.vae, "scaling_factor": scale})
