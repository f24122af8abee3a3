"""Weights of others, in the layout of transformers or diffusers: a folder, or from the Hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CLIPTextModelWithProjection
from transformers.utils import logging

from vp_agent.errors import AgentFolderError
from vp_agent.locate import split_revision

MODEL_FILES = ["config.json", "model.safetensors"]
TEXT_FILES = [*MODEL_FILES, "tokenizer*.json", "special_tokens_map.json"]
TEXT_FILES += ["vocab.json", "merges.txt"]


def get_folder(name: str, files: list[str]) -> Path:
    """The folder of this name, or `files` of the Hub's "owner/name" or "owner/name@revision"."""
    if Path(name).is_dir():
        return Path(name)
    try:
        repository, revision = split_revision(name)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=files))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AgentFolderError(
            f"{name!r} is no folder here and cannot be downloaded ({type(error).__name__}); accept "
            "its licence on the Hub if it asks for that, or run, where there is a network: "
            f"hf download {name} --local-dir DIR; then give DIR instead of the name"
        ) from error


def pretrained_text_tower(config: Any, folder: Path) -> CLIPTextModelWithProjection:
    """CLIP's text tower of this configuration, frozen; what else the folder has is left out."""
    return pretrained_part(CLIPTextModelWithProjection, folder, config=config).requires_grad_(False)


def pretrained_part(kind: Any, folder: Path, *, config: Any) -> Any:
    """The part `kind` (a class of transformers) of the model in `folder`, in float32.

    Raises:
        AgentFolderError: the folder's model has no such part.
        OSError, RuntimeError: of transformers, where files are missing or do not fit `config`.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list every tensor of the other parts
    try:
        part, found = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(found["missing_keys"])
    if missing:
        raise AgentFolderError(
            f"{folder} has no {kind.__name__} that fits: {', '.join(missing[:4])} missing"
        )
    return part
