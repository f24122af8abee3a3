"""Start from Stable Video Diffusion: its U-Net and VAE, CLIP's text tower, fresh heads."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from transformers import CLIPTokenizer

from vp_agent.checkpoints.pretrained import TEXT_FILES, get_folder, pretrained_text_tower
from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import AgentFolderError
from vp_agent.locate import hub_source
from vp_agent.model.video_policy import VideoPolicy, blank_policy, init_heads
from vp_agent.torch_defaults import torch_defaults
from vp_agent.weights import load_strictly

LICENCES = (
    "licences: Stable Video Diffusion has Stability AI's own (LICENSE.md of its repository, and it "
    "restricts commercial use), OpenCLIP ViT-H-14 has MIT"
)
WEIGHTS = "diffusion_pytorch_model"
SVD_FILES = ["model_index.json", "LICENSE*", *(f"{x}/config.json" for x in ("unet", "vae"))]
SVD_FILES += [f"{x}/{WEIGHTS}.safetensors" for x in ("unet", "vae")]
# Ours to choose: number and size of the frames, and how diffusers' own pipeline runs the parts.
FREE = {"num_frames", "sample_size", "force_upcast"}


@torch_defaults()
def start_from_svd(config: VideoPolicyConfig, *, svd: str, text: str, seed: int) -> VideoPolicy:
    """A policy of this configuration with the weights of Stable Video Diffusion.

    Args:
        config: its U-Net, VAE and text tower must be those of the weights.
        svd: folder in diffusers' layout, or a Hub repository.
        text: folder with a CLIP model and its tokenizer, or a Hub repository.
        seed: of the adapter's and the action head's weights.

    Raises:
        AgentFolderError: weights are missing, cannot be downloaded, or are of another shape.
    """
    print(f"starting from {svd} and {text}; {LICENCES}")
    svd_folder, text_folder = get_folder(svd, SVD_FILES), get_folder(text, TEXT_FILES)
    sources = (hub_source(svd, svd_folder) or svd, hub_source(text, text_folder) or text)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(text_folder)
        origin = f"{sources[0]}, text tower {sources[1]}; {LICENCES}"
        model = blank_policy(config.replace(origin=origin), tokenizer=tokenizer)
        _load(model.unet, UNetSpatioTemporalConditionModel, svd_folder / "unet")
        _load(model.vae, AutoencoderKLTemporalDecoder, svd_folder / "vae")
        model.text_encoder = pretrained_text_tower(model.text_encoder.config, text_folder)
    except (OSError, RuntimeError) as error:  # what both libraries raise on missing or odd files
        raise AgentFolderError(f"{svd} or {text} cannot be loaded: {error}") from error
    init_heads(model, seed=seed)
    return model


def _load(blank: Any, kind: Any, folder: Path) -> None:
    """Gives a blank part the weights of `folder`, of which it must have the configuration."""
    halves = folder / f"{WEIGHTS}.fp16.safetensors"
    whole = folder / f"{WEIGHTS}.safetensors"
    pretrained = kind.from_pretrained(
        folder,
        variant="fp16" if halves.is_file() and not whole.is_file() else None,
        torch_dtype=torch.float32,
        use_safetensors=True,
    )
    theirs, ours = _settings(pretrained), _settings(blank)
    differences = [
        f"{key} is {theirs.get(key)}, expected {ours.get(key)}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key)
    ]
    if differences:
        raise AgentFolderError(f"{folder} does not fit the preset: {'; '.join(differences)}")
    load_strictly(blank, pretrained.state_dict(), where=str(folder), assign=True)


def _settings(part: Any) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in part.config.items()
        if key not in FREE and not key.startswith("_")
    }
