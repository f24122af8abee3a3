"""Messages between a worker and what started it: a JSON header and the arrays' raw bytes.

A message is a tree of dicts, lists, tuples, strings, numbers, None and numeric arrays. Nothing in
it is code, and nothing is pickled: the other end may be another Python with another NumPy. A path
arrives as a string.
"""

import json
import math
import os
import socket
import struct
import threading
import time
from multiprocessing.connection import wait
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.task_text import TaskText
from vp_agent.errors import WorkerError

PROTOCOL = 2  # of messages and calls; raise it with every change of either
HEARTBEAT_S = 1.0  # while a worker is busy

_FRAME = struct.Struct("<4sIQ")  # magic, bytes of the header, bytes of the arrays
_MAGIC = b"vpaw"
_MAX_HEADER, _MAX_ARRAYS = 1 << 24, 1 << 28
_ALIGNMENT = 16
_NUMERIC = "biufc"  # kinds of dtype; "O" would turn bytes into pointers


class Link:
    """One end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()  # a heartbeat must not come into the middle of an answer

    def send(self, message: Any, *, deadline: float | None = None) -> None:
        """Sends one message.

        Raises:
            WorkerError: the message holds something that cannot be sent; nothing was.
            OSError: the other end is gone; `TimeoutError` if it takes nothing until `deadline`.
        """
        arrays: list[np.ndarray] = []
        header = json.dumps(_to_json(message, arrays, "message")).encode()
        pieces, size = [], 0
        for array in arrays:
            padding = -size % _ALIGNMENT
            pieces += [bytes(padding), array.reshape(-1).view(np.uint8).data]
            size += padding + array.nbytes
        with self._sending:
            self._wait_until(deadline)
            self._socket.sendall(_FRAME.pack(_MAGIC, len(header), size) + header)
            for piece in pieces:
                self._socket.sendall(piece)

    def receive(self, *, deadline: float | None = None) -> Any:
        """The next message; the arrays in it are writable.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: nothing complete came until `deadline` (of `time.monotonic`).
            WorkerError: what came is no message.
        """
        magic, header_size, size = _FRAME.unpack(self._read(_FRAME.size, deadline))
        if magic != _MAGIC or header_size > _MAX_HEADER or size > _MAX_ARRAYS:
            raise WorkerError(f"not a message of a worker: it begins with {magic!r}")
        header = self._read(header_size, deadline)
        arrays = _Arrays(self._read(size, deadline))
        try:
            return _from_json(json.loads(bytes(header)), arrays)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise WorkerError(f"not a message of a worker: {error}") from error

    def has_message(self, until: float) -> bool:
        """Waits until something is there to receive (or the other end is gone), or the time."""
        return bool(wait([self._socket], max(until - time.monotonic(), 0)))

    def close(self) -> None:
        """Ends the connection; the other end sees it."""
        self._socket.close()

    def _read(self, size: int, deadline: float | None) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            self._wait_until(deadline)
            count = self._socket.recv_into(rest)
            if not count:
                raise EOFError("the connection was closed")
            rest = rest[count:]
        return data

    def _wait_until(self, deadline: float | None) -> None:
        left = None if deadline is None else max(deadline - time.monotonic(), 1e-3)
        self._socket.settimeout(left)


class _Arrays:
    """The arrays of a message, taken one by one from its bytes."""

    def __init__(self, data: bytearray) -> None:
        self._data, self._position = data, 0

    def take(self, dtype: str, shape: list[int]) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind not in _NUMERIC or any(size < 0 for size in shape):
            raise ValueError(f"no array of {dtype} {shape} can be sent")
        start = self._position + -self._position % _ALIGNMENT
        self._position = start + math.prod(shape) * kind.itemsize
        if self._position > len(self._data):
            raise ValueError("an array is longer than the message")
        flat = np.frombuffer(memoryview(self._data)[start : self._position], kind)
        return flat.reshape(shape)


def _to_json(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMERIC:
        arrays.append(np.ascontiguousarray(value))
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {"": kind, "dtype": value.dtype.str, "shape": list(value.shape)}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list):
        return [_to_json(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"": "tuple", "items": _to_json(list(value), arrays, where)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key for key in value):
            return {key: _to_json(item, arrays, f"{where}[{key!r}]") for key, item in value.items()}
        items = [[key, item] for key, item in value.items()]
        return {"": "dict", "items": _to_json(items, arrays, where)}
    raise WorkerError(
        f"{where} is {value!r} ({type(value).__name__}); a worker sends and takes only numbers, "
        "strings, None, numeric arrays, and lists, tuples and dicts of these"
    )


def _from_json(value: Any, arrays: _Arrays) -> Any:
    if isinstance(value, list):
        return [_from_json(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("")
    if kind is None:
        return {key: _from_json(item, arrays) for key, item in value.items()}
    if kind in ("array", "scalar"):
        array = arrays.take(value["dtype"], value["shape"])
        return array if kind == "array" else array[()]
    items = _from_json(value["items"], arrays)
    return tuple(items) if kind == "tuple" else dict(items)


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


def space_from_message(message: dict[str, Any]) -> gym.Space:
    """The space that `space_to_message` was given."""
    if message["space"] == "Box":
        low, high = (np.broadcast_to(message[bound], message["shape"]) for bound in ("low", "high"))
        return gym.spaces.Box(low, high, dtype=np.dtype(message["dtype"]).type)
    if message["space"] == "Text":
        return TaskText(
            message["max_length"], min_length=message["min_length"], charset=message["charset"]
        )
    # pairs keep the order; of a plain dict Gymnasium would sort the keys
    return gym.spaces.Dict([(key, space_from_message(part)) for key, part in message["parts"]])


def _one_if_all_equal(bound: np.ndarray) -> np.ndarray:
    return bound.flat[0] if bound.size and (bound == bound.flat[0]).all() else bound
