"""The network's parts: canvas, taps, adapter, action head, scalings, sampler."""

from dataclasses import replace

import pytest
import torch
from small import SMALL, small_model

from vp_agent.config import ActionStats, NoiseConfig, TierConfig, VideoPolicyConfig
from vp_agent.diffusion.precondition import c_in, denoise, sample_sigma, velocity
from vp_agent.diffusion.sampler import Conditions, sample, schedule
from vp_agent.errors import ConfigError, UnknownNameError
from vp_agent.folder import scheduler
from vp_agent.model import canvas
from vp_agent.model.action_unet import ActionUNet
from vp_agent.model.adapter import Adapter, output_width
from vp_agent.model.taps import collect_taps
from vp_agent.model.video_policy import VideoPolicy, parameter_count
from vp_agent.presets import preset


def test_canvas_puts_a_pad_frame_before_each_views_frames_in_order():
    frames = torch.arange(6.0).reshape(1, 2, 3, 1, 1, 1)  # two views, three frames
    slots = canvas.compose(frames)
    assert slots.flatten().tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert torch.equal(canvas.split(slots, views=2), frames)


def test_condition_repeats_each_views_current_frame_in_its_slots():
    current = torch.tensor([7.0, 8.0]).reshape(1, 2, 1, 1, 1)
    assert canvas.compose_condition(current, frames=2).flatten().tolist() == [7, 7, 7, 8, 8]


def test_slot_mask_leaves_out_frames_past_the_end_in_every_view():
    mask = canvas.slot_mask(torch.tensor([[False, True]]), views=2)
    assert mask.tolist() == [[True, True, False, True, False]]


def test_the_published_adapter_and_action_unet_have_the_published_sizes():
    config = preset("svd-robocasa")
    with torch.device("meta"):
        adapter = Adapter(config.adapter, views=3, time_width=1280)
        width = output_width(config.adapter, frames=8, latent_hw=(32, 32))
        head = ActionUNet(config.action_head, action_dim=7, condition_width=width, time_width=1280)
    assert parameter_count(adapter) == 205_812_616
    assert width == 6720
    assert parameter_count(head) == 161_359_111


def test_output_width_is_what_the_adapter_gives():
    model = small_model()
    taps = [
        torch.randn(1, 2, tap.channels, 3, 4 // tap.factor, 4 // tap.factor)
        for tap in SMALL.adapter.taps
    ]
    out = model.adapter(taps, torch.randn(1, 128))
    assert out.flatten(1).shape[1] == output_width(SMALL.adapter, frames=3, latent_hw=(4, 4))


def test_taps_are_the_named_modules_outputs_and_leave_no_hook_behind():
    model = small_model()
    args = torch.randn(1, 7, 8, 4, 4), torch.zeros(1)
    extra = {"encoder_hidden_states": torch.randn(1, 1, 32), "added_time_ids": torch.zeros(1, 3)}
    with collect_taps(model.unet, ["up_blocks.0.resnets.1", "conv_in"]) as taps:
        model.unet(*args, **extra)
    assert [tap.shape[1:] for tap in taps] == [(32, 2, 2), (32, 4, 4)]
    assert not any(module._forward_hooks for module in model.unet.modules())


def test_denoising_the_true_velocity_gives_the_clean_signal():
    clean, noise, sigma = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0.02, 0.5, 3.0, 80.0])
    s = sigma[:, None]
    restored = denoise(velocity(clean, noise, s), clean + s * noise, s)
    assert torch.allclose(restored, clean, atol=2e-5)  # 80 * float32's rounding


def test_noisy_input_has_unit_variance_at_every_level():
    for sigma in torch.tensor([0.02, 1.0, 80.0]):
        noisy = (torch.randn(100_000) + sigma * torch.randn(100_000)) * c_in(sigma)
        assert abs(noisy.std().item() - 1) < 0.02


def test_training_sigmas_are_log_normal():
    generator = torch.Generator().manual_seed(0)
    logs = sample_sigma(NoiseConfig(mean=1.0, std=1.6), 50_000, generator=generator).log()
    assert abs(logs.mean().item() - 1.0) < 0.03
    assert abs(logs.std().item() - 1.6) < 0.03


# diffusers' own: its scheduler gives NumPy a tensor
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_schedule_is_the_one_the_folder_gives_to_diffusers():
    # Diffusers takes the seventh power in float64 and rounds once; ours has half
    # the bound of test_parity_diffusion.py, whose smallest level is the worst: 6.2e-6 of it.
    for tier in (TierConfig(), SMALL.tier("guided")):
        euler, ours = scheduler(tier), schedule(tier)
        euler.set_timesteps(tier.steps)
        assert torch.allclose(euler.sigmas, ours, rtol=7e-6)
        assert torch.allclose(torch.as_tensor(euler.init_noise_sigma), (ours[0] ** 2 + 1).sqrt())


def test_guidance_one_is_the_conditional_prediction_and_two_is_not():
    model = small_model()
    conditions = Conditions(
        latents_BSChw=torch.randn(1, 7, 4, 4, 4), text_B1D=torch.randn(1, 1, 32)
    )
    noise = torch.randn(1, 7, 4, 4, 4), torch.randn(1, 8, 7)

    def run(guidance: float) -> torch.Tensor:
        tier = replace(SMALL.tier("fast"), guidance=guidance)
        return sample(
            model,
            conditions,
            tier=tier,
            video_noise_BSChw=noise[0],
            action_noise_BKA=noise[1],
        ).actions_BKA

    # 1.0 takes the short way without the unconditional batch; 1 + 1e-6 takes the long one.
    # The 1e-6 moves the result by as much of it, another batch by ROUNDING of test_savings.py in
    # each of two steps; the bar is five times that.
    assert torch.allclose(run(1.0), run(1.000001), atol=1e-4)
    assert not torch.allclose(run(1.0), run(2.0), atol=1e-3)


def test_the_action_gradient_reaches_the_unet_unless_stopped():
    for stop in (False, True):
        model = small_model().train()
        inputs = torch.randn(1, 7, 4, 4, 4), torch.randn(1, 7, 4, 4, 4), torch.randn(1, 1, 32)
        _, actions = model(
            *inputs, torch.zeros(1), torch.randn(1, 1, 8, 7), stop_action_gradient=stop
        )
        actions.sum().backward()
        reached = any(p.grad is not None and p.grad.any() for p in model.unet.parameters())
        assert reached != stop
        assert model.adapter.norm.weight.grad is not None


def test_action_draws_that_share_a_video_equal_separate_passes():
    model = small_model()
    video, condition, text = (
        torch.randn(2, 7, 4, 4, 4),
        torch.randn(2, 7, 4, 4, 4),
        torch.randn(2, 1, 32),
    )
    actions = torch.randn(2, 3, 8, 7)
    with torch.no_grad():
        together = model(video, condition, text, torch.zeros(2), actions)[1]
        alone = [
            model(video, condition, text, torch.zeros(2), actions[:, [n]])[1] for n in range(3)
        ]
    assert torch.allclose(together, torch.cat(alone, 1), atol=1e-5)  # other batch, other rounding


def test_the_tiny_agent_fits_in_25_megabytes():
    assert parameter_count(VideoPolicy(preset("tiny-lift"))) * 4 <= 25e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"execute": 99}, "execute must be in 1..horizon"),
        ({"resolution": (30, 32)}, "multiples of"),
        ({"horizon": 7, "execute": 4}, "horizon must be a multiple"),
        ({"views": ("left", "left")}, "views repeat"),
        ({"default_tier": "no"}, "default_tier"),
        ({"action_stats": ActionStats(min=(0.0,), max=(1.0,))}, "action_dim"),
    ],
)
def test_a_config_that_cannot_work_says_why(change, words):
    with pytest.raises(ConfigError, match=words):
        SMALL.replace(**change)


def test_statistics_with_no_range_or_nan_are_refused():
    for bad in ((1.0,), (float("nan"),)):
        with pytest.raises(ConfigError, match="dimension 0"):
            ActionStats(min=(1.0,), max=bad)


def test_an_unknown_field_is_named():
    values = SMALL.to_dict() | {"framse": 3}
    with pytest.raises(ConfigError, match="framse"):
        VideoPolicyConfig.from_dict(values)


def test_an_unknown_preset_or_tier_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'tiny-lift'"):
        preset("tiny-lfit")
    with pytest.raises(UnknownNameError, match="did you mean 'guided'"):
        SMALL.tier("guide")
