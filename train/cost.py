"""What a training step costs, counted on the real network without running it.

The network is built on PyTorch's meta device, where tensors have shapes and no values: its forward
and backward pass then give the FLOPs of every operation and the bytes that are alive at once.
"""

# B batch (1 here), S slots, K action steps, A action dim, N action draws

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import need
from vp_agent.model.video_policy import VideoPolicy, blank_policy, parameter_count
from vp_agent.train.latent_cache import encode_in_blocks
from vp_agent.train.lora import TARGETS
from vp_agent.train.stages import PARTS

Stage = Literal["video", "action", "joint", "none"]
# torch.autocast's rules, https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
_IN_16_BITS = {
    F.linear,
    F.scaled_dot_product_attention,
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.matmul,
    torch.bmm,
}
_IN_32_BITS = {F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm, F.softmax}


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One sample of one training step; bytes are those of tensors alive at the worst moment."""

    parameters: int
    """On the device: U-Net, VAE, text tower and heads."""
    computed: int
    """Of the U-Net and the heads, which autocast keeps 16-bit copies of."""
    trained: int
    flops: float
    """Forward and backward, and what checkpointing computes twice. A multiply-add counts 2."""
    activation_bytes: int
    """Without weights, their 16-bit copies, gradients and the optimiser's state."""
    encode_flops: float
    """The VAE on every frame and condition image of the sample, which the cache saves."""
    encode_bytes: int
    """A block of images at a time, so hardly more for more samples."""


class _LiveBytes(TorchDispatchMode):
    """Follows every tensor that is made until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.paused = False
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in [] if self.paused else _storages(out):
            key = storage._cdata
            if key not in self._sizes and key not in given:  # views of weights are nothing new
                self._sizes[key] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, key)
        return out

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _storages(values: Any) -> list[Any]:
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]


class _Kernels(TorchFunctionMode):
    """What a GPU would do and the meta device does not: flash attention and, if asked, autocast."""

    def __init__(self, live: _LiveBytes, *, autocast: bool) -> None:
        super().__init__()
        self.live, self.autocast = live, autocast

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.autocast and (func in _IN_16_BITS or func in _IN_32_BITS):
            dtype = torch.bfloat16 if func in _IN_16_BITS else torch.float32
            args, kwargs = tree_map(lambda x: self._cast(x, dtype), (args, kwargs))
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        # Autocast keeps one copy of a weight; it does not grow with the batch.
        self.live.paused = isinstance(value, nn.Parameter)
        try:
            return value.to(dtype)
        finally:
            self.live.paused = False


def count_step(
    config: VideoPolicyConfig,
    stage: Stage,
    *,
    autocast: bool = True,
    checkpointing: bool = False,
    lora_rank: int | None = None,
    draws: int = 1,
) -> StepCost:
    """The cost of one sample in a stage.

    `autocast`: convolutions and matrix products in 16 bits, norms in 32, as with
    --mixed-precision. `lora_rank`: the U-Net's attention learns by low-rank updates only.
    `draws`: action noises that share a U-Net pass.
    """
    model = blank_policy(config).to("meta")  # diffusers makes a few buffers elsewhere
    model.requires_grad_(False).train()
    if lora_rank is not None and "unet" in PARTS[stage]:
        peft: Any = need("peft", extra="lora")
        lora = peft.LoraConfig(r=lora_rank, target_modules=TARGETS)
        peft.inject_adapter_in_model(lora, model.unet, low_cpu_mem_usage=True)
        for name, parameter in model.unet.named_parameters():
            parameter.requires_grad_("lora_" in name)
    else:
        model.unet.requires_grad_("unet" in PARTS[stage])
    for part in PARTS[stage]:
        if part != "unet":
            getattr(model, part).requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # gradients have a line of their own
        parameter.register_post_accumulate_grad_hook(_forget_gradient)
    flops, live = FlopCounterMode(display=False), _LiveBytes()
    kernels = _Kernels(live, autocast=autocast)
    if checkpointing:
        # what is computed again in the backward pass is computed by the same rules
        model.unet.enable_gradient_checkpointing(
            lambda block, *inputs: checkpoint(
                block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), kernels)
            )
        )
    with flops, live:
        with kernels:
            loss = _loss(model, stage, draws=draws)
        loss.backward()
    encode, encode_live = FlopCounterMode(display=False), _LiveBytes()
    images = len(config.views) * (config.frames_per_view + 1)  # and each view's condition image
    with encode, encode_live, _Kernels(encode_live, autocast=False):
        frames = torch.empty(images, 3, *config.resolution, device="meta", dtype=torch.float32)
        encode_in_blocks(model.encode_frames, frames)
    return StepCost(
        parameters=parameter_count(model),
        computed=sum(map(parameter_count, (model.unet, model.adapter, model.action_head))),
        trained=sum(parameter.numel() for parameter in trained),
        flops=flops.get_total_flops(),
        activation_bytes=live.peak,
        encode_flops=encode.get_total_flops(),
        encode_bytes=encode_live.peak,
    )


def _forget_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _loss(model: VideoPolicy, stage: Stage, *, draws: int) -> Tensor:
    config = model.config
    latents = torch.empty(1, config.slots, *config.latent_shape, device="meta", dtype=torch.float32)
    text = torch.empty(
        1, 1, config.text_encoder["projection_dim"], device="meta", dtype=torch.float32
    )
    actions = torch.empty(
        1, draws, config.horizon, config.action_dim, device="meta", dtype=torch.float32
    )
    outputs = model(
        latents,
        latents,
        text,
        torch.empty(1, device="meta", dtype=torch.float32),
        None if stage == "video" else actions,
        with_video=stage not in ("action", "none"),
    )
    losses = [output.square().mean() for output in outputs if output is not None]
    return torch.stack(losses).sum()
