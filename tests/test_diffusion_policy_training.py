"""The baselines through the one trainer: same data, checkpoints, resume; pretrained starts."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small import SMALL, SMALL_BASELINE, small_baseline
from toy_data import write_toy_dataset
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.checkpoints.vision import start_from_encoder
from vp_agent.errors import AgentFolderError, ConfigError
from vp_agent.folder import load_any_agent, save_agent
from vp_agent.model.text import byte_tokenizer, save_tokenizer
from vp_agent.train.batches import Batch, Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.noise_losses import noise_losses
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import train


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    folder = tmp_path_factory.mktemp("base")
    fresh = SMALL_BASELINE.replace(action_stats=None)
    save_agent(small_baseline(fresh), folder / "start", card="")
    return TrainSettings(
        policy="dp-resnet",
        data=write_toy_dataset(folder / "toy", size=32, steps=14),
        init=folder / "start",
        out=folder / "unused",
        steps=4,
        batch_size=2,
        lr=1e-3,
        head_lr=1e-3,
        holdout=0.34,
        save_every=2,
        eval_every=4,
        log_every=1,
        threads=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def batches(base) -> Batches:
    return Batches(small_baseline(), Demonstrations(base.data, SMALL_BASELINE), base)


def load(batches: Batches, *ids: int) -> Batch:
    return batches.load(np.array(ids), generator=torch.Generator().manual_seed(0))


def loss(model, batch: Batch, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return noise_losses(model, batch, generator=generator, **options).total


def test_a_batch_holds_the_current_images_and_the_next_actions(batches):
    batch, data = load(batches, 15, 3), batches.data
    assert batch.images_BVCHW.shape == (2, 2, 3, 32, 32)
    pixels = Demonstrations(data.parts[0].root, SMALL).pixels(np.array([15]))
    assert torch.equal(batch.images_BVCHW[0], pixels[0, :, 0] / 127.5 - 1)
    assert torch.equal(batch.chunk.actions_BKA[0], torch.from_numpy(data.actions_NA[15:23]))
    assert not batches.caches


def test_actions_past_the_end_and_actions_without_labels_do_not_count(batches):
    model, batch = small_baseline(), load(batches, 11, 0)  # the first has three real actions
    changed = batch.chunk.actions_BKA.clone()
    changed[0, 3:] += 0.1
    moved = replace(batch, chunk=replace(batch.chunk, actions_BKA=changed))
    # The noisy padding is seen by the network, so only what is asked of it may not change: the
    # loss of the second sample and of the rows before.
    hidden = replace(batch, has_actions_B=torch.tensor([False, True]))
    assert torch.equal(
        loss(model, hidden),
        loss(model, replace(moved, has_actions_B=torch.tensor([False, True]))),
    )
    assert not torch.equal(loss(model, batch), loss(model, batch, mask_padding=False))
    none = replace(batch, has_actions_B=torch.tensor([False, False]))
    assert loss(model, none).item() == 0


def test_the_images_are_cut_elsewhere_only_where_asked(batches):
    model, batch = small_baseline(), load(batches, 0, 20)
    assert torch.equal(loss(model, batch), loss(model, batch))
    assert not torch.equal(loss(model, batch), loss(model, batch, augment=True))
    whole = small_baseline(SMALL_BASELINE.replace(crop=1.0))
    torch.testing.assert_close(loss(whole, batch).isfinite(), torch.tensor(True))


def test_a_resumed_training_ends_with_the_same_bits(base, tmp_path):
    whole = train(replace(base, out=tmp_path / "whole"))
    train(replace(base, out=tmp_path / "parts", steps=4, save_every=2))
    for step in (3, 4):  # as a kill after step 2 leaves it
        folder = tmp_path / "parts" / f"step-{step:08d}"
        if folder.exists():
            folder.rename(tmp_path / f"gone-{step}")
    (tmp_path / "parts" / "latest").write_text("step-00000002")
    again = train(replace(base, out=tmp_path / "parts", resume=True))
    for file in ("trainer.safetensors", "agent/encoders/model.safetensors"):
        a, b = (load_file(folder / file) for folder in (whole, again))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert {"holdout_action", "action_mae"} <= lines[-1].keys()
    assert "video" not in lines[0]
    config = load_any_agent(whole / "agent").config
    assert config.training == ("policy, 4 steps of 2 on toy",)
    assert config.action_stats is not None


def test_everything_but_the_text_tower_learns(base, tmp_path):
    before = load_any_agent(base.init)
    after = load_any_agent(train(replace(base, out=tmp_path / "run")) / "agent")
    learnt = after.state_dict()
    frozen = {name for name, x in before.state_dict().items() if torch.equal(x, learnt[name])}
    assert {name.split(".")[0] for name in frozen} == {"text_encoder"}


def test_it_learns_one_batch_by_heart(batches):
    model, batch = small_baseline().train(), load(batches, 0, 14, 28, 42)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(80):
        total = noise_losses(model, batch, generator=generator, draws=8).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A ResNet, a CLIP model and a text tower's folder, as the Hub has them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    ResNetForImageClassification(ResNetConfig(**SMALL_BASELINE.vision)).save_pretrained(
        folder / "resnet"
    )
    clip = CLIPConfig(
        text_config={**SMALL.text_encoder, "max_position_embeddings": 77},
        vision_config={**CLIP_VISION, "image_size": 32},
        projection_dim=SMALL.text_encoder["projection_dim"],
    )
    CLIPModel(clip).save_pretrained(folder / "clip")
    save_tokenizer(byte_tokenizer(), folder / "clip")
    return folder


CLIP_VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
}


def test_every_view_starts_from_the_pretrained_resnet(weights):
    model = start_from_encoder(
        SMALL_BASELINE, encoder=str(weights / "resnet"), text=str(weights / "clip")
    )
    theirs = load_file(weights / "resnet" / "model.safetensors")
    name = "encoder.stages.1.layers.0.layer.0.convolution.weight"
    for view in model.encoders:
        assert torch.equal(view.get_parameter(f"backbone.{name}"), theirs[f"resnet.{name}"])
    assert model.config.norm == "batch"
    assert "image encoders" in model.config.origin
    text = load_file(weights / "clip" / "model.safetensors")["text_projection.weight"]
    assert torch.equal(model.text_encoder.text_projection.weight, text)


def test_clip_takes_the_image_tower_of_the_whole_model(weights):
    config = SMALL_BASELINE.replace(policy="dp-clip", vision=CLIP_VISION)
    model = start_from_encoder(config, encoder=str(weights / "clip"), text=str(weights / "clip"))
    theirs = load_file(weights / "clip" / "model.safetensors")
    wanted = theirs["vision_model.embeddings.patch_embedding.weight"]
    for view in model.encoders:
        assert any(torch.equal(x, wanted) for x in view.parameters() if x.shape == wanted.shape)


@pytest.mark.parametrize("name", ["clip", "nowhere/at-all"])
def test_weights_that_do_not_fit_are_refused(weights, name):
    path = weights / name
    with pytest.raises(AgentFolderError, match=r"cannot be loaded|missing|cannot be downloaded"):
        start_from_encoder(SMALL_BASELINE, encoder=str(path), text=str(weights / "clip"))


def test_another_kind_of_agent_is_no_start(base, tmp_path):
    with pytest.raises(ConfigError, match="is dp-resnet, --policy says dp-clip"):
        train(replace(base, policy="dp-clip", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
