"""Reads numbers from arrays, tensors and lists of any kind, once, at the border."""

import numbers
import operator
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from vp_agent.errors import ConfigError, ObservationError, short


def read_array(value: Any) -> np.ndarray:
    """`value` as an array of booleans, integers or floats, with the numbers it shows.

    Torch's tensors may need a gradient, be of bfloat16 or lie on a GPU. Strings, bytes, dates,
    complex numbers and masked elements are no numbers here.

    Raises:
        ValueError: it is something else; the message goes on after "... must be numbers, ".
    """
    try:
        with np.errstate(all="ignore"):  # the caller's may raise
            array = np.asarray(_on_cpu(value))
            if array.dtype.kind == "O" and all(map(_is_real, array.flat)):
                array = array.astype(np.float64)
    except _Masked as error:
        raise ValueError("got masked ones") from error
    except Exception as error:  # a foreign object's methods may raise anything
        raise ValueError(f"got a {type(value).__name__} ({type(error).__name__})") from error
    if array.dtype.kind not in "biuf":
        kind = type(value).__name__
        of = f" of {array.dtype}" if array.ndim or isinstance(value, np.ndarray) else ""
        raise ValueError(f"got a {kind}{of}")
    return array


def read_floats(value: Any) -> np.ndarray:
    """`read_array` as float64; too large numbers become infinite.

    Raises:
        ValueError: as of `read_array`.
    """
    with np.errstate(all="ignore"):
        return read_array(value).astype(np.float64)


def read_whole(name: str, value: Any, *, at_least: int) -> int:
    """A whole number of any kind (NumPy's too, but no truth value) as Python's.

    Raises:
        ConfigError: it is something else, or too small.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except Exception:  # a foreign object's methods may raise anything
        number = None
    if number is None or number < at_least:
        raise ConfigError(
            f"{name} must be a whole number of at least {at_least}, not {short(value)}"
        )
    return number


def read_finite(name: str, value: Any) -> float:
    """A finite number of any kind (NumPy's too, but no truth value) as Python's.

    Raises:
        ConfigError: it is something else.
    """
    try:
        number = read_floats(value)
        if number.shape or not np.isfinite(number) or isinstance(value, bool | np.bool_):
            raise ValueError
    except ValueError as error:
        raise ConfigError(f"{name} must be a finite number, not {short(value)}") from error
    return float(number)


def read_state(observation: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """`agent_pos` as float32, for a policy that reads it.

    Raises:
        ObservationError: it is missing, not finite or of another shape.
    """
    wanted = f"the policy takes a state of {shape}, the environment"
    if "agent_pos" not in observation:
        raise ObservationError(f"{wanted} has no 'agent_pos' but {', '.join(observation)}")
    try:
        state = read_floats(observation["agent_pos"])
    except ValueError as error:
        raise ObservationError(f"{wanted}'s must be numbers, {error}") from error
    if state.shape != shape:
        raise ObservationError(
            f"{wanted} has {state.shape}; it was trained on another robot or another state"
        )
    if not np.isfinite(state).all():
        raise ObservationError(f"{wanted}'s is not finite: {state}")
    return state.astype(np.float32)


def _on_cpu(value: Any) -> Any:
    """Tensors as arrays, also inside lists, whose other elements stay as they are."""
    if isinstance(value, list | tuple):
        return [_on_cpu(element) for element in value]
    if np.ma.is_masked(value):
        raise _Masked
    torch: Any = sys.modules.get("torch")  # a worker has none, and then nobody has a tensor
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    small = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
    return (tensor.float() if small else tensor).numpy()  # NumPy has no bfloat16


class _Masked(Exception):
    """Elements without a number."""


def _is_real(element: Any) -> bool:
    return isinstance(element, numbers.Real | np.bool_)
