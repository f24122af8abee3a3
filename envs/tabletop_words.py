"""Instructions of the Tabletop tasks: five motions, three places, three colours, three wordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from vp_agent.errors import UnknownNameError, closest

Naming = Literal["place", "colour"]
Shift = Literal["places", "colours", "sizes", "table", "camera"]
SHIFTS: tuple[Shift, ...] = ("places", "colours", "sizes", "table", "camera")
HORIZON = 100  # steps of 1/20 s; the slowest demonstration takes about 70

# Wording k of a task is phrase k with noun k, so two wordings of a task share as little as possible
PHRASES = {
    "Lift": ("lift the {}", "pick up the {}", "raise the {}"),
    "Push": ("push the {} forward", "slide the {} away", "shove the {} ahead"),
    "Pull": ("pull the {} back", "drag the {} closer", "draw the {} near"),
    "PutInto": (
        "put the {} into the bin",
        "place the {} inside the container",
        "drop the {} in the box",
    ),
    "PutBeside": (
        "put the {} beside the bin",
        "place the {} next to the container",
        "set the {} down by the box",
    ),
}
NOUNS: dict[Naming, dict[str, tuple[str, str, str]]] = {
    # as the view `left` shows them
    "place": {
        "left": ("left cube", "first cube", "cube on the left"),
        "middle": ("middle cube", "second cube", "cube in the middle"),
        "right": ("right cube", "third cube", "cube on the right"),
    },
    "colour": {
        colour: (f"{colour} cube", f"{colour} block", f"{colour} object")
        for colour in ("red", "teal", "black")
    },
}
PLACES = tuple(NOUNS["place"])
COLOURS = tuple(NOUNS["colour"])
WORDINGS = 3


@dataclass(frozen=True)
class Instruction:
    """One sentence and what it asks for.

    Attributes:
        text: what a policy is given.
        motion: name of the motion, one of `PHRASES`.
        naming: how the cube is named.
        name: the cube: its place at the start, or its colour.
    """

    text: str
    motion: str
    naming: Naming
    name: str


@dataclass(frozen=True)
class TabletopTask:
    """What one environment id may ask for; `motions` are names of `PHRASES`."""

    motions: tuple[str, ...]
    naming: Naming


def _tasks() -> dict[str, TabletopTask]:
    ids: dict[Naming, str] = {"place": "Tabletop", "colour": "TabletopColour"}
    return {
        f"{prefix}-{name}": TabletopTask(motions, naming)
        for naming, prefix in ids.items()
        for name, motions in {**{m: (m,) for m in PHRASES}, "All": tuple(PHRASES)}.items()
    }


TASKS = _tasks()


def instruction_text(motion: str, name: str, *, naming: Naming, wording: int) -> str:
    """The sentence for one motion with one cube."""
    return PHRASES[motion][wording].format(NOUNS[naming][name][wording])


def instructions_of(task: TabletopTask) -> tuple[Instruction, ...]:
    """What the task's seeds ask for in turn: every motion, then every cube, then the wordings."""
    return tuple(
        Instruction(
            instruction_text(motion, name, naming=task.naming, wording=wording),
            motion,
            task.naming,
            name,
        )
        for wording in range(WORDINGS)
        for name in NOUNS[task.naming]
        for motion in task.motions
    )


def _known() -> dict[str, Instruction]:
    """Every phrase with every noun, also those that no task asks for by itself."""
    known = {}
    for (motion, phrases), naming in product(PHRASES.items(), NOUNS):
        for name, nouns in NOUNS[naming].items():
            for phrase, noun in product(phrases, nouns):
                known[phrase.format(noun)] = Instruction(phrase.format(noun), motion, naming, name)
    return known


_KNOWN = _known()


def read_instruction(text: str, motions: Sequence[str] = tuple(PHRASES)) -> Instruction:
    """What a sentence asks for.

    Raises:
        UnknownNameError: it is not one of theirs, or asks for a motion not among `motions`.
    """
    if text not in _KNOWN:
        examples = [phrases[0].format("left cube") for phrases in PHRASES.values()]
        raise UnknownNameError(
            f"no instruction {text!r}{closest(text, _KNOWN)} For example: {', '.join(examples)}"
        )
    instruction = _KNOWN[text]
    if instruction.motion not in motions:
        raise UnknownNameError(
            f"{text!r} asks for {instruction.motion}, and this environment for "
            f"{', '.join(motions)}; make Tabletop-{instruction.motion}-v0 or Tabletop-All-v0"
        )
    return instruction
