"""Weights and inputs of the golden numbers, by formula (tests/golden/README.md)."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
NORMAL = 3.4641  # amplitude that gives the uniform formula unit variance

# Bounds of the parity tests count float32 roundings: one operation is off by at most half of EPS
# of its result, so two computations of n operations each differ by at most n * EPS of it. What one
# processor gives is no bound: vector units of 128, 256 and 512 bits add up in other orders.
EPS = float(np.finfo(np.float32).eps)


def uniform(count: int, seed: int) -> np.ndarray:
    """`count` float64 numbers in [-0.5, 0.5)."""
    h = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)
    h = (h + np.uint64(seed * 40503)).astype(np.uint32)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return h / 2.0**32 - 0.5


def numbers(name: str, shape: Sequence[int]) -> np.ndarray:
    return uniform(int(np.prod(shape)), zlib.crc32(name.encode())).reshape(shape)


def tensor(name: str, shape: Sequence[int], amplitude: float) -> Tensor:
    return torch.from_numpy((amplitude * numbers(name, shape)).astype(np.float32))


def weight(name: str, shape: Sequence[int]) -> Tensor:
    u = numbers(name, shape)
    if len(shape) >= 2:
        u *= np.sqrt(12 / np.prod(shape[1:]))
    elif name.endswith("mix_factor"):
        u *= 2
    elif name.endswith(".weight"):
        u = 1 + 0.2 * u
    else:
        u *= 0.1
    return torch.from_numpy(u.astype(np.float32))


def weights(shapes: Mapping[str, Sequence[int]], *, prefix: str = "") -> dict[str, Tensor]:
    """Formula weights of a manifest's tensors; the formula sees `prefix` + name."""
    return {name: weight(prefix + name, shape) for name, shape in shapes.items()}


def manifest(file: str) -> dict[str, Any]:
    return json.loads((GOLDEN / file).read_text())


def golden(file: str) -> Mapping[str, np.ndarray]:
    return np.load(GOLDEN / file)


def agrees(ours: Tensor, exact: Tensor, theirs: np.ndarray, *, bar: float) -> None:
    """A network's float32 output agrees with the published one, given our own in float64.

    Between `exact` and theirs lies nothing but the rounding of the published numbers, on every
    processor, and it must stay within the bar. Ours may round as much in another order: three
    times, because the largest of many numbers varies.
    """
    rounding = farthest(exact, theirs)
    assert rounding <= bar
    assert farthest(ours, exact.numpy()) <= 3 * rounding


def farthest(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; shapes must agree."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours.astype(np.float64) - theirs).max())
