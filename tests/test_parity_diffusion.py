"""Scalings, embeddings, schedules, the guided sampler and the loss agree with the published ones.

A toy network takes the U-Net's place; our `sample` and our loss code run as they are.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_formula import EPS, NORMAL, farthest, golden, tensor
from torch import Tensor

from vp_agent.config import NoiseConfig, TierConfig
from vp_agent.diffusion.precondition import c_in, c_noise, denoise, sample_sigma
from vp_agent.diffusion.sampler import Conditions, sample, schedule
from vp_agent.model.video_policy import make_unet, parameter_count
from vp_agent.presets import preset

GOLDEN = golden("edm.npz")
TIERS = {
    "cfg2": TierConfig(guidance=2.0),
    "cfg1to2.5": TierConfig(guidance=1.0, guidance_end=2.5),
}


class ToyNetwork:
    """Stands for `VideoPolicy`: every input moves every output; keeps what it was given."""

    def __init__(self, vector_B: Tensor) -> None:
        self.vector_B = vector_B  # the mean of each sample's vector conditioning
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, video, condition, text, noise, actions, **_options):
        self.seen.append((video, actions[:, 0]))
        vector = self.vector_B.repeat(len(video) // len(self.vector_B))
        offset = noise + text.mean((1, 2)) + 0.1 * vector
        v = torch.tanh(0.5 * video + 0.25 * condition + offset[:, None, None, None, None])
        offset = noise + v.mean((1, 2, 3, 4)) + 0.3 * noise
        return v, torch.tanh(0.7 * actions + offset[:, None, None, None])


def conditions(*strengths: float) -> tuple[Conditions, Tensor]:
    """One sample per strength, and the mean of its vector conditioning."""
    strength = torch.tensor(strengths)
    latents = tensor("toy.concat", (1, 25, 4, 4, 4), 4.0) * strength[:, None, None, None, None]
    text = tensor("toy.crossattn", (1, 1, 1024), 4.0) * strength[:, None, None]
    vector = tensor("toy.vector", (1, 768), 2.0).mean() * strength
    return Conditions(latents_BSChw=latents, text_B1D=text), vector


def run_toy(tier: TierConfig):
    given, vector = conditions(1.0)
    network = ToyNetwork(vector)
    result = sample(
        network,  # pyright: ignore[reportArgumentType]
        given,
        tier=tier,
        video_noise_BSChw=tensor("toy.video_noise", (1, 25, 4, 4, 4), NORMAL),
        action_noise_BKA=tensor("toy.pose_noise", (1, 32, 7), NORMAL),
    )
    return result, network


def test_the_scalings_agree():
    sigma = torch.from_numpy(GOLDEN["scal_sigma"])
    one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
    c_skip, c_out = denoise(zero, one, sigma), denoise(one, zero, sigma)
    ours = {
        "c_skip": c_skip,
        "c_out": c_out,
        "c_in": c_in(sigma),
        "c_noise": c_noise(sigma),
        "loss_weight": c_out**-2,  # so the weighted x0 error is the plain one of v
    }
    for name, values in ours.items():
        # the longest, the weight, takes 9 operations here and 4 there: 6.5 * EPS
        np.testing.assert_allclose(values, GOLDEN[f"scal_{name}"], rtol=7 * EPS, err_msg=name)


def sinusoid_rounding(values: np.ndarray, width: int) -> np.ndarray:
    """What float32 may move cos and sin of x f by, where f = exp(-e), e = log(10,000) i / half.

    An argument's error reaches the result at most whole. The argument's is two roundings of e,
    one of exp (whose last digit may be off: it counts twice) and one of the product; cos and sin
    add theirs in the same way.
    """
    e = np.log(10_000) * np.arange(width // 2) / (width // 2)
    bound = EPS * (2 + np.abs(values)[:, None] * np.exp(-e) * (2 * e + 3))
    return np.concatenate([bound, bound], axis=1)


def test_the_published_unet_has_its_size_and_its_sinusoids():
    with torch.device("meta"):
        unet = make_unet(preset("svd-robocasa").unet)
    assert parameter_count(unet) == 1_524_623_082
    told = preset("svd-robocasa").conditioning
    ids = torch.tensor([told.fps_id, told.motion_bucket_id, told.image_noise])
    for project, values, name in (
        (unet.time_proj, torch.from_numpy(GOLDEN["scal_c_noise"]), "320_of_c_noise"),
        (unet.add_time_proj, ids, "256_of_6_100_0.02"),
    ):
        ours, wanted = project(values).numpy(), GOLDEN[f"timestep_embedding_{name}"]
        assert ours.shape == wanted.shape
        off = np.abs(ours.astype(np.float64) - wanted)
        assert (off <= sinusoid_rounding(values.numpy(), wanted.shape[1])).all(), off.max()


@pytest.mark.parametrize("steps", [5, 10, 30])
def test_the_schedules_agree(steps):
    ours, wanted = schedule(TierConfig(steps=steps)).numpy(), GOLDEN[f"sigmas_{steps}"]
    # base ** 7, where base comes from high = 700 ** (1 / 7) by two operations of high's size and
    # one of its own: seven times their share of it, and the power's last digit
    base = np.maximum(wanted, 0.002).astype(np.float64) ** (1 / 7)
    bound = EPS * wanted * (7 * (2 * 700 ** (1 / 7) / base + 1) + 2)
    assert ours.shape == wanted.shape
    assert (np.abs(ours.astype(np.float64) - wanted) <= bound).all()


def test_training_noise_levels_agree(monkeypatch):
    z, wanted = torch.from_numpy(GOLDEN["sigma_train_of_z"])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: z)
    config = NoiseConfig()
    ours = sample_sigma(config, len(z), generator=torch.Generator())
    # exp(mean + std z): the exponent's two roundings, and the last digit of exp
    exponent = (config.mean + config.std * z).abs() + config.std * z.abs()
    bound = EPS * wanted * (exponent + 2)
    assert ((ours.double() - wanted).abs() <= bound).all()


@pytest.mark.parametrize("guidance", TIERS)
def test_one_guided_euler_step_agrees(guidance):
    tenth, eleventh = (float(x) for x in GOLDEN["sigmas_30"][10:12])
    tier = replace(TIERS[guidance], steps=2, sigma_max=tenth, sigma_min=eleventh)
    _, network = run_toy(tier)
    for which, sigma in enumerate((tenth, eleventh)):
        name = ("x_in", "x_out")[which]
        for stream, x in zip(("video", "pose"), network.seen[which], strict=True):
            ours = x[0] / c_in(torch.tensor(sigma))  # the first of the two guidance halves
            wanted = GOLDEN[f"step10_{guidance}_{name}_{stream}"]
            # In units of the largest: start noise and the scaling there and back are 3 roundings,
            # the step and the toy's output, guided by at most 2.5 (2 * 2.5 - 1 = 4), 4 more.
            atol = 7 * EPS * float(np.abs(wanted).max())
            np.testing.assert_allclose(ours, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("guidance", TIERS)
def test_thirty_guided_steps_agree(guidance):
    result, network = run_toy(TIERS[guidance])
    assert len(network.seen) == 30
    # The first steps have numbers of 700, of which one rounding is 700 * EPS = 8e-5. Every step
    # shrinks it with sigma, so far less is left: 7e-7 is what three vector units gave.
    assert result.video_BSChw is not None
    assert farthest(result.video_BSChw[0], GOLDEN[f"full30_{guidance}_video"]) <= 1e-4
    assert farthest(result.actions_BKA[0], GOLDEN[f"full30_{guidance}_pose"]) <= 1e-4


def test_the_loss_rows_agree():
    losses = pytest.importorskip("vp_agent.train.losses", reason="training needs [lerobot]")
    given, vector = conditions(1.0, 0.5)
    video, actions = losses.stream_errors(
        ToyNetwork(vector),
        video_BSChw=tensor("toy.loss.video", (2, 25, 4, 4, 4), 3.0),
        video_noise_BSChw=tensor("toy.loss.video_noise", (2, 25, 4, 4, 4), NORMAL),
        condition_BSChw=given.latents_BSChw,
        text_B1D=given.text_B1D,
        sigma_B=torch.tensor([0.3, 12.0]),
        actions_BKA=tensor("toy.loss.pose", (2, 32, 7), 2.0),
        action_noise_BNKA=tensor("toy.loss.pose_noise", (2, 1, 32, 7), NORMAL),
    )
    # Rows of at most 2.2: (v - wanted)^2 of about ten operations each, wanted divided by sigma
    # 0.3, and a mean: 20 roundings of 2.2 are 5e-6. The totals are means of these.
    assert farthest(video.mean((2, 3, 4)).flatten(), GOLDEN["loss_rows_video"]) <= 1e-5
    assert farthest(actions.mean(3).flatten(), GOLDEN["loss_rows_pose"]) <= 1e-5
    everything = torch.ones(2, 25, dtype=torch.bool), torch.ones(2, 32, dtype=torch.bool)
    video_mean = losses.masked_mean(video, everything[0])
    action_mean = losses.masked_mean(actions[:, 0], everything[1])
    total = (25 * video_mean + 32 * action_mean) / 57
    assert video_mean.item() == pytest.approx(GOLDEN["loss_video_only"].item(), abs=1e-5)
    assert total.item() == pytest.approx(GOLDEN["loss_total"].item(), abs=1e-5)
