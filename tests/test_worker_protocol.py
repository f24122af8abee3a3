"""What the messages of a worker carry, and that nothing else gets through."""

import json
import math
import random
import socket
import struct
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from vp_agent.envs.worker_protocol import Link
from vp_agent.envs.worker_spaces import space_from_message, space_to_message
from vp_agent.errors import WorkerError


def deliver(message: Any) -> Any:
    ours, theirs = map(Link, socket.socketpair())
    ours.send(message)
    return theirs.receive(deadline=time.monotonic() + 10)


def receive_bytes(data: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(data)
    link = Link(theirs)
    try:
        return link.receive(deadline=time.monotonic() + 10)
    finally:
        link.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, True, "ä\n"], "b": (1, (2,), [])},
        {1: "one", "": {"": ()}, ("x", 2): None},
        2**80,
        float("inf"),
        np.float32(0.1),
        np.bool_(True),
        np.arange(6, dtype=">i2").reshape(2, 3)[:, ::2],
        np.zeros((0, 3), np.float16),
        np.array(3.5),
        [np.arange(3, dtype=np.uint8), np.linspace(0, 1, 5), np.array([True, False])],
    ],
    ids=str,
)
def test_a_value_arrives_as_it_was(value):
    def same(one: Any, other: Any) -> bool:
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            return one.dtype == other.dtype and np.array_equal(one, other)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return one == other

    assert same(deliver(value), value)


def test_not_a_number_arrives():
    assert math.isnan(deliver(float("nan")))


def test_a_path_arrives_as_a_string():
    assert deliver({"assets": Path("/data")}) == {"assets": "/data"}


def test_arrays_arrive_writable_and_aligned():
    first, second = deliver([np.zeros(3, np.uint8), np.zeros(2)])
    second[0] = 1
    assert second.flags.aligned
    assert first.sum() == 0


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([None]), np.array(["a"]), b"x"])
def test_what_cannot_be_sent_is_named_with_its_place(value):
    with pytest.raises(WorkerError, match=r"message\['info'\]\[1\] is .* takes only numbers"):
        deliver({"info": [0, value]})


def frame(header: Any, arrays: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<4sIQ", b"vpaw", len(text), len(arrays)) + text + arrays


@pytest.mark.parametrize(
    "data",
    [
        b"Traceback (most recent call last)",
        struct.pack("<4sIQ", b"vpaw", 2, 1 << 60) + b"{}",
        frame({"": "array", "dtype": "|O", "shape": [1]}, bytes(8)),
        frame({"": "array", "dtype": "<f8", "shape": [2]}, bytes(8)),
        frame({"": "array", "dtype": "<f8", "shape": [-1]}, bytes(8)),
        frame({"": "array"}),
        frame({"": "dict", "items": [[[], 1]]}),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(WorkerError, match="not a message of a worker"):
        receive_bytes(data)


def test_damaged_messages_never_do_more_than_raise():
    header = {"a": {"": "array", "dtype": "<f4", "shape": [2, 2]}, "b": {"": "tuple", "items": []}}
    good, rng = frame(header, bytes(16)), random.Random(0)
    outcomes = set()
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            receive_bytes(bytes(data))
            outcomes.add("ok")
        except (WorkerError, EOFError) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"ok", "WorkerError", "EOFError"}


def test_a_slow_message_ends_at_the_deadline():
    ours, theirs = socket.socketpair()
    ours.sendall(frame("late")[:-1])
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        Link(theirs).receive(deadline=start + 0.2)
    assert time.monotonic() - start < 5
    ours.close()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(0, 255, (4, 6, 3), np.uint8),
        gym.spaces.Box(np.array([-1, -np.inf]), np.array([1, np.inf]), dtype=np.float64),
        gym.spaces.Box(-1.0, 1.0, (), np.float64),
        gym.spaces.Text(5, min_length=0, charset="abc "),
        gym.spaces.Dict([("z", gym.spaces.Text(3)), ("a", gym.spaces.Dict({}))]),
    ],
    ids=str,
)
def test_a_space_arrives_as_it_was(space):
    arrived = space_from_message(deliver(space_to_message(space)))
    assert arrived == space
    assert repr(arrived) == repr(space)
    assert arrived.dtype == space.dtype


def test_other_spaces_are_refused():
    with pytest.raises(WorkerError, match="Box, Dict and Text, not Discrete"):
        space_to_message(gym.spaces.Discrete(3))
