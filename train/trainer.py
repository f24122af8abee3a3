"""`vp-agent train`: one loop from settings to checkpoints; the stage decides what learns."""

import math
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, patch_environment
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm import tqdm

from vp_agent.errors import VPAgentError
from vp_agent.folder import read_config
from vp_agent.locate import hub_source, locate
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.randomness import mix
from vp_agent.torch_defaults import torch_defaults
from vp_agent.train.batches import Batches
from vp_agent.train.checkpoint import (
    averaged,
    checkpoint_tensors,
    load_checkpoint,
    save_checkpoint,
    trainable,
)
from vp_agent.train.holdout import evaluate_holdout
from vp_agent.train.interruption import Interruption, TrainingStopped
from vp_agent.train.launch import on_first, start_processes
from vp_agent.train.meter import Meter
from vp_agent.train.mixture import Mixture, learn_actions, open_mixture
from vp_agent.train.run import Run, open_run
from vp_agent.train.settings import TrainSettings
from vp_agent.train.shards import asks_for_shards, shard, whole
from vp_agent.train.stages import (
    StageModel,
    choose_trainable,
    parameter_groups,
    set_latent_scale,
    start_model,
)


class NonFiniteLoss(VPAgentError, RuntimeError):
    """The loss or the gradient stopped being a number; nothing was stepped."""


@torch_defaults()
def train(settings: TrainSettings) -> Path:
    """Runs one stage; returns the last checkpoint's folder.

    Raises:
        TrainingStopped: a signal came; the step it came in is saved.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    sharded = asks_for_shards(os.environ, settings)
    # Told of FSDP, accelerate would shard as well, and transformers leave weights unread.
    with patch_environment(accelerate_use_fsdp="false"):
        accelerator = start_processes(settings)
        sharded = sharded and accelerator.num_processes > 1
        # Everything that can be refused is refused before the run folder exists.
        model: Any = start_model(settings)  # of either kind
        data = open_mixture(settings, model.config)
        if settings.learns_actions:
            model.config = learn_actions(model.config, data, settings)
        samples = samples_per_step(settings, accelerator)
        done = f"{settings.stage}, {settings.steps} steps of {samples} on {data.name}"
        if settings.init is not None and not settings.from_svd:
            source = hub_source(settings.init, locate(settings.init))
            done += f", from {source}" if source else ""
        model.config = model.config.replace(training=(*model.config.training, done))
        with open_run(settings, accelerator) as run, Interruption() as interruption:
            optimise(settings, accelerator, model, data, run, interruption, sharded=sharded)
    return run.checkpoint(settings.steps)


def optimise(
    settings: TrainSettings,
    accelerator: Accelerator,
    model: VideoPolicy,
    data: Mixture,
    run: Run,
    interruption: Interruption,
    *,
    sharded: bool,
) -> None:
    """The loop, from the run's last checkpoint, if it has one, to the last step or a signal."""
    model.to(accelerator.device)
    choose_trainable(model, settings)
    if sharded:
        shard(model, accelerator)
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings),
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    ema = None
    if settings.ema_decay:
        ema = EMAModel(parameters.values(), decay=settings.ema_decay, use_ema_warmup=False)
    first = 0
    latest = on_first(accelerator, run.take_up)
    if latest is not None:
        first = load_checkpoint(latest, model, optimizer, ema, accelerator.scaler)
        if settings.stage == "vae":
            set_latent_scale(model, read_config(latest / "agent").vae["scaling_factor"])
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # a schedule that begins in its middle asks for it
    schedule = get_scheduler(
        "cosine" if settings.lr_schedule == "cosine" else "constant_with_warmup",
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
        last_epoch=first - 1,
    )
    batches = Batches(model, data, settings)  # all processes fill the latent cache together
    # Shards are not DDP's copies: accelerate then adds mixed precision only.
    stage_model = accelerator.prepare_model(
        StageModel(model, settings), device_placement=False, evaluation_mode=sharded
    )
    stepper = accelerator.prepare_optimizer(optimizer)
    if settings.log_with is not None:
        accelerator.init_trackers("vp_agent", {k: str(v) for k, v in vars(settings).items()})

    started, waited, meter = time.monotonic(), 0.0, Meter()
    bar = tqdm(
        total=settings.steps,
        initial=first,
        desc=settings.stage,
        disable=not accelerator.is_main_process,
    )
    stop, step = 0, first
    interruption.listen()
    for step in range(first + 1, settings.steps + 1):
        generator = torch.Generator("cpu").manual_seed(
            mix(settings.seed, settings.stage, step, accelerator.process_index)
        )
        drawn, total = [], torch.zeros((), dtype=torch.float32, device="cpu")
        for part in range(1, settings.accumulation + 1):
            asked = time.monotonic()
            drawn.append(batches.draw(generator))
            batch = batches.load(drawn[-1], generator=generator)
            waited += time.monotonic() - asked
            last = part == settings.accumulation  # the processes' gradients meet once a step
            with nullcontext() if last else accelerator.no_sync(stage_model):
                losses = stage_model(batch, generator)
                accelerator.backward(losses.total / settings.accumulation)
            meter.add(losses)
            total = total + losses.total.detach().cpu() / settings.accumulation
        clipped: Any = accelerator.clip_grad_norm_(parameters.values(), settings.clip_norm)
        norm = whole(clipped).item()
        refuse_non_finite(accelerator, step, total, norm, drawn)
        stepper.step()
        schedule.step()
        # Where passes are accumulated, gradients of None would be stored beside DDP's buckets.
        stepper.zero_grad(set_to_none=settings.accumulation == 1)
        if ema is not None:
            ema.step(parameters.values())
        bar.update()
        if step % settings.log_every == 0 or step == settings.steps:
            elapsed = time.monotonic() - started
            rate = (step - first) / elapsed
            record = {
                "step": step,
                **meter.means(accelerator),
                "grad_norm": norm,
                "lr": schedule.get_last_lr()[0],
                "samples_per_s": rate * samples_per_step(settings, accelerator),
                "loader_share": waited / elapsed,
                "eta_s": (settings.steps - step) / rate,
            }
            on_first(accelerator, run.log, record)
            accelerator.log(record, step=step)
            bar.set_postfix(loss=f"{record['loss']:.4f}", eta_s=f"{record['eta_s']:.0f}")
        if step % settings.eval_every == 0 or step == settings.steps:
            with averaged(parameters.values(), ema):
                picture = run.folder / "samples" / f"step-{step:08d}.png"
                if sharded:  # the model runs in all processes or in none
                    sheet = picture if accelerator.is_main_process else None
                    metrics = evaluate_holdout(model, batches, settings, sheet)
                else:
                    metrics = on_first(
                        accelerator, evaluate_holdout, model, batches, settings, picture
                    )
            on_first(accelerator, run.log, {"step": step, **metrics})
            accelerator.log(metrics, step=step)
            if "latent_std" in metrics:  # the diffusion wants latents of unit variance
                set_latent_scale(model, 1 / metrics["latent_std"])
        stop = interruption.agreed(accelerator)
        if step % settings.save_every == 0 or step == settings.steps or stop:
            folder, tensors, first_process = run.checkpoint(step), {}, accelerator.is_main_process
            if sharded or first_process:
                tensors = checkpoint_tensors(model, optimizer, ema, keep=first_process)
            on_first(accelerator, save_checkpoint, folder, step, model, tensors, accelerator.scaler)
            del tensors  # at full size tens of gigabytes
            on_first(accelerator, run.keep, folder, settings)
        if stop:
            break
    bar.close()
    accelerator.wait_for_everyone()
    # DDP holds the process group; outliving it, it would wait for its threads and they for Python.
    del stage_model
    accelerator.free_memory()
    accelerator.end_training()
    if stop and step < settings.steps:
        if accelerator.is_main_process:
            name = signal.Signals(stop).name
            print(f"{name}: step {step} is saved in {folder}; go on with --resume", file=sys.stderr)
        raise TrainingStopped(stop)


def samples_per_step(settings: TrainSettings, accelerator: Accelerator) -> int:
    """The global batch."""
    return settings.batch_size * settings.accumulation * accelerator.num_processes


def refuse_non_finite(
    accelerator: Accelerator, step: int, total: Tensor, norm: float, drawn: list[np.ndarray]
) -> None:
    """Stops every process before the step if the loss of any, or the gradient, is no number."""
    totals = accelerator.gather(total.to(accelerator.device)[None])
    # In fp16 a gradient may overflow: the scaler then leaves the step out and scales less.
    finite_gradient = math.isfinite(norm) or accelerator.scaler is not None
    if torch.isfinite(totals).all() and finite_gradient:  # type: ignore[arg-type]
        return
    samples = np.concatenate(drawn).tolist()
    mine = f"process {accelerator.process_index}: loss {total.item()}, samples {samples}"
    if not finite_gradient and torch.isfinite(totals).all():  # type: ignore[arg-type]
        guilty = gather_object([mine])  # the gradients have met: it may be any of them
    else:
        guilty = gather_object([] if math.isfinite(total.item()) else [mine])
    raise NonFiniteLoss(
        f"step {step}: gradient norm {norm}; {'; '.join(guilty)}; the last checkpoint is intact, "
        "lower --lr or check the data"
    )
