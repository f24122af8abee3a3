"""One whole plan of the full-size network: as this package makes it, and the plain way.

    python benchmarks/plain_plan.py --out benchmarks/plain_plan.json

The plain way gives up every exact saving (`SAVINGS`); further rows give up one at a time. All have
the same weights, noise and thread count, and must give the same actions.
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
from vp_agent.config import TierConfig
from vp_agent.diffusion.sampler import Conditions, sample
from vp_agent.model import canvas
from vp_agent.model.shortcuts import TemporalConv, shorten
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.presets import preset
from vp_agent.torch_defaults import normal

SAVINGS = {
    "encode once": "text for every frame slot, text and images for each guidance half",
    "one batch": "the guidance halves one after the other",
    "shortcuts": "diffusers' U-Net as it comes: attention to one token, 3-D convolutions over time",
    "no video": "the U-Net's last layers at the last step, and the video decoded",
}


@dataclass(frozen=True)
class Settings:
    """What to compare."""

    out: Path
    """JSON file of the results; finished rows in it are kept."""
    preset: str = "svd-robocasa"
    resolution: tuple[int, int] = (64, 64)
    steps: tuple[int, ...] = (5, 30)
    each: bool = True
    """At the first number of steps, also give up each saving alone."""
    threads: int = torch.get_num_threads()


class Halves:
    """The network, one guidance half at a time."""

    def __init__(self, model: VideoPolicy) -> None:
        self.model = model

    def __call__(self, *batch: Tensor, with_video: bool) -> Any:
        halves = [
            self.model(*parts, with_video=with_video)
            for parts in zip(*(x.chunk(2) for x in batch), strict=True)
        ]
        return tuple(
            None if None in outs else torch.cat(outs) for outs in zip(*halves, strict=True)
        )


@torch.inference_mode()
def plan_without(
    savings: set[str], agent: VideoPolicyAgent, obs: dict[str, Any], noises: tuple[Tensor, ...]
) -> np.ndarray:
    """Actions (K, A) of a plan that gives up some savings."""
    model: VideoPolicy = agent.model
    config = model.config
    assert isinstance(agent.sampler, TierConfig)
    images = torch.stack([torch.from_numpy(obs["pixels"][view]) for view in config.views])
    images = (images.float() / 127.5 - 1).movedim(-1, 1)
    if "encode once" in savings:
        for _ in range(2):  # for each guidance half; the pad slot's image is encoded apart
            text = model.encode_text([obs["task"]] * config.slots)[:1]
            moments = model.encode_frames(torch.cat([images[:1], images]))[1:]
    else:
        text, moments = model.encode_text([obs["task"]]), model.encode_frames(images)
    latents = canvas.compose_condition(
        model.condition_latents(moments)[None], frames=config.frames_per_view
    )
    if "shortcuts" in savings:
        unshorten(model)
    else:
        shorten(model.unet)
    result = sample(
        Halves(model) if "one batch" in savings else model,  # pyright: ignore[reportArgumentType]
        Conditions(latents_BSChw=latents, text_B1D=text),
        tier=agent.sampler,
        video_noise_BSChw=noises[0],
        action_noise_BKA=noises[1],
        with_video="no video" in savings,
    )
    if result.video_BSChw is not None:
        model.decode_video(result.video_BSChw)
    return result.actions_BKA[0].numpy()


def unshorten(model: VideoPolicy) -> None:
    """diffusers' U-Net as it comes."""
    model.unet.set_attn_processor(AttnProcessor2_0())  # type: ignore[arg-type]
    for module in model.unet.modules():
        if isinstance(module, TemporalConv):
            module.__class__ = nn.Conv3d  # pyright: ignore[reportAttributeAccessIssue]


def main(settings: Settings) -> None:
    """Measures what --out lacks."""
    torch.set_num_threads(settings.threads)
    config = preset(settings.preset)
    # The noise on the condition images would come from other draws in the two ways.
    config = config.replace(
        resolution=settings.resolution,
        conditioning=replace(config.conditioning, image_noise=0.0),
        clip_actions=False,
    )
    model = random_policy(config)
    g = torch.Generator("cpu").manual_seed(0)
    shapes = (config.slots, *config.latent_shape), (config.horizon, config.action_dim)
    noises = tuple(normal((1, *shape), g) for shape in shapes)
    rows = json.loads(settings.out.read_text()) if settings.out.is_file() else []
    jobs = [(steps, set(SAVINGS)) for steps in settings.steps]
    if settings.each:
        jobs += [(settings.steps[0], {name}) for name in SAVINGS]
    for steps, without in jobs:
        name = "every saving" if without == set(SAVINGS) else "".join(without)
        if any((row["steps"], row["without"]) == (steps, name) for row in rows):
            continue
        agent = VideoPolicyAgent(model, "paper", replace(config.tier("paper"), steps=steps))
        obs = random_observation(config, task="close the drawer")
        shorten(model.unet)
        start = time.perf_counter()
        ours = agent.plan(
            obs, seed=0, video_noise=noises[0].numpy(), action_noise=noises[1].numpy()
        )
        ours_s = time.perf_counter() - start
        start = time.perf_counter()
        actions = plan_without(without, agent, obs, noises)
        seconds = time.perf_counter() - start
        row = {
            "steps": steps,
            "without": name,
            "seconds": round(seconds, 2),
            "ours_s": round(ours_s, 2),
            "ratio": round(seconds / ours_s, 3),
            "largest_action_difference": float(np.abs(ours.actions - actions).max()),
            "threads": settings.threads,
            "preset": settings.preset,
            "resolution": list(settings.resolution),
        }
        print(row, flush=True)
        rows.append(row)
        settings.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
