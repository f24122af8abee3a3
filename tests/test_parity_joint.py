"""The whole agent against the published recipe written out once more, slot by slot."""

from itertools import pairwise
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, small_model
from torch import Tensor

from vp_agent.agent import VideoPolicyAgent
from vp_agent.config import ActionStats, TierConfig
from vp_agent.model.video_policy import VideoPolicy

VIEWS = ("gripper", "left", "right")
LOW, HIGH = np.linspace(-2, -1, 7), np.linspace(0.5, 3, 7)
CONFIG = SMALL.replace(
    views=VIEWS,
    clip_actions=False,
    tiers={"paper": TierConfig(steps=3)},
    default_tier="paper",
    action_stats=ActionStats(min=tuple(LOW), max=tuple(HIGH)),
)
# The start noise is 700 times a normal number, of which the largest is 3: one rounding of it is
# 700 * 3 * 2**-24 = 1.25e-4, on either side, and a unit is half an action's range of at most 4.
ATOL = 5e-4  # 2 * 2 * 1.25e-4


@pytest.fixture(scope="module")
def model() -> VideoPolicy:
    return small_model(CONFIG)


def network(
    model: VideoPolicy,
    video: Tensor,
    condition: Tensor,
    text: Tensor,
    actions: Tensor,
    s: float,
) -> tuple[Tensor, Tensor]:
    """Both outputs for one sample: ten slots, then each view's three of them to its own trunk."""
    seen: dict[str, Tensor] = {}
    handles = []
    for tap in CONFIG.adapter.taps:
        module = model.unet.get_submodule(tap.module)

        def keep(_module, _inputs, output, name=tap.module):
            seen[name] = output[0] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(keep))
    noise = torch.tensor([log(s) / 4])
    video_out = model.unet(
        torch.cat([video, condition], dim=1)[None],
        noise,
        encoder_hidden_states=text,
        added_time_ids=torch.tensor([[6.0, 100.0, CONFIG.conditioning.image_noise]]),
    ).sample[0]
    for handle in handles:
        handle.remove()
    time = model.unet.time_embedding(model.unet.time_proj(noise))
    trunks = []
    for view, first in enumerate((1, 4, 7)):
        shallow, deep = (
            seen[tap.module][first : first + 3].transpose(0, 1)[None] for tap in CONFIG.adapter.taps
        )
        trunk: Any = model.adapter.views[view]
        x = trunk.trunks[0](shallow, time)
        trunks.append(trunk.trunks[1](torch.cat([x, trunk.sides[0](deep, time)], 1), time))
    grid = torch.cat(trunks, dim=1)
    for layer in model.adapter.fused:
        grid = layer(grid, time)
    features = model.adapter.norm(grid).reshape(1, -1)
    return video_out, model.action_head(actions[None], time, features)[0]


@torch.no_grad()
def test_a_plan_is_the_published_recipe_written_out(model):
    rng = np.random.default_rng(3)
    pixels = {view: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for view in VIEWS}
    obs = {"pixels": pixels, "agent_pos": np.zeros(8, np.float32), "task": "open the drawer"}
    video_noise = rng.standard_normal((10, 4, 4, 4)).astype(np.float32)
    action_noise = rng.standard_normal((8, 7)).astype(np.float32)
    agent = VideoPolicyAgent(model, "paper", CONFIG.tier("paper"))
    plan = agent.plan(obs, seed=0, video_noise=video_noise, action_noise=action_noise)

    latents = {}
    for view in VIEWS:
        image = torch.from_numpy(pixels[view]).permute(2, 0, 1)[None] / 127.5 - 1
        latents[view] = model.encode_frames(image)[0, :4]  # the mean; this VAE's scale is 1
    slots = ("gripper", *["gripper"] * 3, *["left"] * 3, *["right"] * 3)
    condition = torch.stack([latents[view] for view in slots])
    text = model.encode_text(["open the drawer"])

    high, low = 700 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [(high + i / 2 * (low - high)) ** 7 for i in range(3)] + [0.0]
    video = torch.from_numpy(video_noise) * sqrt(1 + 700**2)
    actions = torch.from_numpy(action_noise) * sqrt(1 + 700**2)
    for s, after in pairwise(sigmas):
        c_in = 1 / sqrt(s * s + 1)
        denoised = []
        for hidden in (0.0, 1.0):  # without and with text and images
            outputs = network(
                model, video * c_in, condition * hidden, text * hidden, actions * c_in, s
            )
            denoised.append(
                [
                    x / (s * s + 1) - s * c_in * output
                    for x, output in zip((video, actions), outputs, strict=True)
                ]
            )
        video_clean, actions_clean = (
            off + 2.0 * (on - off) for off, on in zip(*denoised, strict=True)
        )
        video = video + (video - video_clean) / s * (after - s)
        actions = actions + (actions - actions_clean) / s * (after - s)

    wanted = (actions.numpy() + 1) / 2 * (HIGH - LOW) + LOW
    np.testing.assert_allclose(plan.actions, wanted, atol=ATOL)
