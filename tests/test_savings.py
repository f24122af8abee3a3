"""Every saving gives the numbers of the plain way; where they differ the tolerance is stated."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from small import SMALL, small_model, small_observation
from torch import nn

from vp_agent.agent import VideoPolicyAgent
from vp_agent.bench import random_policy
from vp_agent.folder import save_agent
from vp_agent.model.compile import compile_model
from vp_agent.model.shortcuts import OneTokenAttention, TemporalConv, one_text
from vp_agent.presets import preset

# Another order of float32 sums: outputs of up to 2 after some forty layers in a row, each of
# which is off by a rounding of its numbers, 40 * 2 * 2**-23. Seen are 5e-6, on three vector units.
ROUNDING = 1e-5


def agent(*, tier: str = "fast") -> VideoPolicyAgent:
    return VideoPolicyAgent(small_model(), tier, SMALL.tier(tier))


def inputs(batch: int = 2) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    shapes = (batch, 7, 4, 4, 4), (batch, 7, 4, 4, 4), (batch, 1, 32), (batch,), (batch, 1, 8, 7)
    return tuple(torch.randn(shape, generator=g) for shape in shapes)


def calls_of(model: nn.Module, *names: str) -> Counter[str]:
    """Counts the forward passes of submodules from here on."""
    count: Counter[str] = Counter()
    for name in names:
        module = model.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: count.update([name]))
    return count


@torch.no_grad()
def test_one_token_attention_equals_attention():
    model, args = small_model(), inputs()
    short = model(*args)
    assert any(isinstance(p, OneTokenAttention) for p in model.unet.attn_processors.values())
    model.unet.set_attn_processor(AttnProcessor2_0())  # type: ignore[arg-type]
    plain = model(*args)
    for a, b in zip(short, plain, strict=True):
        assert torch.allclose(a, b, atol=ROUNDING)


@torch.no_grad()
def test_more_tokens_go_through_real_attention():
    model, (video, condition, *_) = small_model(), inputs()
    args = torch.cat([video, condition], dim=2), torch.zeros(2)
    extra = {"encoder_hidden_states": torch.randn(2, 3, 32), "added_time_ids": torch.zeros(2, 3)}
    short = model.unet(*args, **extra).sample
    model.unet.set_attn_processor(AttnProcessor2_0())  # type: ignore[arg-type]
    assert torch.equal(short, model.unet(*args, **extra).sample)


@torch.no_grad()
def test_within_a_plan_the_text_goes_through_each_attention_once():
    model, args = small_model(), inputs()
    name = next(n for n, _ in model.unet.named_modules() if n.endswith("attn2.to_v"))
    count = calls_of(model.unet, name)
    alone = model(*args)
    with one_text(model.unet):
        kept = [model(*args), model(*args)]
    assert count[name] == 2
    assert all(torch.equal(alone[0], each[0]) for each in kept)
    model.unet.get_submodule(name).get_parameter(
        "weight"
    ).zero_()  # and outside of it nothing is kept
    assert not torch.equal(model(*args)[0], alone[0])


@torch.no_grad()
def test_temporal_convolutions_equal_conv3d():
    conv = nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0))
    x = torch.randn(2, 6, 7, 3, 4)
    plain = conv(x)
    conv.__class__ = TemporalConv
    assert torch.allclose(conv(x), plain, atol=ROUNDING)
    assert any(isinstance(m, TemporalConv) for m in small_model().unet.modules())


def test_actions_are_the_same_bits_with_and_without_the_video():
    pilot, obs = agent(tier="guided"), small_observation()
    with_video, without = (pilot.plan(obs, seed=3, video=video) for video in (True, False))
    assert np.array_equal(with_video.actions, without.actions)


def test_without_the_video_no_decoder_and_no_last_layers_on_the_last_step():
    pilot, obs = agent(), small_observation()
    count = calls_of(pilot.model, "vae.decoder", "unet.conv_out", "action_head")
    pilot.plan(obs, seed=0)
    assert count == {"action_head": 2, "unet.conv_out": 1}
    pilot.plan(obs, seed=0, video=True)
    assert count == {"action_head": 4, "unet.conv_out": 3, "vae.decoder": 1}


def test_text_and_images_are_encoded_once_also_with_guidance():
    pilot, obs = agent(tier="guided"), small_observation()
    count = calls_of(pilot.model, "vae.encoder", "text_encoder", "unet")
    for seed in range(2):
        pilot.plan(obs, seed=seed)
    # Three steps; the unconditional half rides in the same batch and its zeros need no encoder.
    assert count == {"vae.encoder": 2, "text_encoder": 1, "unet": 6}


@torch.no_grad()
def test_a_batch_of_both_guidance_halves_equals_two_passes():
    model, args = small_model(), inputs(2)
    together = model(*args)
    halves = [model(*(x[[i]] for x in args)) for i in range(2)]
    for i, whole in enumerate(together):
        assert torch.allclose(whole, torch.cat([half[i] for half in halves]), atol=ROUNDING)


@torch.no_grad()
def test_compiled_blocks_give_the_same_numbers():
    model, args = small_model(), inputs()
    plain = model(*args)
    compile_model(model, backend="eager")  # traced and cut as on a GPU; no C++ compiler needed
    for a, b in zip(model(*args), plain, strict=True):
        assert torch.allclose(a, b, atol=ROUNDING)


def test_bfloat16_keeps_the_vae_in_float32_and_stays_near_the_plan(tmp_path, bfloat16):
    save_agent(small_model(), tmp_path / "agent", card="")
    obs = small_observation()
    plans = {}
    for dtype in ("float32", "bfloat16"):
        pilot = VideoPolicyAgent.from_pretrained(tmp_path / "agent", dtype=dtype)
        plans[dtype] = pilot.plan(obs, seed=0)
        assert pilot.model.vae.dtype == torch.float32
        assert pilot.model.unet.dtype == getattr(torch, dtype)
        assert plans[dtype].actions.dtype == np.float32
    # A rounding is 2**-9 of numbers of about 1. Over 40 layers in a row of each of 2 steps they add
    # up like a random walk, sqrt(80) * 2**-9 = 0.018; the largest of 56 has three times that, and
    # the bar is twice it.
    assert np.abs(plans["bfloat16"].actions - plans["float32"].actions).max() < 0.1


_LOAD = """
import json, sys
from vp_agent.agent import VideoPolicyAgent
from vp_agent.bench import peak_memory_bytes
from vp_agent.model.video_policy import parameter_count
VideoPolicyAgent.from_pretrained(sys.argv[1])  # what the libraries take on first use
before = peak_memory_bytes(cuda=False)
agent = VideoPolicyAgent.from_pretrained(sys.argv[2])
peak = peak_memory_bytes(cuda=False) - before
print(json.dumps({"weights": 4 * parameter_count(agent.model), "peak": peak}))
"""


@pytest.mark.slow
def test_loading_holds_the_weights_once(tmp_path):
    wide = preset("tiny-lift")
    wide = wide.replace(
        unet={**wide.unet, "block_out_channels": [256, 512, 512], "num_attention_heads": [4, 8, 8]},
        adapter=replace(
            wide.adapter,
            taps=tuple(
                replace(tap, channels=channels)
                for tap, channels in zip(wide.adapter.taps, (256, 512, 512), strict=True)
            ),
        ),
    )
    save_agent(small_model(), tmp_path / "small", card="")
    save_agent(random_policy(wide), tmp_path / "wide", card="")
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(tmp_path / "small"), str(tmp_path / "wide")],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["weights"] > 4e8  # or the interpreter's own memory would blur the ratio
    assert measured["peak"] <= 1.2 * measured["weights"]
