"""What the latent cache saves, and what it costs in memory. Results: benchmarks/cache.md.

python benchmarks/cache.py --data data/lift --scratch /tmp/cache --out benchmarks/cache.json
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from vp_agent.presets import preset
from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.latent_cache import read_rows
from vp_agent.train.settings import TrainSettings
from vp_agent.train.shelf import Shelf
from vp_agent.train.stages import start_video_model
from vp_agent.train.video_decoder import video_backend
from vp_agent.train.windows import frame_steps

PAPER = preset("svd-robocasa")
# Rows (V, 2C, h, w) of the paper's model, and an episode as long as RoboCasa's.
ROW, EPISODE = (len(PAPER.views), 2 * PAPER.latent_shape[0], *PAPER.latent_shape[1:]), 300


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    data: Path
    """Dataset for the packaged agent."""
    scratch: Path
    """Folder for made-up data, emptied afterwards; needs 12 GB."""
    out: Path
    gigabytes: tuple[float, ...] = (1, 10)
    batch_size: int = 16
    batches: int = 10
    threads: int = 1


def rate(run: Callable[[], object], settings: Settings) -> float:
    """Samples per second of `run`, which loads a batch; the first one is not counted."""
    run()
    start = time.perf_counter()
    for _ in range(settings.batches):
        run()
    return settings.batches * settings.batch_size / (time.perf_counter() - start)


def small(settings: Settings) -> dict[str, float]:
    """The packaged agent on its own data: two views of four frames, 64 x 64."""
    cached = TrainSettings(
        stage="video",
        data=settings.data,
        init=Path("packaged:lift"),
        out=Path("unused"),
        batch_size=settings.batch_size,
    )
    model = start_video_model(cached).requires_grad_(False)
    data, generator = (
        Demonstrations(settings.data, model.config),
        torch.Generator("cpu").manual_seed(0),
    )
    rates = {}
    for name, how in (("video", replace(cached, cache=False)), ("cache", cached)):
        batches = Batches(model, data, how)

        def load(batches: Batches = batches) -> None:
            batches.load(batches.draw(generator), generator=generator)

        rates[name] = rate(load, settings)
    return rates


def paper_sized(settings: Settings) -> dict[str, float]:
    """Three views of eight frames, 256 x 256: decoding alone against reading the latents."""
    root = settings.scratch / "frames"
    write_moving_noise(root)
    data = Demonstrations(root, PAPER)
    rng, config = np.random.default_rng(0), PAPER
    array = made_up(settings.scratch / "latents", frames=EPISODE * 4)
    last_N = np.arange(len(array)) // EPISODE * EPISODE + EPISODE - 1

    def read() -> None:
        ids = rng.integers(0, len(array), settings.batch_size)
        frames, _ = frame_steps(
            ids, last_N[ids], frames=config.frames_per_view, stride=config.frame_stride
        )
        read_rows([array], frames)

    return {
        "decode": rate(
            lambda: data.pixels(rng.integers(0, len(data), settings.batch_size)), settings
        ),
        "cache": rate(read, settings),
    }


def write_moving_noise(root: Path) -> None:
    """One episode of 100 frames with LeRobot's writer and its usual codec."""
    features: dict = {
        f"observation.images.{view}": {
            "dtype": "video",
            "shape": (256, 256, 3),
            "names": ["height", "width", "channels"],
        }
        for view in PAPER.views
    }
    features["action"] = {"dtype": "float32", "shape": (7,), "names": None}
    dataset = LeRobotDataset.create("bench/noise", 20, features, root=root)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    for step in range(100):
        frame = {key: np.roll(picture, step, axis=1) for key in features if key != "action"}
        action = rng.uniform(-1, 1, 7).astype(np.float32)
        dataset.add_frame({**frame, "action": action, "task": "watch"})
    dataset.save_episode(parallel_encoding=False)
    dataset.finalize()


def made_up(folder: Path, *, frames: int) -> np.ndarray:
    """A whole shelf of random latents, every byte written."""
    shelf = Shelf(folder=folder, shape=(frames, *ROW), about={}, encode=lambda x, _: x)
    begin, rng = shelf.start(), np.random.default_rng(0)
    rows = rng.standard_normal((EPISODE, *ROW), np.float32).astype(np.float16)
    for episode in range(frames // EPISODE):
        shelf.write(rows, first=episode * EPISODE, episode=episode, begin=begin, rank=0)
    shelf.finish()
    return shelf.open()


def resident(folder: Path, frames: int, batch_size: int) -> dict[str, float]:
    """Reads as many windows as the array has frames / 8; MB of this process before and after."""
    shelf = Shelf(folder=folder, shape=(frames, *ROW), about={}, encode=lambda x, _: x)
    array, rng = shelf.open(), np.random.default_rng(0)
    last_N = np.arange(frames) // EPISODE * EPISODE + EPISODE - 1
    before, start = memory(), time.perf_counter()
    batches = frames // 8 // batch_size
    for _ in range(batches):
        ids = rng.integers(0, frames, batch_size)
        read_rows([array], frame_steps(ids, last_N[ids], frames=8, stride=4)[0])
    seconds = time.perf_counter() - start
    after = memory()
    return {
        "samples_per_s": batches * batch_size / seconds,
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
    }


def memory() -> dict[str, float]:
    """MB: everything resident, the process's own, and its share of what is mapped."""
    status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    shares = dict(x.split(":", 1) for x in rollup)
    kilobytes = {
        "rss": status["VmRSS"],
        "anonymous": status["RssAnon"],
        "pss": shares["Pss"],
    }
    return {name: int(value.split()[0]) / 1024 for name, value in kilobytes.items()}


def main(settings: Settings) -> None:
    """Measures all of it."""
    torch.set_num_threads(settings.threads)
    settings.scratch.mkdir(parents=True)
    try:
        result: dict = {
            "threads": settings.threads,
            "video_backend": video_backend(),
            "small": small(settings),
            "paper_sized": paper_sized(settings),
            "resident": {},
        }
        for size in settings.gigabytes:
            frames = int(size * 2**30 / (2 * np.prod(ROW))) // EPISODE * EPISODE
            folder = settings.scratch / f"{size:g}GB"
            made_up(folder, frames=frames)
            # A process of its own, so that nothing else is in its memory.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                job = pool.submit(resident, folder, frames, settings.batch_size)
                result["resident"][f"{size:g}GB"] = job.result()
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(settings.scratch)
    result["small"]["ratio"] = result["small"]["cache"] / result["small"]["video"]
    paper = result["paper_sized"]
    paper["ratio"] = paper["cache"] / paper["decode"]
    rounded = json.loads(json.dumps(result), parse_float=lambda x: round(float(x), 1))
    print(json.dumps(rounded, indent=2))
    settings.out.write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
