"""Low-rank adapters on the video U-Net: what fits where its optimiser does not."""

import torch
from torch import Tensor, nn

from vp_agent.errors import need
from vp_agent.randomness import mix

# Every linear map of the transformers but the queries and keys of the one-token cross-attention,
# which have no effect (see vp_agent.model.shortcuts).
TARGETS = (
    r".*(attn1\.(to_q|to_k|to_v|to_out\.0)|attn2\.(to_v|to_out\.0)|ff(_in)?\.net\.(0\.proj|2))"
)


def add_lora(unet: nn.Module, *, rank: int, seed: int) -> None:
    """Puts adapters of `rank` into the U-Net's transformers and leaves gradients to them alone."""
    peft = need("peft", extra="lora")
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
    # Their first values come from torch's global generator: set it here only, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "lora"))
        peft.inject_adapter_in_model(config, unet)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(".lora_" in name)


@torch.no_grad()
def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """State of `module` with its adapters, if any, added into the weights they stand beside.

    `module` itself stays as it is: merging in place and back would round its weights.
    """
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in module.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in module.named_modules():
        if hasattr(layer, "lora_A") and hasattr(layer, "get_delta_weight"):
            weight = f"{name}.weight"
            state[weight] = state[weight] + layer.get_delta_weight("default")  # type: ignore[operator]
    return state
