"""Start a Diffusion Policy from pretrained image encoders and CLIP's text tower."""

import dataclasses

from transformers import CLIPTokenizer

from vp_agent.checkpoints.pretrained import (
    MODEL_FILES,
    TEXT_FILES,
    get_folder,
    pretrained_part,
    pretrained_text_tower,
)
from vp_agent.diffusion_policy_config import DiffusionPolicyConfig
from vp_agent.errors import AgentFolderError
from vp_agent.locate import hub_source
from vp_agent.model.diffusion_policy import DiffusionPolicy
from vp_agent.model.view_encoder import ViewEncoder
from vp_agent.torch_defaults import torch_defaults
from vp_agent.weights import load_strictly


@torch_defaults()
def start_from_encoder(
    config: DiffusionPolicyConfig, *, encoder: str, text: str
) -> DiffusionPolicy:
    """A policy whose image encoders all begin as `encoder`, and with a pretrained text tower.

    A ResNet keeps its batch norms with the statistics they have. Other weights are fresh, from
    torch's global generator.

    Args:
        config: its encoder and text tower must be those of the weights.
        encoder: folder with a ResNet or CLIP in transformers' layout (safetensors), or a Hub
            repository such as microsoft/resnet-18 or openai/clip-vit-base-patch16.
        text: folder with a CLIP model and its tokenizer, or a Hub repository.

    Raises:
        AgentFolderError: weights are missing, cannot be downloaded, or are of another shape.
    """
    folder, text_folder = get_folder(encoder, MODEL_FILES), get_folder(text, TEXT_FILES)
    sources = (hub_source(encoder, folder) or encoder, hub_source(text, text_folder) or text)
    origin = f"image encoders {sources[0]}, text tower {sources[1]}; licences of their authors"
    try:
        model = DiffusionPolicy(
            dataclasses.replace(config, norm="batch", origin=origin),
            tokenizer=CLIPTokenizer.from_pretrained(text_folder),
        )
        model.text_encoder = pretrained_text_tower(model.text_encoder.config, text_folder)
        for view in model.encoders:
            assert isinstance(view, ViewEncoder)
            blank = view.backbone
            loaded = pretrained_part(type(blank), folder, config=blank.config)
            load_strictly(blank, loaded.state_dict(), where=str(folder))
    except (OSError, RuntimeError) as error:  # what transformers raises on missing or odd files
        raise AgentFolderError(f"{encoder} or {text} cannot be loaded: {error}") from error
    return model
