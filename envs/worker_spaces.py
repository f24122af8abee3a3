"""Gymnasium spaces in the messages of a worker, and whether an observation is one of a space."""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.task_text import TaskText
from vp_agent.envs.worker_protocol import is_shape
from vp_agent.errors import WorkerError

# A space that is made costs about this much memory: bounds, and where they are finite.
_MAX_BYTES = 1 << 27
_MAX_PARTS = 256
_MAX_TEXT = 1 << 20  # of a Text space, and of its characters
_BOX_KINDS = "biuf"


def space_to_message(space: gym.Space) -> dict[str, Any]:
    """A Box, Dict or Text space as what a message can hold."""
    if isinstance(space, gym.spaces.Box):
        low, high = (_one_if_all_equal(bound) for bound in (space.low, space.high))
        shape = list(space.shape)
        return {"space": "Box", "low": low, "high": high, "shape": shape, "dtype": space.dtype.str}
    if isinstance(space, gym.spaces.Text):
        lengths = {"min_length": space.min_length, "max_length": space.max_length}
        return {"space": "Text", **lengths, "charset": space.characters}
    if isinstance(space, gym.spaces.Dict):
        parts = [[key, space_to_message(part)] for key, part in space.spaces.items()]
        return {"space": "Dict", "parts": parts}
    raise WorkerError(f"a worker knows the spaces Box, Dict and Text, not {space}")


def space_from_message(message: Any) -> gym.Space:
    """The space that `space_to_message` was given.

    Raises:
        WorkerError: there is no such space, or it is too large to be made.
    """
    try:
        return _Spaces().read(message)
    except (ValueError, TypeError, KeyError, AssertionError, OverflowError) as error:
        raise WorkerError(f"a worker sent no space: {error!s:.300}") from error


def check_observation(space: gym.Space, value: Any, where: str = "observation") -> None:
    """Raises `WorkerError` unless `value` has the parts, shapes and kinds of numbers of `space`.

    As Gymnasium's own wrappers, it lets another precision pass, and numbers beyond the bounds.
    """
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            came = list(value) if isinstance(value, dict) else type(value).__name__
            raise WorkerError(f"{where} has the parts {list(space)}, and {came!s:.200} came")
        for key, part in space.spaces.items():
            check_observation(part, value[key], f"{where}[{key!r}]")
    elif isinstance(space, gym.spaces.Text):
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise WorkerError(f"{where} is a text, and {type(value).__name__} came")
    elif not (
        isinstance(value, np.ndarray | np.generic)
        and value.shape == space.shape
        and np.can_cast(value.dtype, space.dtype or value.dtype, "same_kind")
    ):
        came = getattr(value, "shape", ""), getattr(value, "dtype", type(value).__name__)
        raise WorkerError(
            f"{where} has the shape {space.shape} of {space.dtype}, and {came[0]} of {came[1]} came"
        )


class _Spaces:
    """Makes the spaces of one message, and counts what they cost."""

    def __init__(self) -> None:
        self._parts, self._bytes = 0, 0

    def read(self, message: Any) -> gym.Space:
        self._parts += 1
        if not isinstance(message, dict) or self._parts > _MAX_PARTS:
            raise ValueError(f"expected at most {_MAX_PARTS} descriptions, not {message!r:.50}")
        kind = message["space"]
        if kind == "Box":
            return self._box(message)
        if kind == "Text":
            return self._text(message)
        if kind != "Dict":
            raise ValueError(f"expected Box, Dict or Text, not {kind!r:.50}")
        parts = {key: self.read(part) for key, part in message["parts"]}
        if len(parts) != len(message["parts"]) or not all(isinstance(key, str) for key in parts):
            raise ValueError("expected parts with names of their own")
        # pairs keep the order; of a plain dict Gymnasium would sort the keys
        return gym.spaces.Dict(list(parts.items()))

    def _box(self, message: dict[str, Any]) -> gym.Space:
        shape, text = message["shape"], message["dtype"]
        if not is_shape(shape) or not isinstance(text, str):
            raise ValueError(f"expected a shape and a dtype, not {shape!r:.50} and {text!r:.50}")
        dtype = np.dtype(text)
        if dtype.kind not in _BOX_KINDS:
            raise ValueError(f"expected a dtype of numbers, not {text!r:.50}")
        for name in ("low", "high"):
            bound = message[name]
            if not isinstance(bound, np.ndarray | np.generic) or bound.dtype.kind not in _BOX_KINDS:
                raise ValueError(f"expected numbers as {name}, not {bound!r:.50}")
        self._count(math.prod(shape) * (2 * dtype.itemsize + 4))
        low, high = (np.broadcast_to(message[bound], shape) for bound in ("low", "high"))
        return gym.spaces.Box(low, high, dtype=dtype.type)

    def _text(self, message: dict[str, Any]) -> gym.Space:
        longest, least, letters = (message[x] for x in ("max_length", "min_length", "charset"))
        numbers = (type(least), type(longest)) == (int, int) and 0 <= least <= longest <= _MAX_TEXT
        if not numbers or not isinstance(letters, str):
            raise ValueError(f"expected a length up to {_MAX_TEXT} and characters")
        self._count(200 * len(letters))
        return TaskText(longest, min_length=least, charset=letters)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _MAX_BYTES:
            raise ValueError(f"its boxes and texts take more than {_MAX_BYTES:,} bytes")


def _one_if_all_equal(bound: np.ndarray) -> np.ndarray:
    return bound.flat[0] if bound.size and (bound == bound.flat[0]).all() else bound
