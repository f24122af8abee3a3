"""Randomness as a function: every seed is made from the names of what it is for."""

import hashlib
import operator
from typing import Any

import numpy as np

from vp_agent.errors import ConfigError


def mix(*parts: int | str) -> int:
    """A 63-bit seed from, for example, (seed, stage, step, rank)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def read_seeds(seed: Any) -> int | list[int]:
    """A seed, or one per lane, from whole numbers of any kind (numpy's too).

    Raises:
        ConfigError: it is something else.
    """
    try:
        return operator.index(seed)
    except TypeError:
        pass
    try:
        return [operator.index(each) for each in seed]
    except TypeError as error:
        raise ConfigError(f"a seed is a whole number, or one per lane, not {seed!r}") from error


def read_noise(noise: Any, shape: tuple[int, ...], *, lanes: int) -> np.ndarray:
    """Start noise (lanes, *shape); of one lane it may come without the first axis.

    Raises:
        ConfigError: it is of another shape or not finite.
    """
    values = np.asarray(noise, dtype=np.float32)
    wanted = {(lanes, *shape), *([shape] if lanes == 1 else [])}
    if values.shape not in wanted:
        words = " or ".join(map(str, sorted(wanted, key=len)))
        raise ConfigError(f"start noise must have shape {words}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ConfigError("start noise must be finite")
    return values.reshape(lanes, *shape)
