"""Damages that an agent folder can have, drawn at random; the hashes are made to agree."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vp_agent.files import hash_tree, write_json

NUMBERS: list[Any] = [-1, 0, 1, 3, 10**5, 10**9, 10**30, -(10**9), 0.5, -0.5, 1e-300, 1e30]
ODD: list[Any] = [True, False, None, "7", "", "NaN", [], {}, [1], {"a": 1}, [[[[[[[[[1]]]]]]]]]]
# Put into the text itself, as json.dumps would not write them (or not all of them).
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', "[" * 5000, "00", "'a'"]
WORDS = ["", "x", "../x", "mid_block", "up_blocks.9", "conv_in", "DownBlock2D", "relu", "\x00", "ü"]
UNKNOWN = ["attn_implementation", "torch_dtype", "auto_map", "_class_name", "pad_token_id", "x"]


def damage(folder: Path, kind: str, rng: random.Random) -> str:
    """Does one damage of a kind in KINDS, signs the folder anew; the file it is in."""
    name = KINDS[kind](folder, rng)
    if name != "manifest.json" and (folder / "manifest.json").is_file():
        write_json(folder / "manifest.json", hash_tree(folder))
    return name


def _leaves(value: Any, path: Any = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(inner, dict | list):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key)


def _edit(path: Path, change: Callable[[Any, tuple[Any, ...]], Any], rng: random.Random) -> None:
    """Changes what is at a random place: `change` gets the parent and the key."""
    values = json.loads(path.read_text())
    # Long lists (a vocabulary, merges) count as much as one field.
    places = [x for x in _leaves(values) if len(x) < 3 or rng.random() < 0.2]
    place: Any = rng.choice(places)
    parent = values
    for key in place[:-1]:
        parent = parent[key]
    change(parent, place[-1])
    path.write_text(json.dumps(values))


def _number(path: Path, rng: random.Random) -> None:
    def change(parent: Any, key: Any) -> None:
        old = parent[key]
        scaled = [old * 2, old * 1000, -old, old + 1] if type(old) in (int, float) else []
        parent[key] = rng.choice(NUMBERS + scaled)

    _edit(path, change, rng)


def _odd(path: Path, rng: random.Random) -> None:
    def change(parent: Any, key: Any) -> None:
        parent[key] = copy.deepcopy(rng.choice(ODD + WORDS))

    _edit(path, change, rng)


def _drop(path: Path, rng: random.Random) -> None:
    _edit(path, lambda parent, key: parent.pop(key), rng)


def _add(path: Path, rng: random.Random) -> None:
    def change(parent: Any, key: Any) -> None:
        if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            parent[rng.choice(UNKNOWN)] = copy.deepcopy(rng.choice(ODD + NUMBERS + WORDS))

    _edit(path, change, rng)


def _raw(path: Path, rng: random.Random) -> None:
    _edit(path, lambda parent, key: parent.__setitem__(key, "@here@"), rng)
    path.write_text(path.read_text().replace('"@here@"', rng.choice(RAW)))


def _twice(path: Path, rng: random.Random) -> None:
    text = path.read_text()
    at = rng.choice([i for i, letter in enumerate(text[:4000]) if letter == "{"])
    path.write_text(text[: at + 1] + '"again": 1, "again": 2, ' + text[at + 1 :])


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    how = rng.randrange(7)
    if how == 0:
        data = data[: rng.randrange(len(data))]
    elif how == 1:
        data = bytearray()
    elif how == 2:
        data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)
    elif how == 3:
        data = bytearray(b"\xff\xfe") + data
    elif how == 4:
        data = data + rng.randbytes(20)
    elif how == 5:
        data = bytearray(rng.randbytes(300))
    else:
        at = rng.randrange(min(len(data), 3000))
        data[at:at] = rng.randbytes(8)
    path.write_bytes(bytes(data))


JSON_DAMAGES = (_number, _number, _number, _odd, _odd, _drop, _add, _raw, _twice, _bytes)


def _json(folder: Path, names: list[str], rng: random.Random) -> str:
    name = rng.choice([name for name in names if (folder / name).is_file()])
    rng.choice(JSON_DAMAGES)(folder / name, rng)
    return name


def damage_config(folder: Path, rng: random.Random) -> str:
    return _json(folder, ["config.json"], rng)


def damage_tokenizer(folder: Path, rng: random.Random) -> str:
    names = ["tokenizer/tokenizer.json", "tokenizer/tokenizer.json"]
    return _json(folder, [*names, "tokenizer/tokenizer_config.json"], rng)


def damage_library_json(folder: Path, rng: random.Random) -> str:
    names = [str(x.relative_to(folder)) for x in folder.rglob("*config.json")]
    return _json(folder, sorted(x for x in names if "/" in x and "tokenizer" not in x), rng)


def damage_manifest(folder: Path, rng: random.Random) -> str:
    return _json(folder, ["manifest.json"], rng)


def _weights(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(folder.rglob("*.safetensors")))


def _name(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder))


def damage_values(folder: Path, rng: random.Random) -> str:
    path = _weights(folder, rng)
    state = load_file(path)
    keys = [key for key, x in state.items() if x.is_floating_point() and x.numel()]
    key = rng.choice(keys)
    how = rng.randrange(8)
    if how == 0:
        state[key].view(-1)[rng.randrange(state[key].numel())] = float("nan")
    elif how == 1:
        number = rng.choice([1.0, -1.0]) * float("inf")
        state[key].view(-1)[rng.randrange(state[key].numel())] = number
    elif how == 2:
        state[key] = state[key] * rng.choice([1e4, 1e8, 1e30])
    elif how == 3:
        state[key] = torch.zeros_like(state[key])
    elif how == 4:
        state[key] = torch.randn_like(state[key]) * rng.choice([10, 1e3, 3e3, 1e6])
    elif how == 5:  # the whole file
        scale = rng.choice([-1, 10, 1e3, 1e5, 1e20])
        state = {k: x * scale if x.is_floating_point() else x for k, x in state.items()}
    elif how == 6:
        state[key] = state[key].double() * 1e300
    else:
        state[key] = torch.full_like(state[key], rng.choice([-1.0, 1e-40, 9e3, 1e38]))
    save_file(state, path, metadata={"format": "pt"})
    return _name(folder, path)


def damage_shapes(folder: Path, rng: random.Random) -> str:
    path = _weights(folder, rng)
    state = load_file(path)
    key = rng.choice(list(state))
    tensor, how = state[key], rng.randrange(8)
    if how == 0:
        del state[key]
    elif how == 1:
        state[key + "x"] = state.pop(key)
    elif how == 2:
        state["extra"] = torch.zeros(3)
    elif how == 3:
        state[key] = tensor.reshape(-1)
    elif how == 4:
        state[key] = tensor[None].contiguous()
    elif how == 5:
        state[key] = tensor[:0].contiguous() if tensor.ndim else tensor
    elif how == 6:
        state[key] = torch.cat([tensor, tensor]) if tensor.ndim else torch.zeros(2)
    else:
        kinds = [torch.int8, torch.int64, torch.bool, torch.float16, torch.float64, torch.complex64]
        state[key] = tensor.to(rng.choice([*kinds, torch.bfloat16, torch.float8_e4m3fn]))
    save_file(state, path, metadata={"format": "pt"})
    return _name(folder, path)


def damage_weight_bytes(folder: Path, rng: random.Random) -> str:
    path = _weights(folder, rng)
    _bytes(path, rng)
    return _name(folder, path)


def damage_files(folder: Path, rng: random.Random) -> str:
    files = sorted(x for x in folder.rglob("*") if x.is_file() and x.name != "README.md")
    path, how = rng.choice(files), rng.randrange(7)
    if how == 0:
        path.unlink()
    elif how == 1:
        path.unlink()
        path.mkdir()
    elif how == 2:
        path.unlink()
        path.symlink_to(path.name)  # to itself
    elif how == 3:
        path.unlink()
        os.mkfifo(path)
    elif how == 4:
        shutil.copy(rng.choice([x for x in files if x != path]), path)
    elif how == 5:
        shutil.rmtree(path.parent) if path.parent != folder else path.unlink()
    else:
        other = rng.choice([x for x in files if x != path])
        path.write_bytes(other.read_bytes()[: rng.randrange(2000)])
    return _name(folder, path)


KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "config.json": damage_config,
    "weights: values": damage_values,
    "weights: names, shapes, types": damage_shapes,
    "weights: bytes": damage_weight_bytes,
    "tokenizer": damage_tokenizer,
    "other libraries' JSON": damage_library_json,
    "manifest.json": damage_manifest,
    "files": damage_files,
}
