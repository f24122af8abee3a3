"""Messages between a worker and what started it: a JSON header and the arrays' raw bytes.

A message is a tree of dicts, lists, tuples, strings, numbers, None and numeric arrays. Nothing in
it is code, and nothing is pickled: the other end may be another Python with another NumPy. A path
arrives as a string. Sizes and depth are bounded at both ends; what a message means is checked
against `worker_messages`.
"""

import json
import math
import os
import re
import socket
import struct
import threading
import time
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from vp_agent.errors import WorkerError

HEARTBEAT_S = 1.0  # while a worker is busy

_FRAME = struct.Struct("<4sIQ")  # magic, bytes of the header, bytes of the arrays
_MAGIC = b"vpaw"
MAX_HEADER, MAX_ARRAYS = 1 << 22, 1 << 27  # bytes; a step of three 256 x 256 views has 590,000
MAX_DEPTH = 64  # of lists, tuples and dicts in each other
_MAX_AXES = 32
_MAX_ODD_KEYS = 4096  # of a dict whose keys are not strings: numbers can be made to collide
_ALIGNMENT = 16
NUMERIC = "biufc"  # kinds of dtype; "O" would turn bytes into pointers
_DTYPE = re.compile(rf"[<>|=]?[{NUMERIC}]\d{{1,2}}")


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
        try:
            header = json.dumps(_to_json(message, arrays, "message", 0)).encode()
        except ValueError as error:  # a number of thousands of digits
            raise WorkerError(f"the message cannot be sent: {error}") from error
        pieces, size = [], 0
        for array in arrays:
            padding = -size % _ALIGNMENT
            pieces += [bytes(padding), array.reshape(-1).view(np.uint8).data]
            size += padding + array.nbytes
        if len(header) > MAX_HEADER or size > MAX_ARRAYS:
            raise WorkerError(
                f"the message has {len(header):,} bytes of text and {size:,} of arrays; a worker "
                f"sends and takes at most {MAX_HEADER:,} and {MAX_ARRAYS:,}"
            )
        with self._sending:
            for piece in (_FRAME.pack(_MAGIC, len(header), size) + header, *pieces):
                self._wait_until(deadline)
                self._socket.sendall(piece)

    def receive(self, *, deadline: float | None = None) -> Any:
        """The next message; the arrays in it are writable.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: nothing complete came until `deadline` (of `time.monotonic`).
            WorkerError: what came is no message.
        """
        magic, header_size, size = _FRAME.unpack(self._read(_FRAME.size, deadline))
        if magic != _MAGIC or header_size > MAX_HEADER or size > MAX_ARRAYS:
            raise WorkerError(
                f"not a message of a worker: it begins with {magic!r} and declares {header_size:,} "
                f"bytes of text and {size:,} of arrays"
            )
        header = self._read(header_size, deadline)
        arrays = _Arrays(self._read(size, deadline))
        try:
            return _from_json(json.loads(bytes(header)), arrays, 0)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
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
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:  # also if there always is something to read
            raise TimeoutError
        self._socket.settimeout(left)


class _Arrays:
    """The arrays of a message, taken one by one from its bytes."""

    def __init__(self, data: bytearray) -> None:
        self._data, self._position = data, 0

    def take(self, dtype: Any, shape: Any) -> np.ndarray:
        if not (isinstance(dtype, str) and _DTYPE.fullmatch(dtype) and is_shape(shape)):
            raise ValueError(f"no array of {dtype!r:.50} {shape!r:.50} can be sent")
        kind = np.dtype(dtype)
        start = self._position + -self._position % _ALIGNMENT
        self._position = start + math.prod(shape) * kind.itemsize
        if self._position > len(self._data):
            raise ValueError("an array is longer than the message")
        flat = np.frombuffer(memoryview(self._data)[start : self._position], kind)
        if kind.kind == "b" and (flat.view(np.uint8) > 1).any():
            raise ValueError("a boolean is neither 0 nor 1")
        return flat.reshape(shape)


def is_shape(value: Any) -> bool:
    """Whether these are the sizes of an array that a message could hold."""
    return (
        isinstance(value, list)
        and len(value) <= _MAX_AXES
        and all(type(size) is int and 0 <= size <= MAX_ARRAYS for size in value)
        and math.prod(value) <= MAX_ARRAYS
    )


def _to_json(value: Any, arrays: list[np.ndarray], where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WorkerError(f"{where:.200} is {MAX_DEPTH} lists and dicts deep; a worker sends less")
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMERIC:
        arrays.append(np.ascontiguousarray(value))
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {"": kind, "dtype": value.dtype.str, "shape": list(value.shape)}
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _utf8(value, where)
    deeper = depth + 1
    if isinstance(value, list):
        return [_to_json(item, arrays, f"{where}[{i}]", deeper) for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"": "tuple", "items": _to_json(list(value), arrays, where, depth)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key for key in value):
            return {
                _utf8(key, where): _to_json(item, arrays, f"{where}[{key!r}]", deeper)
                for key, item in value.items()
            }
        items = [[key, item] for key, item in value.items()]
        return {"": "dict", "items": _to_json(items, arrays, where, depth)}
    raise WorkerError(
        f"{where} is {value!r} ({type(value).__name__}); a worker sends and takes only numbers, "
        "strings, None, numeric arrays, and lists, tuples and dicts of these"
    )


def _utf8(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise WorkerError(f"{where} is {text!r:.200}, which is no text: {error}") from error
    return text


def _from_json(value: Any, arrays: _Arrays, depth: int) -> Any:
    if depth > 2 * MAX_DEPTH + 2:  # a level of a dict of odd keys is two of lists
        raise ValueError(f"it is more than {MAX_DEPTH} lists and dicts deep")
    if isinstance(value, str):
        value.encode()  # half a surrogate pair could not be written or printed later
        return value
    deeper = depth + 1
    if isinstance(value, list):
        return [_from_json(item, arrays, deeper) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("")
    if kind is None:
        for key in value:
            key.encode()
        return {key: _from_json(item, arrays, deeper) for key, item in value.items()}
    if kind in ("array", "scalar"):
        array = arrays.take(value["dtype"], value["shape"])
        return array if kind == "array" else array[()]
    if not isinstance(value["items"], list):
        raise ValueError(f"a {kind!r:.20} is of a list of items")
    items = _from_json(value["items"], arrays, depth)
    if kind == "tuple":
        return tuple(items)
    if kind != "dict" or len(items) > _MAX_ODD_KEYS:
        raise ValueError(f"there is no {kind!r:.20} of {len(items)} items")
    return dict(items)
