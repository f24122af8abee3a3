"""What a training may do besides the default: accumulation, adapters, noise levels, trackers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small import SMALL, small_model
from trainers import toy_settings

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import ConfigError
from vp_agent.folder import load_agent, read_config
from vp_agent.locate import find_agent
from vp_agent.train.batches import Batch, Batches
from vp_agent.train.checkpoint import trainable
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.losses import Losses, policy_losses
from vp_agent.train.meter import Meter
from vp_agent.train.settings import TrainSettings
from vp_agent.train.stages import StageModel, choose_trainable
from vp_agent.train.trainer import train


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    return toy_settings(tmp_path_factory.mktemp("base"), small_model(), stage="joint", lr=1e-3)


@pytest.fixture(scope="module")
def batch(base) -> Batch:
    data = Demonstrations(base.data, SMALL)
    batches = Batches(small_model(), data, base)
    return batches.load(np.array([0, 20, 40]), generator=torch.Generator().manual_seed(0))


def gradients(settings: TrainSettings, batch: Batch) -> dict[str, torch.Tensor]:
    model = small_model()
    choose_trainable(model, settings)
    generator = torch.Generator().manual_seed(0)
    StageModel(model, settings)(batch, generator).total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "changes",
    [{}, {"dropout_per_slot": True, "condition_dropout": 0.5}, {"video_weight": 0.0}],
    ids=["joint", "hidden in single slots", "without the last layers"],
)
def test_gradient_checkpointing_gives_the_same_gradients(base, batch, changes):
    settings = replace(base, **changes)
    wanted = gradients(settings, batch)
    ours = gradients(replace(settings, gradient_checkpointing=True), batch)
    assert wanted.keys() == ours.keys()
    assert all(torch.equal(wanted[name], ours[name]) for name in wanted)


def test_accumulated_passes_draw_other_samples_and_make_one_step(base, tmp_path):
    last = train(replace(base, out=tmp_path / "run", accumulation=3))
    assert json.loads((last / "trainer.json").read_text())["step"] == 2
    single = train(replace(base, out=tmp_path / "single"))
    assert (last / "trainer.safetensors").read_bytes() != (
        single / "trainer.safetensors"
    ).read_bytes()
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if "grad_norm" in line] == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [{"accumulation": 2}, {"lora_rank": 2}, {"mixed_precision": "bf16"}, {"video_weight": 0.0}],
)
def test_a_resumed_run_ends_with_the_same_bits(base, tmp_path, changes, request):
    if "lora_rank" in changes:
        pytest.importorskip("peft")
    # A process has one precision; the next test may have another.
    request.addfinalizer(AcceleratorState._reset_state)
    AcceleratorState._reset_state()
    settings = replace(base, out=tmp_path / "run", keep=2, **changes)
    whole = train(settings)
    wanted = (whole / "trainer.safetensors").read_bytes()
    manifest = (whole / "agent/manifest.json").read_bytes()
    (whole / "trainer.json").unlink()  # no longer whole: the run goes on from step 1
    assert train(replace(settings, resume=True)) == whole
    assert (whole / "trainer.safetensors").read_bytes() == wanted
    assert (whole / "agent/manifest.json").read_bytes() == manifest


def test_the_scale_of_latents_is_found_without_held_out_episodes_and_kept_by_a_resume(
    base, tmp_path
):
    settings = replace(base, stage="vae", out=tmp_path / "run", keep=3, steps=3, eval_every=1)
    train(settings)
    steps = [settings.out / f"step-{step:08d}" for step in (1, 2, 3)]
    start, first, *_ = (
        read_config(find_agent(folder)).vae["scaling_factor"] for folder in (settings.init, *steps)
    )
    assert first != start
    for folder in steps[1:]:  # the run goes on from step 1, and looks at nothing in step 2
        (folder / "trainer.json").unlink()
    train(replace(settings, resume=True, eval_every=99))
    assert read_config(find_agent(steps[1])).vae["scaling_factor"] == first


def test_adapters_are_merged_into_the_agent_and_the_rest_stays(base, tmp_path):
    pytest.importorskip("peft")
    settings = replace(base, stage="video", out=tmp_path / "run", lora_rank=2, ema_decay=0)
    last = train(settings)
    before, after = load_agent(settings.init), load_agent(last / "agent")
    changed = {
        name
        for name, tensor in before.state_dict().items()
        if not torch.equal(tensor, after.state_dict()[name])
    }
    assert changed
    assert all(".attn" in name or ".ff" in name for name in changed)
    # The merged agent computes what the adapters did.
    choose_trainable(before, settings)
    state = load_file(last / "trainer.safetensors")
    with torch.no_grad():
        for name, p in trainable(before).items():
            p.copy_(state[f"raw/{name}"])
        x = torch.randn(1, 7, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        text, level = torch.zeros(1, 1, 32), torch.zeros(1)
        ours, wanted = (m(x, x, text, level)[0] for m in (after, before))
    assert torch.allclose(ours, wanted, atol=1e-5)  # (W + BA) x against W x + B (A x)


def test_adapters_are_for_stages_that_train_the_unet(base):
    with pytest.raises(ConfigError, match="video, joint"):
        replace(base, stage="action", lora_rank=4)


@torch.no_grad()
def test_the_actions_may_have_a_noise_level_of_their_own(batch):
    model = small_model()

    def losses(**options):
        generator = torch.Generator().manual_seed(0)
        return policy_losses(model, batch, generator=generator, with_actions=True, **options)

    one, two = losses(), losses(independent_sigmas=True)
    assert torch.equal(one.sigma_video_B, one.sigma_action_B)
    assert torch.equal(one.sigma_video_B, two.sigma_video_B)
    assert torch.equal(one.video, two.video)
    assert not torch.equal(two.sigma_video_B, two.sigma_action_B)
    assert not torch.equal(one.action, two.action)


@torch.no_grad()
def test_the_heads_own_noise_level_that_is_the_videos_changes_nothing():
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 4, 4, 4, generator=generator)
    actions = torch.randn(2, 1, 8, 7, generator=generator)
    text, level = torch.zeros(2, 1, 32), torch.tensor([0.1, -0.3])
    one = model(x, x, text, level, actions)[1]
    same = model(x, x, text, level, actions, c_noise_action_B=level)[1]
    other = model(x, x, text, level, actions, c_noise_action_B=level + 0.2)[1]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_losses_are_logged_by_noise_level():
    nan, accelerator = float("nan"), Accelerator(cpu=True)
    meter = Meter()
    for scale in (1.0, 3.0):
        meter.add(
            Losses(
                total=torch.tensor(scale),
                video=torch.tensor(scale),
                video_B=scale * torch.tensor([1.0, 2.0, nan]),
                sigma_video_B=torch.tensor([0.1, 30.0, 30.0]),
            )
        )
    assert meter.means(accelerator) == {
        "loss": 2,
        "video": 2,
        "video_sigma<0.5": 2,
        "video_sigma>8": 4,
    }
    assert meter.means(accelerator) == {}


def test_the_losses_of_the_levels_add_up_to_the_streams(base, tmp_path):
    train(replace(base, out=tmp_path / "run", steps=1, batch_size=4, mask_padding=False))
    record = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    for stream in ("video", "action"):
        levels = [value for key, value in record.items() if key.startswith(f"{stream}_sigma")]
        # Sums of float32 in another order.
        assert min(levels) - 1e-6 <= record[stream] <= max(levels) + 1e-6


def test_tensorboard_gets_the_numbers_of_the_metrics(base, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(base, out=tmp_path / "run", log_with="tensorboard"))
    record = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    events = EventAccumulator(str(next(tmp_path.rglob("events.out*")).parent)).Reload()
    assert events.Scalars("loss")[0].value == pytest.approx(record["loss"])
