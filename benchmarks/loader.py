"""Does the loader keep up with training? Samples per second of both, side by side.

python benchmarks/loader.py --data data/lift --out benchmarks/loader.json
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import torch
import tyro

from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.settings import TrainSettings
from vp_agent.train.stages import StageModel, choose_trainable, start_video_model
from vp_agent.train.video_decoder import video_backend

STAGES: tuple[Literal["vae", "video", "action", "joint"], ...] = ("vae", "video", "action", "joint")


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    data: Path
    out: Path
    init: str = "packaged:lift"
    batch_size: int = 16
    batches: int = 10
    """Measured batches, after one that is not."""
    threads: int = torch.get_num_threads()


def rate(run: Callable[[int], object], settings: Settings) -> float:
    """Samples per second of `run(step)`."""
    run(0)
    start = time.perf_counter()
    for step in range(1, settings.batches + 1):
        run(step)
    return settings.batches * settings.batch_size / (time.perf_counter() - start)


def measure(settings: Settings, stage: Literal["vae", "video", "action", "joint"]) -> dict:
    """One row: loading from the cache (but for the vae stage), decoding, and a training step."""
    train = TrainSettings(
        stage=stage,
        data=settings.data,
        out=Path("unused"),
        init=Path(settings.init),
        batch_size=settings.batch_size,
        action_draws=4,
    )
    model = start_video_model(train)
    data = Demonstrations(settings.data, model.config)
    choose_trainable(model, train)
    stage_model = StageModel(model, train)
    batches, generator = Batches(model, data, train), torch.Generator("cpu").manual_seed(0)
    batch = batches.load(batches.draw(generator), generator=generator)

    def step(_: int) -> None:
        stage_model(batch, generator).total.backward()
        model.zero_grad()

    seeds = count()

    def load(_: int) -> None:
        draw = torch.Generator("cpu").manual_seed(next(seeds))
        batches.load(batches.draw(draw), generator=draw)

    rates = {"train": rate(step, settings), "load": rate(load, settings)}
    return {
        "stage": stage,
        "from": "latent cache" if batches.caches else "video",
        **{f"{name}_samples_per_s": round(value, 1) for name, value in rates.items()},
    }


def main(settings: Settings) -> None:
    """Measures every stage."""
    torch.set_num_threads(settings.threads)
    rows = [measure(settings, stage) for stage in STAGES]
    result = {"threads": settings.threads, "video_backend": video_backend(), "stages": rows}
    print(json.dumps(result, indent=2))
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
