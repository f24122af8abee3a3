"""The published ways of training that are not the default."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import small_model

from vp_agent.errors import ConfigError
from vp_agent.train.batches import Batch
from vp_agent.train.dataset import Chunk
from vp_agent.train.dropout import draw_keep, hidden_text
from vp_agent.train.losses import Losses, policy_losses
from vp_agent.train.settings import TrainSettings
from vp_agent.train.windows import frame_steps


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """One window whose last frame and last six actions lie past the episode's end."""
    generator = torch.Generator().manual_seed(1)
    moments = torch.randn(1, 2, 3, 8, 4, 4, generator=generator)
    return Batch(
        chunk=Chunk(
            actions_BKA=torch.rand(1, 8, 7, generator=generator),
            action_is_pad_BK=torch.tensor([[False] * 2 + [True] * 6]),
            frame_is_pad_BT=torch.tensor([[False, False, True]]),
            task_B=torch.zeros(1, dtype=torch.long),
        ),
        text_B1D=torch.randn(1, 1, 32, generator=generator),
        has_actions_B=torch.ones(1, dtype=torch.bool),
        moments_BVTChw=moments,
        condition_BVChw=moments[:, :, 0],
    )


@torch.no_grad()
def losses(model, batch: Batch, **options) -> Losses:
    generator = torch.Generator().manual_seed(0)
    return policy_losses(model, batch, generator=generator, with_actions=True, **options)


@torch.no_grad()
def test_text_is_hidden_in_single_slots(model):
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, 7, 8, 4, 4, generator=generator)
    text = torch.randn(1, 1, 32, generator=generator)

    def run(text, keep):
        with hidden_text(model.unet, keep):
            ids = torch.tensor([[6.0, 100.0, 0.0]])
            return model.unet(video, torch.zeros(1), text, added_time_ids=ids).sample

    everywhere = torch.ones(1, 7)
    some = everywhere.clone()
    some[0, 4] = 0
    assert torch.equal(run(text, 0 * everywhere), run(0 * text, everywhere))
    assert not torch.allclose(run(text, some), run(text, everywhere))
    assert not any(module._forward_pre_hooks for module in model.unet.modules())


def test_conditions_are_hidden_by_sample_or_by_slot():
    for per_slot in (False, True):
        generator = torch.Generator().manual_seed(0)
        text, images = draw_keep(200, 25, rate=0.3, per_slot=per_slot, generator=generator)
        for keep_BS in (text, images):
            assert abs(keep_BS.mean().item() - 0.7) < 0.1
            assert bool((keep_BS == keep_BS[:, :1]).all()) != per_slot
        assert not torch.equal(text, images)


def test_at_a_rate_of_one_no_slot_sees_its_conditions(model, batch):
    blind = replace(batch, text_B1D=0 * batch.text_B1D, condition_BVChw=0 * batch.condition_BVChw)
    for rate, same in ((1.0, True), (0.5, False)):
        a, b = (losses(model, x, dropout=rate, dropout_per_slot=True).video for x in (batch, blind))
        assert torch.allclose(a, b) == same


def test_padding_counts_if_it_is_not_masked(model, batch):
    nothing_is_padding = replace(
        batch.chunk,
        action_is_pad_BK=torch.zeros(1, 8, dtype=torch.bool),
        frame_is_pad_BT=torch.zeros(1, 3, dtype=torch.bool),
    )
    wanted = losses(model, replace(batch, chunk=nothing_is_padding))
    ours = losses(model, batch, mask_padding=False)
    assert (ours.video, ours.action) == (wanted.video, wanted.action)
    assert losses(model, batch).video != wanted.video


def test_sampled_latents_spread_by_the_posteriors_deviation(model):
    moments = torch.cat([torch.full((1, 4, 4, 4), 0.5), torch.full((1, 4, 4, 4), -2.0)], dim=1)
    noise = torch.randn(1, 4, 4, 4)
    wanted = 0.5 + torch.tensor(-1.0).exp() * noise
    assert torch.allclose(model.target_latents(moments, noise=noise), wanted)
    assert torch.equal(model.target_latents(moments), torch.full((1, 4, 4, 4), 0.5))


def test_a_stride_of_zero_repeats_the_current_frame_and_pads_nothing():
    start, last = torch.tensor([3, 9]).numpy(), torch.tensor([9, 9]).numpy()
    steps, is_pad = frame_steps(start, last, frames=4, stride=0)
    assert steps.tolist() == [[3] * 4, [9] * 4]
    assert not is_pad.any()


def test_views_and_resolution_replace_the_presets(tmp_path):
    from vp_agent.train.stages import start_model

    settings = TrainSettings(
        stage="video",
        data=tmp_path,
        out=tmp_path,
        preset="tiny-lift",
        views=("left",),
        resolution=(64, 96),
    )
    config = start_model(settings).config
    assert (config.views, config.resolution) == (("left",), (64, 96))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_draws": 0}, "--action-draws must be >= 1"),
        ({"lora_rank": -1}, "--lora-rank must be >= 0"),
        ({"ema_decay": 1.5}, r"--ema-decay must be in \[0, 1\)"),
        ({"lr": float("nan")}, "--lr must be > 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused_by_their_flag(changes, words):
    with pytest.raises(ConfigError, match=words):
        TrainSettings(data=Path("none"), out=Path("none"), preset="tiny-lift", **changes)
