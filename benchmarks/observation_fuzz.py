"""Odd observations, seeds and actions at random: the plan of the plain ones, or a typed error?

python benchmarks/observation_fuzz.py --inputs 1000
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from vp_agent import VideoPolicyAgent
from vp_agent.errors import ActionError, ConfigError, ObservationError
from vp_agent.wrappers.finite_action import finite_numbers

TASK = "lift the cube"
Change = Callable[[Any], Any]


class Evil:
    """Raises wherever it is touched."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("evil")

    def __repr__(self) -> str:
        raise RuntimeError("evil")

    __len__ = __getitem__ = __iter__ = __repr__  # type: ignore[assignment]


def _moved(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1)


# the same numbers, otherwise held
SAME: dict[str, Change] = {
    "as it is": lambda x: x,
    "Fortran order": np.asfortranarray,
    "axes moved": _moved,
    "negative strides": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "tensor": torch.from_numpy,
    "tensor, axes moved": lambda x: torch.from_numpy(_moved(x)),
    "sparse tensor": lambda x: torch.from_numpy(x).to_sparse(),
    "masked nowhere": np.ma.array,
    "record array": lambda x: x.view(np.recarray),
    "list of rows": list,
    "memoryview": lambda x: memoryview(np.ascontiguousarray(x)),
}
# what nothing takes for numbers
NEVER: dict[str, Change] = {
    "None": lambda x: None,
    "string": lambda x: "abc",
    "bytes": lambda x: x.tobytes(),
    "strings": lambda x: x.astype("U8"),
    "complex": lambda x: x.astype(complex),
    "dates": lambda x: x.astype("M8[s]"),
    "records": lambda x: np.zeros(x.shape, [("a", "u1")]),
    "objects": lambda x: np.full(x.shape, None),
    "ragged": lambda x: [[1], [2, 3]],
    "masked": lambda x: np.ma.array(x, mask=np.ones(x.shape, bool)),
    "NaN": lambda x: np.full(x.shape, np.nan),
    "infinite": lambda x: np.full(x.shape, np.inf),
    "huge": lambda x: np.full(x.shape, 10**400, object),
    "meta tensor": lambda x: torch.empty(x.shape, dtype=torch.uint8, device="meta"),
    "dict": lambda x: {"a": 1},
    "set": lambda x: {1, 2},
    "generator": lambda x: (i for i in range(3)),
    "evil": lambda x: Evil(),
    "class": lambda x: Evil,
}
NO_IMAGE: dict[str, Change] = {
    "grey": lambda x: x[..., 0],
    "channels first": lambda x: np.moveaxis(x, -1, -3),
    "four channels": lambda x: np.concatenate([x, x[..., :1]], -1),
    "half size": lambda x: x[..., ::2, ::2, :],
    "an axis more": lambda x: x[None, None],
    "signed": lambda x: x.astype(np.int8),
    "float": lambda x: x / np.float32(255),
    "gradient": lambda x: torch.from_numpy(x / 255.0).requires_grad_(),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "no pixels": lambda x: x[:0],
}
STATES: dict[str, Change] = {
    "gradient": lambda x: torch.from_numpy(x).requires_grad_(),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "truth": lambda x: x > 0,
    "objects of numbers": lambda x: x.astype(object),
    "wide": lambda x: np.concatenate([x] * 9, -1),
}
TASKS: dict[str, Change] = {
    "NumPy's string": np.str_,
    "array of none": np.array,
    "list": lambda x: [x],
    "array": lambda x: np.array([x]),
    "object array": lambda x: np.array([x], object),
}
NO_TASK: dict[str, Change] = {
    "None": lambda x: None,
    "number": lambda x: 1.5,
    "empty": lambda x: "",
    "blank": lambda x: "\t\n",
    "bytes": lambda x: x.encode(),
    "array of bytes": lambda x: np.array(x.encode()),
    "surrogate": lambda x: x + "\ud800",
    "nested": lambda x: [[x]],
    "two": lambda x: [x, x, x, x, x],
    "set": lambda x: {x},
    "generator": lambda x: iter([x]),
    "tensor": lambda x: torch.ones(1, dtype=torch.float32, device="cpu"),
    "evil": lambda x: Evil(),
}
SEEDS = (0, 7, np.int64(7), np.uint8(7), np.array(7), True, -1, 2**63, 2**64, -(2**80), 10**5000)
NO_SEEDS = (None, 1.0, "7", b"7", {7}, {7: 1}, [0.5], np.nan, 1j, torch.ones, np.array("7"))


@dataclass(frozen=True)
class Settings:
    """What to do."""

    inputs: int = 1000
    """How many."""
    seed: int = 0
    """Of the choices."""
    agent: str = "packaged:lift"
    """Who plans."""


def main(settings: Settings) -> None:
    """Prints a Markdown table, and what was wrong."""
    rng, started = np.random.default_rng(settings.seed), time.monotonic()
    agent = VideoPolicyAgent.from_pretrained(settings.agent, device="cpu", steps=1)
    outcomes: dict[str, Counter[str]] = {}
    wrong = []
    parts = {"image": _image, "state": _state, "task": _task, "keys": _keys, "seed": _seed}
    parts["action"] = _action
    for number in range(settings.inputs):
        part = list(parts)[number % len(parts)]
        name, wanted, found = parts[part](agent, rng)
        right = wanted == found
        outcomes.setdefault(part, Counter())["right" if right else "wrong"] += 1
        outcomes[part]["refused" if found == "refused" else "taken"] += 1
        if not right:
            wrong.append(f"{part}, {name}: {found if isinstance(found, str) else 'another plan'}")
    print("| odd | inputs | planned as the plain one | refused by a typed error | wrong |")
    print("|---|---|---|---|---|")
    for part, counts in outcomes.items():
        total = counts["right"] + counts["wrong"]
        print(f"| {part} | {total} | {counts['taken']} | {counts['refused']} | {counts['wrong']} |")
    print(f"\n{settings.inputs} inputs, {len(wrong)} wrong, {time.monotonic() - started:.0f} s")
    for line in sorted(set(wrong)):
        print(f"- {line}")


Outcome = tuple[str, Any, Any]


def _observation(agent: VideoPolicyAgent, rng: np.random.Generator) -> dict[str, Any]:
    lanes = rng.choice([0, 1, 2])
    head = (lanes,) if lanes else ()
    shape = (*head, *agent.config.resolution, 3)
    return {
        "pixels": {view: rng.integers(0, 256, shape, np.uint8) for view in agent.config.views},
        "agent_pos": rng.normal(size=(*head, 8)).astype(np.float32),
        "task": (TASK,) * int(lanes) if lanes else TASK,
    }


def _planned(agent: VideoPolicyAgent, obs: Any, seed: Any = 3) -> Any:
    try:
        return agent.plan(obs, seed=seed).actions.tobytes()
    except (ObservationError, ConfigError) as error:
        return "refused" if str(error) else "an empty message"
    except BaseException as error:
        return f"raw {type(error).__name__}: {error}"[:200]


def _pick(rng: np.random.Generator, good: dict[str, Change], bad: dict[str, Change]) -> Any:
    known = good if rng.random() < 0.5 else bad
    name = str(rng.choice(list(known)))
    return name, known is good, known[name]


def _image(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    obs = _observation(agent, rng)
    single = {"Pillow": Image.fromarray} if np.ndim(obs["agent_pos"]) == 1 else {}
    name, good, change = _pick(rng, {**SAME, **single}, {**NEVER, **NO_IMAGE})
    wanted = _planned(agent, obs) if good else "refused"
    for view in [*obs["pixels"]][: rng.integers(1, 3)]:
        obs["pixels"][view] = change(obs["pixels"][view])
    return name, wanted, _planned(agent, obs)


def _state(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    obs = _observation(agent, rng)
    name, good, change = _pick(rng, {**SAME, **STATES}, NEVER)
    wanted = _planned(agent, obs) if good else "refused"
    return name, wanted, _planned(agent, {**obs, "agent_pos": change(obs["agent_pos"])})


def _task(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    obs = _observation(agent, rng)
    while np.ndim(obs["agent_pos"]) == 2:
        obs = _observation(agent, rng)
    name, good, change = _pick(rng, TASKS, NO_TASK)
    wanted = _planned(agent, obs) if good else "refused"
    return name, wanted, _planned(agent, {**obs, "task": change(TASK)})


def _keys(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    obs = _observation(agent, rng)
    odd = [3, None, ("a",), "zz", b"pixels", 1.5][rng.integers(6)]
    lost = str(rng.choice(["agent_pos", "task", "pixels", "view", "nothing"]))
    wanted = _planned(agent, obs) if lost in ("agent_pos", "nothing") else "refused"
    if lost == "view":
        del obs["pixels"][agent.config.views[0]]
    else:
        obs.pop(lost, None)
    where = obs.get("pixels", obs) if rng.random() < 0.5 else obs
    where[odd] = Evil()
    return f"{odd!r} beside, {lost} lost", wanted, _planned(agent, obs)


def _seed(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    obs = _observation(agent, rng)
    while np.ndim(obs["agent_pos"]) == 2:
        obs = _observation(agent, rng)
    if rng.random() < 0.5:
        seed = NO_SEEDS[rng.integers(len(NO_SEEDS))]
        return type(seed).__name__, "refused", _planned(agent, obs, seed)
    seed = SEEDS[rng.integers(len(SEEDS))]
    return "whole", _planned(agent, obs, [int(seed)]), _planned(agent, obs, seed)


def _action(agent: VideoPolicyAgent, rng: np.random.Generator) -> Outcome:
    action = rng.uniform(-1, 1, 7)
    shapes: dict[str, Change] = {"six": lambda x: x[:6], "a chunk": lambda x: x[None]}
    kept = {name: change for name, change in STATES.items() if name.startswith(("grad", "obj"))}
    name, good, change = _pick(rng, {**SAME, **kept}, {**NEVER, **shapes})
    try:
        found = finite_numbers(change(action), (7,)).tobytes()
    except ActionError:
        found = "refused"
    except BaseException as error:
        found = f"raw {type(error).__name__}: {error}"[:200]
    return name, action.tobytes() if good else "refused", found


if __name__ == "__main__":
    main(tyro.cli(Settings))
