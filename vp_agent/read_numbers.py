"""Reads numbers from arrays, tensors and lists of any kind, once, at the border."""

import numbers
import operator
import sys
from typing import Any

import numpy as np

from vp_agent.errors import ConfigError


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
            masked = isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value)
            if array.dtype.kind == "O" and all(map(_is_real, array.flat)):
                array = array.astype(np.float64)
    except Exception as error:  # a foreign object's methods may raise anything
        raise ValueError(f"got a {type(value).__name__} ({type(error).__name__})") from error
    if masked:
        raise ValueError("got masked ones")
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
    except TypeError:
        number = None
    if number is None or number < at_least:
        raise ConfigError(f"{name} must be a whole number of at least {at_least}, not {value!r}")
    return number


def _on_cpu(value: Any) -> Any:
    torch: Any = sys.modules.get("torch")  # a worker has none, and then nobody has a tensor
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    small = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
    return (tensor.float() if small else tensor).numpy()  # NumPy has no bfloat16


def _is_real(element: Any) -> bool:
    return isinstance(element, numbers.Real | np.bool_)
