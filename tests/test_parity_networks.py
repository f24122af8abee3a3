"""Video U-Net, VAE, text tower and tokens agree with the published ones, at tiny size."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from golden_formula import farthest, golden, manifest, tensor, weights
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from vp_agent.checkpoints.keys import convert, reshape, unet_key
from vp_agent.model.taps import collect_taps
from vp_agent.model.text import clip_tokenizer, tokenize
from vp_agent.model.video_policy import decode, encode, make_unet
from vp_agent.presets import preset


def test_the_video_unet_and_its_five_taps_agree():
    wanted = golden("video_unet_tiny.npz")
    shapes = manifest("video_unet_tiny_manifest.json")["params"]
    unet = make_unet(
        {
            "block_out_channels": (32, 64, 128, 128),
            "cross_attention_dim": 64,
            "num_attention_heads": (1, 2, 4, 4),
        }
    )
    state: dict[str, torch.Tensor] = {}
    for name, value in weights(shapes).items():
        state |= reshape(unet_key(name) or name, value)
    unet.load_state_dict(state)
    taps_config = preset("svd-robocasa").adapter.taps
    c_noise = torch.tensor([0.7, 35.0]).log() / 4
    with torch.no_grad(), collect_taps(unet, [tap.module for tap in taps_config]) as taps:
        output = unet(
            tensor("in.video", (10, 8, 16, 24), 2.0).unflatten(0, (2, 5)),
            c_noise,
            encoder_hidden_states=tensor("in.context", (2, 1, 64), 4.0),
            added_time_ids=torch.tensor([[6, 100, 0.02]] * 2),
        ).sample.flatten(0, 1)
    assert farthest(output, wanted["output"]) <= 1e-5
    for tap, index in zip(taps, (22, 19, 16, 13, 9), strict=True):  # shallow to deep
        assert farthest(tap, wanted[f"tap_{index}"]) <= 5e-5  # their std is 4.5


@pytest.fixture(scope="module")
def vae():
    shapes = manifest("vae_tiny_manifest.json")
    state = {
        f"first_stage_model.{part}.{name}": shape
        for part in ("encoder", "decoder")
        for name, shape in shapes[part].items()
    }
    config = {**preset("svd-robocasa").vae, "block_out_channels": [32, 64, 128, 128]}
    vae = AutoencoderKLTemporalDecoder(**config)
    parts = convert(weights(state))["vae"]
    parts["quant_conv.weight"] = torch.eye(8)[:, :, None, None]
    parts["quant_conv.bias"] = torch.zeros(8)
    vae.load_state_dict(parts)
    return vae


@torch.no_grad()
def test_the_vae_encodes_the_same_moments(vae):
    moments = encode(vae, tensor("in.vae.image", (5, 3, 64, 48), 2.0), patch=1)
    assert farthest(moments, golden("vae_tiny.npz")["encoder_moments"]) <= 2e-5


@torch.no_grad()
def test_the_vae_decodes_the_same_clip(vae):
    frames = decode(vae, tensor("in.vae.z", (5, 4, 8, 6), 4.0), num_frames=5, patch=1)
    assert farthest(frames, golden("vae_tiny.npz")["decoder_out"]) <= 2e-5


@torch.no_grad()
def test_the_text_tower_gives_the_same_pooled_projected_token():
    wanted = golden("text_tower_tiny.npz")
    prefix = "conditioner.embedders.0.open_clip.model."
    shapes = manifest("text_tower_tiny_manifest.json")
    state = weights({prefix + name: shape for name, shape in shapes.items()})
    tower = CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            hidden_act="gelu",
            projection_dim=48,
            eos_token_id=49407,
        )
    ).eval()
    tower.load_state_dict(convert(state)["text_encoder"])
    ours = tower(input_ids=torch.from_numpy(wanted["tokens"])).text_embeds
    assert farthest(ours, wanted["text_embeds"]) <= 2e-6


def test_instructions_become_the_same_tokens():
    open_clip = pytest.importorskip("open_clip")
    tokenizer = clip_tokenizer(open_clip.tokenizer.default_bpe())
    wanted = golden("clip_tokens.npz")
    ours = tokenize(tokenizer, wanted["prompts"].tolist())
    assert ours.tolist() == wanted["tokens"].tolist()
