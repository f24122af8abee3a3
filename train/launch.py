"""Processes of a training: how many there may be, and what only the first of them does."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list

from vp_agent.errors import ConfigError, VPAgentError, need
from vp_agent.train.settings import TrainSettings

P = ParamSpec("P")
T = TypeVar("T")


class OtherProcessError(VPAgentError, RuntimeError):
    """The first process failed; this one stops with it."""


def start_processes(settings: TrainSettings) -> Accelerator:
    """Joins the processes that `accelerate launch` or torchrun started; one without them.

    Raises:
        ConfigError: the launch asks for more GPUs than this machine has.
        MissingExtraError: the tracker of --log-with is not installed.
    """
    check_launch(
        os.environ,
        gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        device=settings.device,
    )
    if settings.log_with is not None:
        need(settings.log_with, extra=settings.log_with)
    return Accelerator(
        mixed_precision=settings.mixed_precision,
        cpu=settings.device == "cpu",
        log_with=settings.log_with,
        project_dir=settings.out,
        kwargs_handlers=[
            # Held-out metrics and checkpoints are the first process's; the others wait.
            InitProcessGroupKwargs(timeout=timedelta(hours=2)),
            DistributedDataParallelKwargs(
                broadcast_buffers=False,
                gradient_as_bucket_view=True,  # else every gradient is stored twice
                # Without a video loss the U-Net's last layers get no gradient.
                find_unused_parameters=settings.video_weight == 0,
            ),
        ],
    )


def check_launch(environ: os._Environ[str] | dict[str, str], *, gpus: int, device: str) -> None:
    """Refuses a launch that this machine cannot serve."""
    here = int(environ.get("LOCAL_WORLD_SIZE", environ.get("WORLD_SIZE", "1")))
    on_cpu = device == "cpu" or environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if device == "cuda" and not gpus:
        raise ConfigError("--device cuda: there is no GPU here; use --device cpu")
    if here > 1 and not on_cpu and here > gpus:
        fix = f"accelerate launch --num_processes {gpus}" if gpus else "--device cpu"
        raise ConfigError(
            f"the launch asks for {here} processes with a GPU each, this machine has {gpus} "
            f"GPUs; use {fix} (see accelerate config)"
        )


def on_first(
    accelerator: Accelerator, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The first process works while the others wait; its result, or its failure, is everybody's."""
    if accelerator.num_processes == 1:
        return work(*args, **kwargs)
    told: list[Any] = [None, None]  # result, failure
    failure = None
    if accelerator.is_main_process:
        try:
            told[0] = work(*args, **kwargs)
        except Exception as error:  # told to the others, then raised
            failure, told[1] = error, f"{type(error).__name__}: {error}"
    broadcast_object_list(told)
    if failure is not None:
        raise failure
    if told[1] is not None:
        raise OtherProcessError(f"process 0 stopped: {told[1]}")
    return told[0]
