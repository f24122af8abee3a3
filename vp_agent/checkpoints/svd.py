"""Start from Stable Video Diffusion: its U-Net and VAE, CLIP's text tower, fresh heads."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import AgentFolderError
from vp_agent.folder import load_strictly
from vp_agent.model.video_policy import VideoPolicy, blank_policy, init_heads

LICENCES = (
    "licences: Stable Video Diffusion has Stability AI's own (LICENSE.md of its repository, and it "
    "restricts commercial use), OpenCLIP ViT-H-14 has MIT"
)
WEIGHTS = "diffusion_pytorch_model"
SVD_FILES = ["model_index.json", "LICENSE*", *(f"{x}/config.json" for x in ("unet", "vae"))]
SVD_FILES += [f"{x}/{WEIGHTS}.safetensors" for x in ("unet", "vae")]
TEXT_FILES = ["config.json", "model.safetensors", "tokenizer*.json", "special_tokens_map.json"]
TEXT_FILES += ["vocab.json", "merges.txt"]
# Ours to choose: number and size of the frames, and how diffusers' own pipeline runs the parts.
FREE = {"num_frames", "sample_size", "force_upcast"}


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
    svd_folder, text_folder = _get(svd, SVD_FILES), _get(text, TEXT_FILES)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(text_folder)
        model = blank_policy(
            config.replace(origin=f"{svd}, text tower {text}; {LICENCES}"), tokenizer=tokenizer
        )
        _load(model.unet, UNetSpatioTemporalConditionModel, svd_folder / "unet")
        _load(model.vae, AutoencoderKLTemporalDecoder, svd_folder / "vae")
        model.text_encoder = _text_tower(model, text_folder)
    except (OSError, RuntimeError) as error:  # what both libraries raise on missing or odd files
        raise AgentFolderError(f"{svd} or {text} cannot be loaded: {error}") from error
    init_heads(model, seed=seed)
    return model


def _get(name: str, files: list[str]) -> Path:
    """The folder of this name, or a copy of the Hub repository's `files`."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AgentFolderError(
            f"{name!r} is no folder here and cannot be downloaded ({type(error).__name__}); accept "
            "its licence on the Hub if it asks for that, or run, where there is a network: "
            f"hf download {name} --local-dir DIR; then give DIR instead of the name"
        ) from error


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


def _text_tower(model: VideoPolicy, folder: Path) -> CLIPTextModelWithProjection:
    """CLIP's text tower; what else is in the folder's model (its image tower) is left out."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list every tensor of the image tower
    try:
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(
            folder,
            config=model.text_encoder.config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    tower, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:
        raise AgentFolderError(f"{folder} has no text tower: {', '.join(missing[:4])} missing")
    return tower.requires_grad_(False)
