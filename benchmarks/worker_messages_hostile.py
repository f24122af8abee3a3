"""Hostile messages of a worker: bytes that are no frame, and frames whose content is wrong.

`worker_fuzz.py` sends them.
"""

import builtins
import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Tree = Any  # JSON as it is in a header
CALLS = ("make", "reset", "step", "step_chunk", "render", "lacking", "act", "load_policy")


def frame(header: Tree | bytes, arrays: bytes = b"") -> bytes:
    """The bytes of a message."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sIQ", b"vpaw", len(text), len(arrays)) + text + arrays


def array(shape: Sequence[Tree], dtype: str = "<f4") -> Tree:
    """An array of a header."""
    return {"": "array", "dtype": dtype, "shape": list(shape)}


def scalar(dtype: str = "<f4") -> Tree:
    """A number of NumPy's in a header."""
    return {"": "scalar", "dtype": dtype, "shape": []}


def box(shape: list[int], dtype: str = "<f4") -> Tree:
    """A Box space in a header."""
    return {"space": "Box", "low": scalar(dtype), "high": scalar(dtype), **_about(shape, dtype)}


def _about(shape: list[int], dtype: str) -> Tree:
    return {"shape": shape, "dtype": dtype}


SPACE = {
    "space": "Dict",
    "parts": [
        ["pixels", {"space": "Dict", "parts": [["left", box([4, 6, 3], "|u1")]]}],
        ["agent_pos", box([3])],
        ["task", {"space": "Text", "min_length": 0, "max_length": 60, "charset": "abc "}],
    ],
}
OBSERVATION = {"pixels": {"left": array([4, 6, 3], "|u1")}, "agent_pos": array([3]), "task": "a b"}
ATTRIBUTES = {"horizon": 6, "control_hz": 20, "instruction": "a b", "metadata": {}, "views": ["a"]}
INFO = {"is_success": False, "seed": 3, "state": array([2], "<f8"), "chunk_steps": 1}
GOOD: dict[str, Tree] = {
    "make": {"action_space": box([7]), "observation_space": SPACE, "attributes": ATTRIBUTES},
    "reset": {"": "tuple", "items": [OBSERVATION, INFO, ATTRIBUTES]},
    "step": {"": "tuple", "items": [OBSERVATION, 0.5, False, False, INFO]},
    "step_chunk": {"": "tuple", "items": [OBSERVATION, 0.5, False, False, INFO]},
    "render": array([2, 2, 3], "|u1"),
    "lacking": ["", ""],
    "act": array([7]),
    "load_policy": {
        "env_kwargs": {"views": ["left"], "resolution": [4, 6]},
        "action_dim": 7,
        "device": "cpu",
        "gpu": "none",
        "torch": "2.10",
        "facts": {"lerobot_policy": "act"},
    },
}
_DTYPES = (
    "|O",
    "|V8",
    "<U4",
    "<M8[s]",
    "<f4",
    "<c8",
    "|b1",
    "<i8",
    "f8,f8",
    "(3,)f8",
    "<f3",
    "",
    "b9",
)
_SHAPES = ([], [0], [-1], [1 << 40], [0, 1 << 40], [True], [1.5], ["2"], [1] * 40, [3], [10000] * 3)
_NAMES = [*dir(builtins), "system", "Popen", "WorkerDied", "ResetNeeded", "ActionError", "__doc__"]
_MODULES = (
    "builtins",
    "os",
    "subprocess",
    "gymnasium.error",
    "vp_agent.errors",
    "",
    "\ud800",
    "a.b",
)


def hostile_frame(rng: random.Random) -> bytes:
    """Bytes that may be a frame."""
    good = frame(_answer(GOOD[rng.choice(CALLS)]), bytes(128))
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:  # some bytes changed
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 2:  # cut, or with something in it
        place = rng.randrange(len(good))
        return good[:place] + rng.randbytes(rng.randrange(20)) + good[place + rng.randrange(9) :]
    if kind == 3:  # sizes that are not those of what follows
        size = (rng.choice((0, 1, 1 << 22, 1 << 31)), rng.choice((0, 1, 1 << 27, 1 << 28, 1 << 62)))
        return struct.pack("<4sIQ", b"vpaw", *size) + good[16:]
    if kind == 4:  # text that is hard to read
        depth = rng.choice((10, 70, 500, 20_000))
        odd = (
            b"[" * depth + b"]" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b'{"":"tuple","items":' * depth + b"[]" + b"}" * depth,
            b"9" * rng.choice((20, 5000, 100_000)),
            b'"\\ud800"',
            b'{"\\ud800":1}',
            b"\xff\xfe\x00",
            b"1e99999",
            b"[" + b"{}," * rng.choice((10, 5000)) + b"{}]",
            json.dumps(
                {"": "dict", "items": [[i * (2**61 - 1), 0] for i in range(depth)]}
            ).encode(),
        )
        return frame(rng.choice(odd), bytes(64))
    return frame(_answer(_value(rng)), bytes(rng.choice((0, 8, 64, 4096))))


def hostile_answer(rng: random.Random, call: str) -> bytes:
    """A frame whose JSON is right, and whose content is not what the call gives."""
    if rng.random() < 0.25:
        return frame(_failure(rng), bytes(256))
    answer = json.loads(json.dumps(_answer(GOOD[call])))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _spoil(rng, answer)
    size = _declared(answer) if rng.random() < 0.9 else rng.randrange(2000)
    return frame(answer, rng.randbytes(min(size, 1 << 16)))


def hostile_request(rng: random.Random) -> Tree:
    """A request as a tree, for the other direction."""
    request = {"call": "step", "deadline_s": 5.0, "arguments": {"action": array([7])}}
    for _ in range(rng.randint(1, 3)):
        _spoil(rng, request)
    if rng.random() < 0.5:
        calls = (*CALLS, "__init__", "__class__", "_attributes", "env", "exec")
        request["call"] = rng.choice(calls)  # type: ignore[assignment]
    return request


def _answer(result: Tree) -> dict[str, Tree]:
    return {"warnings": [], "result": result, "error": None}


def _failure(rng: random.Random) -> Tree:
    classes = [[rng.choice(_MODULES), rng.choice(_NAMES)] for _ in range(rng.randint(1, 3))]
    message = rng.choice(("open('CANARY', 'w')", "1", "a" * 50_000, "{}", "\x1b[2J", "CANARY"))
    error = {"classes": classes, "message": message, "traceback": "none"}
    if rng.random() < 0.3:
        _spoil(rng, error)
    return {"warnings": [], "result": None, "error": error}


def _value(rng: random.Random) -> Tree:
    made: tuple[Callable[[], Tree], ...] = (
        lambda: None,
        lambda: rng.choice((True, False, 0, 1, -1, 2**63, 2**80, 10**4000, 0.5)),
        lambda: rng.choice((float("nan"), float("inf"), -float("inf"), 1e308)),
        lambda: rng.choice(("", "exec", "a" * 30_000, "\x00", "\ud800", "é", "worker", "reset")),
        lambda: [],
        lambda: {},
        lambda: {"": rng.choice(("tuple", "dict", "array", "scalar", "set", "object", "", 5))},
        lambda: {"": "dict", "items": [[_value(rng), 1] for _ in range(3)]},
        lambda: {"": "tuple", "items": _value(rng)},
        lambda: array(rng.choice(_SHAPES), rng.choice(_DTYPES)),
        lambda: array([rng.randrange(6) for _ in range(rng.randrange(4))], "<f8"),
        lambda: scalar(rng.choice(_DTYPES)),
        lambda: box(
            rng.choice(([100_000, 100_000], [1 << 26], [3], [-3], [0])), rng.choice(_DTYPES)
        ),
        lambda: {"space": "Dict", "parts": [[str(i), box([2000, 1000])] for i in range(30)]},
        lambda: {"space": "Text", "min_length": 0, "max_length": 10**12, "charset": "ab"},
        lambda: {"python": "/bin/false", "worker": 1, "reset": 2, "__class__": 3},
        lambda: [_value(rng) for _ in range(rng.randrange(3))],
        lambda: np.random.default_rng(rng.randrange(99)).integers(0, 9, 5).tolist(),
    )
    return rng.choice(made)()


def _spoil(rng: random.Random, tree: Tree) -> None:
    """Replaces, removes or adds something somewhere in a tree."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        inner = [key for key in keys if isinstance(tree[key], dict | list) and tree[key]]
        if not inner or rng.random() < 0.3:
            break
        tree = tree[rng.choice(inner)]
    if not keys:
        return
    key, action = rng.choice(keys), rng.random()
    if action < 0.7:
        tree[key] = _value(rng)
    elif action < 0.85:
        del tree[key]
    elif isinstance(tree, dict):
        tree[rng.choice(("python", "worker", "", "x", "success"))] = _value(rng)
    else:
        tree.insert(rng.randrange(len(tree) + 1), _value(rng))


def _declared(tree: Tree) -> int:
    """Bytes that the arrays of a tree declare, about."""
    if isinstance(tree, list):
        return sum(map(_declared, tree))
    if not isinstance(tree, dict):
        return 0
    shape = tree.get("shape")
    if tree.get("") in ("array", "scalar") and isinstance(shape, list):
        try:
            return min(abs(math.prod(map(int, shape))), 1 << 16) * 8 + 16
        except (TypeError, ValueError, OverflowError):
            return 64
    return sum(map(_declared, tree.values()))
