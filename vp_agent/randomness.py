"""Randomness as a function: every seed is made from the names of what it is for."""

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from vp_agent.errors import ConfigError, short
from vp_agent.read_numbers import read_array


def mix(*parts: int | str) -> int:
    """A 63-bit seed from, for example, (seed, stage, step, rank)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_seed(seed: int) -> int:
    """A seed that torch's generators take: the number itself, or a hash of one past 64 bits."""
    # In hexadecimal: Python writes no decimals of more than 4,300 digits.
    return seed if -(2**63) <= seed < 2**64 else mix("past 64 bits", hex(seed))


def read_seeds(seed: Any) -> int | list[int]:
    """A seed, or one per lane, from whole numbers of any kind (numpy's too) and any size.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return torch_seed(operator.index(seed))
    except Exception:  # a foreign object's methods may raise anything
        pass
    try:
        if isinstance(seed, str | bytes | bytearray | set | frozenset | dict):
            raise TypeError("not in order, or no numbers")
        return [torch_seed(operator.index(each)) for each in seed]
    except Exception as error:
        raise ConfigError(
            f"a seed is a whole number, or one per lane, not {short(seed)}"
        ) from error


def read_lanes(lanes: Any) -> list[int]:
    """Indices of lanes, from whole numbers of any kind.

    Raises:
        ConfigError: it is something else, such as a mask, whose truth values pass for 0 and 1.
    """
    try:
        found = list(lanes)
        if any(
            isinstance(x, bool | np.bool_) or "bool" in str(getattr(x, "dtype", "")) for x in found
        ):
            raise TypeError("a mask")
        indices = [operator.index(x) for x in found]
        if any(x < 0 for x in indices):
            raise ValueError("below 0")
    except Exception as error:  # a foreign object's methods may raise anything
        raise ConfigError(
            f"lanes are indices such as [0, 2], not {short(lanes)}; of a mask: np.flatnonzero(mask)"
        ) from error
    return indices


def lane_seeds(seed: int | Sequence[int], lanes: int) -> list[int]:
    """One seed per lane of what `read_seeds` gave: s means s, s + 1, ...

    Raises:
        ConfigError: there are more or fewer than lanes.
    """
    seeds = [seed + lane for lane in range(lanes)] if isinstance(seed, int) else list(seed)
    if len(seeds) != lanes:
        raise ConfigError(f"{len(seeds)} seeds for {lanes} lanes")
    return [torch_seed(each) for each in seeds]


def read_noise(noise: Any, shape: tuple[int, ...], *, lanes: int) -> np.ndarray:
    """Start noise (lanes, *shape); of one lane it may come without the first axis.

    Raises:
        ConfigError: it is of another shape or not finite.
    """
    try:
        values = read_array(noise)
    except ValueError as error:
        raise ConfigError(f"start noise must be numbers, {error}") from error
    with np.errstate(all="ignore"):  # too large: infinite
        # In C's order: convolutions of other strides round differently.
        values = np.array(values, dtype=np.float32, order="C")
    wanted = {(lanes, *shape), *([shape] if lanes == 1 else [])}
    if values.shape not in wanted:
        words = " or ".join(map(str, sorted(wanted, key=len)))
        raise ConfigError(f"start noise must have shape {words}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ConfigError("start noise must be finite")
    return values.reshape(lanes, *shape)
