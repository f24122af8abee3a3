"""Starting from Stable Video Diffusion: folders of its layout, made small."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from published import NARROW
from transformers import CLIPConfig, CLIPModel

from vp_agent.card import model_card
from vp_agent.checkpoints.svd import start_from_svd
from vp_agent.errors import AgentFolderError, ConfigError
from vp_agent.folder import load_agent, save_agent
from vp_agent.model.text import byte_tokenizer
from vp_agent.presets import PRESETS
from vp_agent.train.settings import TrainSettings

TEXT = {**NARROW.text_encoder, "vocab_size": 514, "num_hidden_layers": 1}
CONFIG = NARROW.replace(text_encoder=TEXT)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """(svd, text): saved by the libraries themselves, with their own numbers of frames."""
    root = tmp_path_factory.mktemp("hub")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNetSpatioTemporalConditionModel(num_frames=25, sample_size=96, **CONFIG.unet)
        vae = AutoencoderKLTemporalDecoder(**CONFIG.vae)
        vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
        vision |= {"num_attention_heads": 1, "image_size": 32, "patch_size": 16}
        # As in LAION's file, where the text part's own projection_dim is not the model's.
        text = {**TEXT, "projection_dim": 512, "bos_token_id": 512, "eos_token_id": 513}
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    for variant, name in ((None, "svd"), ("fp16", "svd-fp16")):
        half = (x.half() if variant else x for x in (unet, vae))
        for part, folder in zip(half, ("unet", "vae"), strict=True):
            part.save_pretrained(root / name / folder, variant=variant)
        (root / name / "model_index.json").write_text("{}")
        unet.float()
        vae.float()
    clip.save_pretrained(root / "clip")
    byte_tokenizer().save_pretrained(root / "clip")
    return root / "svd", root / "clip"


def start(svd, text, config=CONFIG):
    return start_from_svd(config, svd=str(svd), text=str(text), seed=0)


def test_unet_vae_and_text_tower_are_the_folders_and_the_heads_are_fresh(parts, capsys):
    svd, text = parts
    model = start(svd, text)
    assert "Stability AI" in capsys.readouterr().out
    for kind, part in (
        (UNetSpatioTemporalConditionModel, "unet"),
        (AutoencoderKLTemporalDecoder, "vae"),
    ):
        theirs = kind.from_pretrained(svd / part).state_dict()
        ours = model.get_submodule(part).state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), part
    clip = CLIPModel.from_pretrained(text)
    ids = torch.tensor(model.tokenizer(["lift"])["input_ids"])
    wanted: Any = clip.get_text_features(ids)
    wanted = getattr(wanted, "pooler_output", wanted)
    assert torch.allclose(model.encode_text(["lift"])[:, 0], wanted, atol=1e-5)
    again = start(svd, text).action_head.state_dict()
    assert all(torch.equal(again[k], v) for k, v in model.action_head.state_dict().items())
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_half_precision_files_are_read_where_there_are_no_others(parts):
    svd, text = parts
    half, whole = start(svd.with_name("svd-fp16"), text), start(svd, text)
    assert half.unet.dtype == torch.float32
    assert torch.equal(half.unet.conv_in.weight, whole.unet.conv_in.weight.half().float())


def test_the_licence_stays_in_the_card_of_every_later_agent(parts, tmp_path):
    model = start(*parts)
    save_agent(model, tmp_path / "agent", card="")
    config = load_agent(tmp_path / "agent").config
    card = model_card(config.replace(frame_stride=2))
    assert "license: other" in card
    assert "Stability AI" in card


def test_weights_of_another_configuration_are_named(parts):
    other = CONFIG.replace(unet={**CONFIG.unet, "addition_time_embed_dim": 64})
    with pytest.raises(AgentFolderError, match="addition_time_embed_dim is 32, expected 64"):
        start(*parts, config=other)
    other = CONFIG.replace(text_encoder={**TEXT, "hidden_size": 64})
    with pytest.raises(AgentFolderError, match="cannot be loaded"):
        start(*parts, config=other)


def test_a_missing_part_is_named(parts, tmp_path):
    svd, text = parts
    copy = shutil.copytree(svd, tmp_path / "svd")
    shutil.rmtree(copy / "vae")
    with pytest.raises(AgentFolderError, match="vae"):
        start(copy, text)
    with pytest.raises(AgentFolderError, match="cannot be loaded"):
        start(svd, tmp_path)


def test_offline_the_command_that_fetches_the_files_is_shown(parts, monkeypatch):
    def offline(name, **_):
        raise OSError("no network")

    monkeypatch.setattr("vp_agent.checkpoints.pretrained.snapshot_download", offline)
    with pytest.raises(AgentFolderError, match="hf download stabilityai/svd --local-dir"):
        start("stabilityai/svd", parts[1])


def test_preset_goes_with_init_only_for_svd(parts, tmp_path):
    common = {"stage": "video", "data": tmp_path, "out": tmp_path / "run"}
    assert TrainSettings(**common, init=parts[0], preset="svd-robocasa").from_svd
    assert TrainSettings(**common, init=Path("stabilityai/stable-video-diffusion")).from_svd
    with pytest.raises(ConfigError, match="either --preset"):
        TrainSettings(**common, init=tmp_path, preset="svd-robocasa")


@pytest.mark.slow
def test_the_video_stage_trains_from_it(parts, tmp_path, monkeypatch):
    pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")
    from toy_data import write_toy_dataset

    from vp_agent.train.trainer import train

    monkeypatch.setitem(PRESETS, "narrow", lambda: CONFIG)
    root = write_toy_dataset(tmp_path / "toy", views=CONFIG.views, episodes=2, steps=10)
    settings = TrainSettings(
        stage="video",
        data=root,
        init=parts[0],
        preset="narrow",
        text_encoder=str(parts[1]),
        out=tmp_path / "run",
        steps=1,
        batch_size=1,
        holdout=0.5,
        cache=False,
        device="cpu",
    )
    config = load_agent(train(settings) / "agent").config
    assert "Stability AI" in config.origin
    assert config.action_stats is None
