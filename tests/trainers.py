"""Trainings of a small policy, here and in processes of their own.

Those are forked from one that has torch and LeRobot imported.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from toy_data import write_toy_dataset

from vp_agent.folder import save_agent
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.settings import TrainSettings

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["vp_agent.train.trainer", "lerobot.datasets.lerobot_dataset"])


def toy_settings(folder: Path, start: VideoPolicy, **changes: Any) -> TrainSettings:
    """Of a short training of `start` on a toy dataset, both of which it writes into `folder`."""
    save_agent(start, folder / "start", card="")
    short = {"steps": 2, "batch_size": 2, "holdout": 0, "save_every": 1, "log_every": 1}
    return TrainSettings(
        data=write_toy_dataset(folder / "toy", size=32, steps=14),
        init=folder / "start",
        out=Path("unused"),
        threads=1,
        device="cpu",
        **{**short, **changes},
    )


def start_trainers(
    settings: TrainSettings,
    log: Path,
    *,
    processes: int = 1,
    before: Callable[[], object] | None = None,
    launch: Mapping[str, str] = {},
) -> list[Any]:
    """Starts the processes of one training; each writes to `log` what it prints or raises.

    Args:
        settings: of the training.
        log: file of every process, ending in its rank.
        processes: how many, joined by gloo as by accelerate launch or torchrun.
        before: called in each process before it trains.
        launch: environment variables that accelerate launch would set besides.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        environ = {"CUDA_VISIBLE_DEVICES": "", **launch}
        if processes > 1:
            environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        process = FORKSERVER.Process(
            target=_train, args=(settings, environ, f"{log}.{rank}", before), daemon=True
        )
        process.start()
        started.append(process)
    return started


def _train(
    settings: TrainSettings, environ: dict[str, str], log: str, before: Callable[[], object] | None
) -> None:
    from vp_agent.train.trainer import train

    os.environ.update(environ)
    with open(log, "a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            if before is not None:
                before()
            train(settings)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=file)
            raise
