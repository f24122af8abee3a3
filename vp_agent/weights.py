"""Weights of an agent folder: safetensors read with their names, shapes and values checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vp_agent.errors import AgentFolderError

# Trained weights stay below 100; an input of the U-Net's size times a few layers of these stays
# below float32's 3e38.
LARGEST_WEIGHT = 1e4


def read_weights(
    module: nn.Module,
    path: Path,
    *,
    prefix: str = "",
    device: str | torch.device,
    dtype: torch.dtype,
) -> None:
    """Gives a blank module the tensors of a file whose names begin with `prefix`.

    Names and shapes are compared before anything is read; every value is looked at once, where it
    is going to be used (on a GPU that costs next to nothing).

    Raises:
        AgentFolderError: the file cannot be read, a tensor is missing, unexpected or of another
            shape or kind, or a weight is NaN, infinite or beyond `LARGEST_WEIGHT`.
    """
    expected, where = module.state_dict(), f"{path} {prefix}".strip() + ", by config.json,"
    if not path.is_file():  # a pipe would be waited for
        raise AgentFolderError(f"{path} is missing; get the folder again")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
            shapes = {
                key.removeprefix(prefix): tuple(file.get_slice(key).get_shape()) for key in names
            }
            refuse(_shape_misfits(expected, shapes), where=where)
            state = {key.removeprefix(prefix): file.get_tensor(key) for key in names}
    except AgentFolderError:
        raise
    except Exception as error:  # of safetensors, the disk, the memory
        raise AgentFolderError(f"{path} cannot be read: {error}; get the folder again") from error
    kinds = [
        f"{key} holds {str(tensor.dtype).removeprefix('torch.')}"
        for key, tensor in state.items()
        if tensor.is_floating_point() != expected[key].is_floating_point()
    ]
    refuse(kinds, where=where)
    try:
        state = {key: x.to(dtype) if x.is_floating_point() else x for key, x in state.items()}
    except NotImplementedError as error:  # packed kinds, such as two numbers in a byte
        raise AgentFolderError(f"{path} cannot be read: {error}; get the folder again") from error
    refuse(odd_values(state), where=where)
    module.load_state_dict(state, assign=True)


def odd_values(state: Mapping[str, Tensor]) -> list[str]:
    """Names every tensor with a NaN, an infinite or an absurd number."""
    floats = {key: x for key, x in state.items() if x.is_floating_point() and x.numel()}
    if not floats:
        return []
    # One look at each, one transfer for all.
    ranges = torch.stack([torch.stack(x.aminmax()).float() for x in floats.values()]).tolist()
    problems = []
    for key, (low, high) in zip(floats, ranges, strict=True):
        least = 0 if key.endswith("running_var") else -LARGEST_WEIGHT
        if not (least <= low and high <= LARGEST_WEIGHT):  # NaN fails every comparison
            problems.append(f"{key} has values from {low:g} to {high:g}")
    return problems


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], *, where: str, assign: bool = False
) -> None:
    """Loads `state`, or names every tensor that is missing, unexpected or of another shape.

    With `assign` the module takes the tensors themselves (a blank one must).
    """
    refuse(misfits(module.state_dict(), state), where=where)
    module.load_state_dict(state, assign=assign)


def misfits(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Names every tensor of `state` that is missing, unexpected or of another shape."""
    return _shape_misfits(expected, {key: tuple(tensor.shape) for key, tensor in state.items()})


def _shape_misfits(
    expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    problems = [f"{key} is missing" for key in sorted(expected.keys() - shapes.keys())]
    problems += [f"{key} is unexpected" for key in sorted(shapes.keys() - expected.keys())]
    problems += [
        f"{key} has shape {shapes[key]}, expected {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & shapes.keys())
        if tuple(expected[key].shape) != shapes[key]
    ]
    return problems


def refuse(problems: Sequence[str], *, where: str) -> None:
    """Raises an `AgentFolderError` that lists the first of the problems, if there are any."""
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise AgentFolderError(f"{where} does not fit: {'; '.join(problems[:8])}{more}")
