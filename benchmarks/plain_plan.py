"""One whole plan of the full-size network: as this package makes it, and the plain way.

    python benchmarks/plain_plan.py --out benchmarks/plain_plan.json

The plain way encodes the text for every frame slot, text and images once for each guidance half,
runs the two halves one after the other through diffusers' U-Net as it comes, computes the U-Net's
last layers at the last step and decodes the video. Both have the same weights, noise and thread
count, and must give the same actions.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from vp_agent.agent import VideoPolicyAgent
from vp_agent.bench import random_observation, random_policy
from vp_agent.diffusion.sampler import Conditions, sample
from vp_agent.model import canvas
from vp_agent.model.shortcuts import TemporalConv, shorten
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.presets import preset


@dataclass(frozen=True)
class Settings:
    """What to compare."""

    out: Path
    """JSON file of the results; finished rows in it are kept."""
    preset: str = "svd-robocasa"
    resolution: tuple[int, int] = (64, 64)
    steps: tuple[int, ...] = (5, 30)
    repeats: int = 1
    """Pairs of plans per number of steps, the two ways in turn."""
    threads: int = torch.get_num_threads()


class Halves:
    """The network, one guidance half at a time."""

    def __init__(self, model: VideoPolicy) -> None:
        self.model = model

    def __call__(self, *batch: Tensor, with_video: bool) -> Any:
        halves = [self.model(*parts) for parts in zip(*(x.chunk(2) for x in batch), strict=True)]
        return tuple(torch.cat(outputs) for outputs in zip(*halves, strict=True))


@torch.inference_mode()
def plain_plan(agent: VideoPolicyAgent, obs: dict[str, Any], noises: tuple[Tensor, ...]) -> Tensor:
    """Normalised actions (1, K, A), the plain way."""
    model, config = agent.model, agent.config
    images = torch.stack([torch.from_numpy(obs["pixels"][view]) for view in config.views])
    images = (images.float() / 127.5 - 1).movedim(-1, 1)
    for _ in range(2):  # once for each guidance half
        text = model.encode_text([obs["task"]] * config.slots)[:1]
        moments = model.encode_frames(torch.cat([images[:1], images]))[1:]
    latents = canvas.compose_condition(
        model.condition_latents(moments)[None], frames=config.frames_per_view
    )
    result = sample(
        Halves(model),  # pyright: ignore[reportArgumentType]
        Conditions(latents_BSChw=latents, text_B1D=text),
        tier=agent.sampler,
        video_noise_BSChw=noises[0],
        action_noise_BKA=noises[1],
    )
    assert result.video_BSChw is not None
    model.decode_video(result.video_BSChw)
    return result.actions_BKA


def unshorten(model: VideoPolicy) -> None:
    """diffusers' U-Net as it comes."""
    model.unet.set_attn_processor(AttnProcessor2_0())  # type: ignore[arg-type]
    for module in model.unet.modules():
        if isinstance(module, TemporalConv):
            module.__class__ = nn.Conv3d


def main(settings: Settings) -> None:
    """Measures what --out lacks."""
    torch.set_num_threads(settings.threads)
    config = preset(settings.preset)
    # The noise on the condition images would come from other draws in the two ways.
    config = config.replace(
        resolution=settings.resolution, conditioning=replace(config.conditioning, image_noise=0.0)
    )
    rows = json.loads(settings.out.read_text()) if settings.out.is_file() else []
    model = random_policy(config)
    for steps in settings.steps:
        for repeat in range(settings.repeats):
            if any(row["steps"] == steps and row["repeat"] == repeat for row in rows):
                continue
            agent = VideoPolicyAgent(model, "paper", replace(config.tier("paper"), steps=steps))
            obs = random_observation(config, task=f"close drawer {repeat}")
            g = torch.Generator().manual_seed(repeat)
            noises = tuple(torch.randn(1, *shape, generator=g) for shape in agent._noise_shapes())
            shorten(model.unet)
            start = time.perf_counter()
            video_noise, action_noise = (x[0].numpy() for x in noises)
            plan = agent.plan(obs, seed=0, video_noise=video_noise, action_noise=action_noise)
            ours_s = time.perf_counter() - start
            unshorten(model)
            start = time.perf_counter()
            plain = plain_plan(agent, obs, noises).clamp(-1, 1)[0].numpy()
            plain_s = time.perf_counter() - start
            row = {
                "steps": steps,
                "repeat": repeat,
                "plain_s": round(plain_s, 2),
                "ours_s": round(ours_s, 2),
                "ratio": round(plain_s / ours_s, 3),
                "largest_action_difference": float(np.abs(plan.actions - plain).max()),
                "threads": settings.threads,
                "resolution": list(settings.resolution),
                "preset": settings.preset,
            }
            print(row, flush=True)
            rows.append(row)
            settings.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
