"""What a worker and its parent may say to each other: the schema of their messages, with sizes.

Both ends check a message once, when it has come, and believe it then. The dataclasses are the
schema; what a simulator gives is held against its own spaces.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from vp_agent.envs.worker_spaces import check_observation, space_from_message
from vp_agent.errors import WorkerError, require
from vp_agent.typed import Misfit, brief, fit, is_a

PROTOCOL = 3  # of messages and calls; raise it with every change of either
CALLS = ("make", "reset", "step", "step_chunk", "render", "lacking", "close")
POLICY_CALLS = ("load_policy", "reset_policy", "act")
POLICIES = ("lerobot", "robomimic")  # kinds of policies of other packages
# what others ask of an environment besides Gymnasium's own words
MIRRORED = (
    "control_hz",
    "horizon",
    "instruction",
    "metadata",
    "protocol",
    "render_mode",
    "render_quality",
    "resolution",
    "task",
    "terminate_on_success",
    "transform",
    "views",
)
_MAX_TEXT = 20_000  # characters of an error; more is cut off
_MAX_DEADLINE_S = 1e6  # more overflows some systems' timers
_MAX_LINES = 1000  # classes of an error, warnings

Message = TypeVar("Message")


@dataclass(frozen=True)
class Hello:
    """A worker's first message: what is in its interpreter."""

    protocol: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Request:
    """A call, and the seconds it may take."""

    call: str
    deadline_s: float
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        _expect(self.call in (*CALLS, *POLICY_CALLS), "call", self.call)
        _expect(0 < self.deadline_s <= _MAX_DEADLINE_S, "deadline_s", self.deadline_s)


@dataclass(frozen=True)
class Failure:
    """An exception: modules and names of its classes, the most special one first."""

    classes: list[list[str]]
    message: str
    traceback: str

    def __post_init__(self) -> None:
        pairs = all(len(pair) == 2 for pair in self.classes)
        _expect(pairs and 0 < len(self.classes) <= _MAX_LINES, "classes", self.classes)

    @property
    def name(self) -> str:
        """Name of the class."""
        return printable(self.classes[0][1][:100])

    @property
    def text(self) -> str:
        """The message, if need be cut off, without what a terminal would obey."""
        return printable(self.message[:_MAX_TEXT])


@dataclass(frozen=True)
class Answer:
    """What a call gave: a result or an error, and the warnings of the environment."""

    warnings: list[str]
    result: Any
    error: dict[str, Any] | None

    def __post_init__(self) -> None:
        _expect(len(self.warnings) <= _MAX_LINES, "warnings", self.warnings)
        _ = self.failure  # raises if it is none

    @property
    def failure(self) -> Failure | None:
        """The error as a message."""
        return None if self.error is None else read(Failure, self.error)


@dataclass(frozen=True)
class Made:
    """A new environment; its spaces are of the kind that `space_to_message` gives."""

    action_space: Any
    observation_space: Any
    attributes: dict[str, Any]

    def __post_init__(self) -> None:
        _check_attributes(self.attributes)


@dataclass(frozen=True)
class PolicyFacts:
    """What a policy of another package says of itself before it flies."""

    env_kwargs: dict[str, Any]
    action_dim: int
    device: str
    gpu: str
    torch: str | None
    facts: dict[str, str | float | None]

    def __post_init__(self) -> None:
        # Others could name an interpreter, which would be started.
        _expect(self.env_kwargs.keys() <= {"views", "resolution"}, "env_kwargs", self.env_kwargs)
        _expect(1 <= self.action_dim <= 1024, "action_dim", self.action_dim)


Started = tuple[Any, dict[str, Any], dict[str, Any]]  # observation, info, attributes
Stepped = tuple[Any, float, bool, bool, dict[str, Any]]


def printable(text: str) -> str:
    """A text of another process without what a terminal would obey."""
    return "".join(x if x.isprintable() or x in "\n\t" else ascii(x)[1:-1] for x in text)


def check_deadline(deadline_s: float) -> None:
    """Raises `ConfigError` unless calls can have this deadline."""
    require(
        0 < deadline_s <= _MAX_DEADLINE_S,  # also refuses NaN
        f"deadline_s must be a positive number of seconds, at most {_MAX_DEADLINE_S:g}, not "
        f"{deadline_s}",
    )


def read_made(result: Any) -> Made:
    """The result of `make`, with spaces of Gymnasium's."""
    made: Made = read(Made, result)
    spaces = space_from_message(made.action_space), space_from_message(made.observation_space)
    return Made(*spaces, attributes=made.attributes)


def check_started(space: gym.Space, result: Any) -> Started:
    """The result of `reset`."""
    _expect(isinstance(result, tuple) and len(result) == 3, "an episode's start", result)
    observation, info, attributes = result
    check_observation(space, observation)
    _check_info(info)
    _expect(isinstance(attributes, dict), "attributes", attributes)
    _check_attributes(attributes)
    return result


def check_stepped(space: gym.Space, result: Any, *, at_most: int | None = None) -> Stepped:
    """The result of `step`, or of `step_chunk` with `at_most` so many actions."""
    _expect(isinstance(result, tuple) and len(result) == 5, "a step", result)
    observation, reward, terminated, truncated, info = result
    check_observation(space, observation)
    kind = reward.dtype.kind if isinstance(reward, np.ndarray | np.generic) else ""
    number = isinstance(reward, int | float) or (kind in tuple("biuf") and reward.shape == ())
    _expect(number, "the reward", reward)
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        _expect(_is_flag(value), name, value)
    _check_info(info)
    if at_most is not None:  # else the same actions would be sent for ever
        steps = info.get("chunk_steps")
        _expect(type(steps) is int and 1 <= steps <= at_most, "info['chunk_steps']", steps)
    return result


def check_action(action_dim: int, result: Any) -> np.ndarray:
    """The result of `act`."""
    is_one = isinstance(result, np.ndarray) and result.dtype.kind in "biuf"
    if not is_one or result.shape != (action_dim,):
        raise WorkerError(f"expected an action of {action_dim} numbers, and {brief(result)} came")
    return result


def check_lacking(result: Any) -> tuple[str, str]:
    """The result of `lacking`: what, and the command that brings it."""
    _expect(is_a(result, list[str]) and len(result) == 2, "what is missing", result)
    return result[0], result[1]


def check_nothing(result: Any) -> None:
    """The result of a call that only does something."""
    _expect(result is None, "the result", result)


def read(schema: type[Message], value: Any) -> Message:
    """The message as a dataclass of the schema.

    Raises:
        WorkerError: it is none.
    """
    try:
        return fit(schema, value)
    except Misfit as error:
        what = schema.__name__.lower()
        raise WorkerError(f"not a message of a worker: its {what} {error}") from error


def _check_info(info: Any) -> None:
    _expect(isinstance(info, dict), "info", info)
    if "is_success" in info:
        _expect(_is_flag(info["is_success"]), "info['is_success']", info["is_success"])


def _check_attributes(attributes: dict[Any, Any]) -> None:
    """They become attributes of the environment here: none but these may be set."""
    _expect(set(attributes) <= set(MIRRORED), "attributes", attributes)
    _expect(isinstance(attributes.get("metadata", {}), dict), "metadata", attributes)
    for name in ("horizon", "control_hz"):
        value = attributes.get(name)
        known = isinstance(value, int | float | np.number) and value is not True
        _expect(value is None or bool(known and 0 < value < math.inf), name, value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _expect(condition: bool, what: str, value: Any) -> None:
    if not condition:
        raise WorkerError(f"not a message of a worker: {what} cannot be {brief(value)}")
