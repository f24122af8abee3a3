"""Shards (FSDP2): every process keeps its part of each weight and borrows the whole to use it."""

import os
from collections.abc import Mapping

from accelerate import Accelerator
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vp_agent.errors import require
from vp_agent.model.action_unet import ResidualBlock
from vp_agent.model.adapter import Bottleneck
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.settings import TrainSettings

# What is whole at one time; at full size at most 100 M parameters.
BLOCKS = (
    TransformerSpatioTemporalModel,
    SpatioTemporalResBlock,
    Downsample2D,
    Upsample2D,
    Bottleneck,
    ResidualBlock,
)


def asks_for_shards(environ: os._Environ[str] | Mapping[str, str], settings: TrainSettings) -> bool:
    """Whether `accelerate launch --use_fsdp --fsdp_version 2` started this process.

    Raises:
        ConfigError: the launch asks for a sharding that is not done here.
    """

    def says(name: str, value: str) -> bool:
        return environ.get(name, "").lower() == value

    use = "accelerate launch --use_fsdp --fsdp_version 2"
    require(not says("ACCELERATE_USE_DEEPSPEED", "true"), f"DeepSpeed is not supported; use {use}")
    if not says("ACCELERATE_USE_FSDP", "true"):
        return False
    require(
        says("FSDP_VERSION", "2"),
        f"FSDP of version {environ.get('FSDP_VERSION', 1)} is not supported; use {use}",
    )
    require(
        not says("FSDP_OFFLOAD_PARAMS", "true"),
        "shards stay on their GPU; give --fsdp_offload_params false",
    )
    require(
        not says("FSDP_RESHARD_AFTER_FORWARD", "false"),
        "blocks are given back after the forward pass; give --fsdp_reshard_after_forward true",
    )
    require(
        not says("FSDP_ACTIVATION_CHECKPOINTING", "true"),
        "give --fsdp_activation_checkpointing false, and vp-agent train --gradient-checkpointing",
    )
    require(
        settings.stage in ("video", "action", "joint", "none"),
        f"stage {settings.stage} trains a small model, which is not sharded; use accelerate launch "
        "--multi_gpu",
    )
    require(
        settings.mixed_precision != "fp16",
        "the scaler of fp16 does not know shards; use --mixed-precision bf16",
    )
    return True


def shard(policy: VideoPolicy, accelerator: Accelerator) -> None:
    """Leaves each process its part of the U-Net and the heads; VAE and text tower stay whole."""
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # They work outside of the policy's forward pass, which is where weights are borrowed.
    parts = (policy.unet, policy.adapter, policy.action_head)
    kept = set(policy.parameters()) - {p for part in parts for p in part.parameters()}
    blocks = [module for part in parts for module in part.modules() if isinstance(module, BLOCKS)]
    for module in (*blocks, policy):
        # After the pass of an evaluation, too: no backward pass would give the weights back.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=kept)


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU, put together if it is sharded; then all processes must ask for it."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().to("cpu", copy=True)


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process keeps of a whole tensor, sharded as `like` is and where it is."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    # No source: every process has read the same file.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
