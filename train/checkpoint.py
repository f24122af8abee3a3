"""Checkpoints: an agent folder with the averaged weights, and what an exact resume needs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vp_agent.card import model_card
from vp_agent.errors import VPAgentError
from vp_agent.files import atomic_dir, sha256, write_json
from vp_agent.folder import load_any_agent, weight_files, write_description, write_part
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.lora import merged_state
from vp_agent.train.shards import part_of, whole


class CheckpointError(VPAgentError, OSError):
    """A checkpoint that could not be written; the one before it is as it was."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of what the stage trains."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@contextmanager
def averaged(parameters: Iterable[nn.Parameter], ema: EMAModel | None) -> Iterator[None]:
    """Within the block the model has its averaged weights."""
    if ema is None:
        yield
        return
    parameters = list(parameters)
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)


def checkpoint_tensors(
    model: VideoPolicy,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
    *,
    keep: bool = True,
) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint holds, part by part of the agent and "trainer", whole and on the CPU.

    Of shards, all processes must ask together; those that do not `keep` it get nothing.
    """

    def gather(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        gathered = ((name, whole(tensor)) for name, tensor in state.items())
        return {name: tensor for name, tensor in gathered if keep}

    parameters = trainable(model)
    state: dict[str, Tensor] = {f"raw/{name}": p for name, p in parameters.items()}
    for name, p in parameters.items():
        for key, value in optimizer.state[p].items():
            state[f"{key}/{name}"] = value
    if ema is not None:  # of adapters, which the agent has only merged into its weights
        for shadow, name in zip(ema.shadow_params, parameters, strict=True):
            if ".lora_" in name:
                state[f"ema/{name}"] = shadow
    tensors = {"trainer": gather(state)}
    with averaged(parameters.values(), ema):
        for part in weight_files(model.config):
            tensors[part] = gather(merged_state(getattr(model, part)))
    return tensors


def save_checkpoint(
    folder: Path,
    step: int,
    model: VideoPolicy,
    tensors: Mapping[str, Mapping[str, Tensor]],
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Writes `checkpoint_tensors` as the checkpoint `folder`, whole or not at all.

    Raises:
        CheckpointError: the disk is full or may not be written.
    """
    about: dict[str, Any] = {"step": step, "scaler": scaler.state_dict() if scaler else None}
    try:
        with atomic_dir(folder, replaces="*") as tmp:  # of a run that went on before it
            agent = tmp / "agent"
            agent.mkdir()
            for part in weight_files(model.config):
                write_part(tensors[part], agent, part)
            note = {"Checkpoint": f"step {step} of the last stage"}
            write_description(model, agent, card=model_card(model.config, about=note))
            save_file(dict(tensors["trainer"]), tmp / "trainer.safetensors")
            about["sha256"] = sha256(tmp / "trainer.safetensors")
            write_json(tmp / "trainer.json", about)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written ({error}); the one before it is "
            "intact: free some space, or allow writing, and go on with --resume"
        ) from error


def load_checkpoint(
    folder: Path,
    model: VideoPolicy,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
    scaler: torch.amp.GradScaler | None = None,
) -> int:
    """Restores weights, optimiser and average bit for bit; returns the step."""
    state = load_file(folder / "trainer.safetensors")
    about = json.loads((folder / "trainer.json").read_text())
    parameters = trainable(model)
    average = dict(load_any_agent(folder / "agent").named_parameters()) if ema is not None else {}
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(part_of(state[f"raw/{name}"], p))
            if f"step/{name}" in state:  # else it never had a gradient (video_weight 0)
                optimizer.state[p] = {"step": state[f"step/{name}"]} | {
                    key: part_of(state[f"{key}/{name}"], p) for key in ("exp_avg", "exp_avg_sq")
                }
        if ema is not None:
            for shadow, name in zip(ema.shadow_params, parameters, strict=True):
                mean = state[f"ema/{name}"] if ".lora_" in name else average[name]
                shadow.copy_(part_of(mean, shadow))
            ema.optimization_step = about["step"]
    if scaler is not None and about.get("scaler"):
        scaler.load_state_dict(about["scaler"])
    return about["step"]
