"""Checkpoints: an agent folder with the averaged weights, and what an exact resume needs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vp_agent.card import model_card
from vp_agent.errors import VPAgentError
from vp_agent.files import atomic_dir, sha256, write_json
from vp_agent.folder import load_any_agent, weight_files, write_description, write_part
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.lora import merged_state
from vp_agent.train.shards import part_of, whole

STATE = "trainer.safetensors"
ABOUT = "about"  # its metadata: what trainer.json says, but the hash


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
    noted = {ABOUT: json.dumps(about, sort_keys=True)}  # so the weights' hash covers it as well
    try:
        with atomic_dir(folder, replaces="*") as tmp:  # of a run that went on before it
            agent = tmp / "agent"
            agent.mkdir()
            for part in weight_files(model.config):
                write_part(tensors[part], agent, part)
            note = {"Checkpoint": f"step {step} of the last stage"}
            write_description(model, agent, card=model_card(model.config, about=note))
            save_file(dict(tensors["trainer"]), tmp / STATE, metadata=noted)
            write_json(tmp / "trainer.json", {**about, "sha256": sha256(tmp / STATE)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written ({error}); the one before it is "
            "intact: free some space, or allow writing, and go on with --resume"
        ) from error


def altered(folder: Path, about: Mapping[str, Any]) -> str | None:
    """What was altered in a checkpoint's weights or trainer.json (`about`), by their hash."""
    if "sha256" in about and sha256(folder / STATE) != about["sha256"]:
        return f"{STATE} was altered (its sha256 is not the one in trainer.json)"
    try:
        with safe_open(folder / STATE, framework="pt") as file:
            noted = (file.metadata() or {}).get(ABOUT)
    except SafetensorError as error:
        return f"{STATE} cannot be read: {error}"
    if noted is not None:  # early versions covered the weights alone
        rest = {name: value for name, value in about.items() if name != "sha256"}
        if json.dumps(rest, sort_keys=True) != noted:
            return f"trainer.json was altered ({STATE} was saved with {noted})"
    return None


def doubtful(folder: Path, about: Mapping[str, Any]) -> str | None:
    """Why a checkpoint without damage must not be gone on from, and what to do; or None."""
    if "sha256" not in about:
        return (
            f"{folder}/trainer.json has no sha256, so nobody can tell whether {STATE} is whole; "
            "nothing was changed. If you trust it (a run of an early version), write into it "
            f'"sha256": the first word of sha256sum {folder}/{STATE}; else move {folder} away'
        )
    step = about.get("step")
    if type(step) is not int or folder.name != step_name(step):
        return (
            f"{folder} holds step {step!r}; nothing was changed: give the folder that step's name "
            "back (step-XXXXXXXX), or move it away"
        )
    return None


def step_name(step: int) -> str:
    """Name of a step's checkpoint in its run folder."""
    return f"step-{step:08d}"


def load_checkpoint(
    folder: Path,
    model: VideoPolicy,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
    scaler: torch.amp.GradScaler | None = None,
) -> int:
    """Restores weights, optimiser and average bit for bit; returns the step."""
    state = load_file(folder / STATE)
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
