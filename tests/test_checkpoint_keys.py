"""The published checkpoints' names: every one has its place, and nothing else passes."""

import pytest
import torch
from golden_formula import manifest

from vp_agent.checkpoints.keys import convert, part_and_key, reshape
from vp_agent.errors import AgentFolderError
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.presets import preset

LAYOUT = manifest("checkpoint_layout.json")


def test_every_known_name_goes_to_its_known_place():
    prefixes = {"unet": "unet.", "vae": "vae.", "condition_vae": "cond_vae.", "text_encoder": ""}
    for name, (_, known) in LAYOUT.items():
        place = part_and_key(name)
        if known is not None:  # "x.{q,k,v}_proj.weight (split in 3 along dim 0)"
            assert place is not None
            wanted = known.split(" ")[0].replace("{q,k,v}", "{}")
            assert prefixes[place[0]] + place[1] == wanted


def test_the_published_checkpoint_fills_the_published_network():
    with torch.device("meta"):
        parts = convert({name: torch.empty(shape) for name, (shape, _) in LAYOUT.items()})
        model = VideoPolicy(preset("svd-robocasa"))

    def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in state.items()}

    for part in ("unet", "text_encoder", "adapter", "action_head"):
        assert shapes(parts[part]) == shapes(getattr(model, part).state_dict())
    whole = shapes(model.vae.state_dict())
    assert whole.keys() - parts["vae"].keys() == {"quant_conv.weight", "quant_conv.bias"}
    encoder = {name for name in whole if name.startswith(("encoder.", "quant_conv."))}
    assert parts["condition_vae"].keys() == encoder
    for part in ("vae", "condition_vae"):
        assert all(whole[name] == shape for name, shape in shapes(parts[part]).items())


def test_what_the_network_does_not_need_is_known():
    assert part_and_key("conditioner.embedders.0.open_clip.model.logit_scale") is None
    assert part_and_key("conditioner.embedders.3.encoder.decoder.conv_in.weight") is None
    assert part_and_key("conditioner.embedders.3.encoder.post_quant_conv.bias") is None


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.state",
        "model.diffusion_model.input_blocks",
        "model.diffusion_model.vision_encoder.layer1_1.0.conv9x",
        "model.diffusion_model.pose_pred_net.side_modules.0.weight",
        "first_stage_model.loss.weight",
    ],
)
def test_an_unknown_name_is_refused(name):
    with pytest.raises(AgentFolderError, match="no tensor of a published"):
        part_and_key(name)


def test_a_fused_projection_becomes_query_key_and_value():
    prefix = "conditioner.embedders.0.open_clip.model.transformer.resblocks.7.attn."
    place = part_and_key(prefix + "in_proj_bias")
    assert place is not None
    assert place == ("text_encoder", "text_model.encoder.layers.7.self_attn.{}_proj.bias")
    parts = reshape(place[1], torch.arange(6))
    layer = "text_model.encoder.layers.7.self_attn."
    assert {name: part.tolist() for name, part in parts.items()} == {
        layer + "q_proj.bias": [0, 1],
        layer + "k_proj.bias": [2, 3],
        layer + "v_proj.bias": [4, 5],
    }


def test_adapter_layers_are_counted_by_the_configuration():
    prefix = "model.diffusion_model.vision_encoder."
    tiny = preset("tiny-lift").adapter  # three taps, no view layers
    assert part_and_key(prefix + "layer4.0.conv1.0.weight", adapter=tiny) == (
        "adapter",
        "fused.0.blocks.0.conv1.weight",
    )
    assert part_and_key(prefix + "layer4_3.0.conv1.0.weight") == (
        "adapter",
        "views.2.trunks.3.blocks.0.conv1.weight",
    )
