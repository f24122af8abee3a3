"""Video U-Net, VAE, text tower and tokens agree with the published ones, at tiny size.

The bars are about twice the published numbers' own float32 rounding, which our networks tell in
float64 (`golden_formula.agrees`): 5.2e-6 of the U-Net's output, 2.7e-5 of its taps, 2.1e-6 and
4.3e-6 of the VAE's, 1.8e-6 of the text tower's.
"""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from golden_formula import agrees, golden, manifest, tensor, weights
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

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        torch.nn.Module.to(unet, dtype)
        with torch.no_grad(), collect_taps(unet, [tap.module for tap in taps_config]) as taps:
            output = unet(
                tensor("in.video", (10, 8, 16, 24), 2.0).unflatten(0, (2, 5)).to(dtype),
                c_noise.to(dtype),
                encoder_hidden_states=tensor("in.context", (2, 1, 64), 4.0).to(dtype),
                added_time_ids=torch.tensor([[6, 100, 0.02]] * 2),
            ).sample.flatten(0, 1)
        return [output, *taps]

    names = ("output", *(f"tap_{index}" for index in (22, 19, 16, 13, 9)))  # shallow to deep
    for name, ours, exact in zip(names, run(torch.float32), run(torch.float64), strict=True):
        # the taps' standard deviation is 4.5, the output's 0.5
        agrees(ours, exact, wanted[name], bar=1e-5 if name == "output" else 5e-5)


@pytest.fixture
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
    images = tensor("in.vae.image", (5, 3, 64, 48), 2.0)
    ours, exact = encode(vae, images, patch=1), encode(vae.double(), images.double(), patch=1)
    agrees(ours, exact, golden("vae_tiny.npz")["encoder_moments"], bar=2e-5)


@torch.no_grad()
def test_the_vae_decodes_the_same_clip(vae):
    latents = tensor("in.vae.z", (5, 4, 8, 6), 4.0)
    ours = decode(vae, latents, num_frames=5, patch=1)
    exact = decode(vae.double(), latents.double(), num_frames=5, patch=1)
    agrees(ours, exact, golden("vae_tiny.npz")["decoder_out"], bar=2e-5)


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
    tokens = torch.from_numpy(wanted["tokens"])
    ours = tower(input_ids=tokens).text_embeds
    agrees(ours, tower.double()(input_ids=tokens).text_embeds, wanted["text_embeds"], bar=2e-6)


def test_instructions_become_the_same_tokens():
    open_clip = pytest.importorskip("open_clip")
    tokenizer = clip_tokenizer(open_clip.tokenizer.default_bpe())
    wanted = golden("clip_tokens.npz")
    ours = tokenize(tokenizer, wanted["prompts"].tolist())
    assert ours.tolist() == wanted["tokens"].tolist()
