"""The part of `vp-agent convert` that opens the foreign file, in a process of its own.

`python -m vp_agent.checkpoints.extract CKPT FOLDER` reads the configuration from standard input,
writes the weights of every part into FOLDER and prints one line of JSON.
"""

import dataclasses
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vp_agent.checkpoints.keys import part_and_key, reshape
from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import AgentFolderError, VPAgentError, require
from vp_agent.folder import weight_files, write_part
from vp_agent.model.video_policy import blank_policy
from vp_agent.weights import misfits, refuse

HEADS = ("adapter", "action_head")
# Folding quant_conv into the layer before it rounds at about 1e-7 in float32.
SAME_ENCODER = 1e-5

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What the file turned out to be.

    Attributes:
        heads: it has an adapter and an action head (stage 2, joint), not the video model alone.
        condition_encoder: its two image encoders differ, so both are kept.
        encoder_difference: largest difference of their weights, as a share of the largest weight.
        unused: tensors that are known and not needed.
    """

    heads: bool
    condition_encoder: bool
    encoder_difference: float
    unused: int


def extract(checkpoint: Path, config: VideoPolicyConfig, folder: Path) -> Extracted:
    """Writes each part's weights into `folder`, once every tensor is accounted for.

    Raises:
        AgentFolderError: the file cannot be read, or lacks, adds or misshapes a tensor.
        ConfigError: the configuration has action statistics, the file no action head.
    """
    parts, unused = sort_tensors(read_state(checkpoint), config, where=checkpoint)
    heads = any(parts[part] for part in HEADS)
    require(
        heads or config.action_stats is None,
        f"{checkpoint} has no action head (stage 1), so --action-stats has nothing to act with; "
        "vp-agent train --stage action finds the statistics in its dataset",
    )
    vae, condition = parts["vae"], parts["condition_vae"]
    # The published target VAE has no quant_conv, diffusers' class always has one.
    channels = 2 * config.latent_shape[0]
    vae.setdefault(
        "quant_conv.weight",
        torch.eye(channels, dtype=torch.float32, device="cpu")[:, :, None, None],
    )
    vae.setdefault("quant_conv.bias", torch.zeros(channels, dtype=torch.float32, device="cpu"))

    blank = blank_policy(config.replace(condition_encoder=True))
    wanted = [part for part in weight_files(blank.config) if heads or part not in HEADS]
    problems = [
        f"{part}: {problem}"
        for part in wanted
        for problem in misfits(blank.get_submodule(part).state_dict(), parts[part])
    ]
    refuse(problems, where=str(checkpoint))

    difference = encoder_difference(vae, condition)
    if difference <= SAME_ENCODER:
        wanted.remove("condition_vae")
    for part in wanted:
        write_part(parts[part], folder, part)
    return Extracted(
        heads=heads,
        condition_encoder="condition_vae" in wanted,
        encoder_difference=difference,
        unused=unused,
    )


def read_state(checkpoint: Path) -> State:
    """The `state_dict` of a Lightning checkpoint, as tensors mapped from the file."""
    if not zipfile.is_zipfile(checkpoint):
        raise AgentFolderError(
            f"{checkpoint} is no PyTorch zip file: cut short, or of another format; expected a "
            "released .ckpt"
        )
    try:
        # trusted: weights only, and this process has nothing else to lose
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # an unpickler on foreign bytes raises anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else error)
        raise AgentFolderError(
            f"{checkpoint} cannot be read as weights only, and nothing in it was run: {cause}"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise AgentFolderError(
            f"{checkpoint} has no `state_dict`; expected a released stage-1, stage-2 or joint .ckpt"
        )
    return state


def sort_tensors(
    state: State, config: VideoPolicyConfig, *, where: Path
) -> tuple[dict[str, State], int]:
    """The tensors by part under our names, and how many are known and not needed."""
    parts: dict[str, State] = {part: {} for part in weight_files(config)} | {"condition_vae": {}}
    problems, unused = [], 0
    for name, tensor in state.items():
        try:
            place = part_and_key(name, adapter=config.adapter)
        except AgentFolderError:
            problems.append(f"{name} is unexpected")
            continue
        if place is None:
            unused += 1
            continue
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            problems.append(f"{name} is no tensor of floating-point numbers")
            continue
        part, key = place
        try:
            parts[part].update(reshape(key, tensor))
        except (IndexError, RuntimeError, ValueError):  # too few dimensions to take apart
            problems.append(f"{name} has shape {tuple(tensor.shape)}, which does not fit its name")
    refuse(problems, where=str(where))
    return parts, unused


def encoder_difference(vae: State, condition: State) -> float:
    """Largest difference of the two encoders' weights, the condition's quant_conv folded in."""
    mix = condition["quant_conv.weight"].double()[:, :, 0, 0]
    weight, bias = (condition[f"encoder.conv_out.{name}"].double() for name in ("weight", "bias"))
    folded = condition | {
        "encoder.conv_out.weight": torch.einsum("om,mchw->ochw", mix, weight),
        "encoder.conv_out.bias": mix @ bias + condition["quant_conv.bias"].double(),
    }
    return max(
        ((folded[key] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-12)).item()
        for key, tensor in vae.items()
        if key.startswith("encoder.")
    )


def main() -> int:
    """One line of JSON on standard output: the fields of `Extracted`, or {"error": words}."""
    checkpoint, folder = map(Path, sys.argv[1:])
    config = VideoPolicyConfig.from_dict(json.load(sys.stdin))
    try:
        answer = dataclasses.asdict(extract(checkpoint, config, folder))
    except VPAgentError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
