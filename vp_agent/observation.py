"""Reads an environment's observation once, at the border; inside, shapes and types are trusted."""

# B lanes, V views, H W image height/width, n numbers of agent_pos

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_agent.agent_config import AgentConfig
from vp_agent.errors import ObservationError, closest, short
from vp_agent.read_numbers import read_array, read_floats


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A checked observation; one lane if it was not `batched`."""

    images_BVHW3: np.ndarray
    tasks: tuple[str, ...]
    batched: bool

    def take(self, lanes: Sequence[int]) -> "Observation":
        """The observation of some lanes."""
        return Observation(
            images_BVHW3=self.images_BVHW3[list(lanes)],
            tasks=tuple(self.tasks[i] for i in lanes),
            batched=self.batched,
        )


def read_observation(obs: Mapping[str, Any] | Observation, config: AgentConfig) -> Observation:
    """Checks `{"pixels": {view: uint8 (H, W, 3)}, "task": str}`.

    A leading axis on the images (and a sequence of tasks) makes it a batch. `agent_pos` (n,) may
    be missing, because no policy of this package reads it; what is there must be finite numbers.
    Arrays, tensors and images of Pillow do, in any memory layout. What was read before is trusted.

    Raises:
        ObservationError: names the part that is missing or malformed.
    """
    if isinstance(obs, Observation):
        return obs
    try:
        return _read(obs, config)
    except ObservationError:
        raise
    except Exception as error:  # a foreign object's methods may raise anything
        raise ObservationError(
            f"the observation cannot be read ({type(error).__name__} inside {_kind(obs)})"
        ) from error


def _read(obs: Mapping[str, Any], config: AgentConfig) -> Observation:
    if not isinstance(obs, Mapping):
        hint = ": `env.reset()` gives observation and info" if isinstance(obs, tuple) else ""
        raise ObservationError(f"expected an observation (a dict), got {_kind(obs)}{hint}")
    for part in ("pixels", "task"):
        if part not in obs:
            raise ObservationError(f"the observation has no {part!r}; it has {_names(obs)}")
    images = _read_images(obs["pixels"], config)
    dims = {image.ndim for image in images}
    if len(dims) != 1:
        raise ObservationError("some views have a batch axis and some have not")
    batched = dims == {4}
    lanes = {len(image) for image in images} if batched else {1}
    if len(lanes) != 1:
        raise ObservationError(f"the views have different numbers of lanes: {sorted(lanes)}")
    (count,) = lanes
    if not count:
        raise ObservationError("the observation is of 0 lanes")
    if "agent_pos" in obs:
        _check_position(obs["agent_pos"], count if batched else None)
    tasks = _read_tasks(obs["task"], count)
    # One layout for all: convolutions of other strides round differently.
    images_BVHW3 = np.empty((count, len(images), *config.resolution, 3), np.uint8)
    for view, image in enumerate(images):
        images_BVHW3[:, view] = image
    return Observation(images_BVHW3=images_BVHW3, tasks=tasks, batched=batched)


def _read_images(pixels: Any, config: AgentConfig) -> list[np.ndarray]:
    if not isinstance(pixels, Mapping):
        raise ObservationError(f"pixels must be a dict of views, got {_kind(pixels)}")
    images = []
    for view in config.views:
        if view not in pixels:
            raise ObservationError(
                f"no view {view!r} in pixels{closest(view, pixels)}; it has {_names(pixels)}"
            )
        try:
            image = read_array(pixels[view])
        except ValueError as error:
            raise ObservationError(f"view {view!r} must be numbers, {error}") from error
        wanted = (*config.resolution, 3)
        if image.shape[-3:] != wanted or image.ndim not in (3, 4):
            raise ObservationError(
                f"view {view!r} has shape {image.shape}, expected {wanted} (height, width, RGB); "
                "make the environment with **agent.env_kwargs"
            )
        if image.dtype != np.uint8:
            raise ObservationError(f"view {view!r} is {image.dtype}, expected uint8 in 0..255")
        images.append(image)
    return images


def _check_position(agent_pos: Any, lanes: int | None) -> None:
    try:
        position = read_floats(agent_pos)
    except ValueError as error:
        raise ObservationError(f"agent_pos must be numbers, {error}") from error
    if not np.isfinite(position).all():
        raise ObservationError(f"agent_pos is not finite: {reprlib.repr(position.tolist())}")
    if lanes is not None and len(np.atleast_1d(position)) != lanes:
        raise ObservationError(f"agent_pos has shape {position.shape}, the images {lanes} lanes")


def _read_tasks(task: Any, count: int) -> tuple[str, ...]:
    if isinstance(task, np.ndarray) and not task.ndim:
        task = task.item()
    if isinstance(task, str):
        task = (task,)
    if isinstance(task, bytes) or not isinstance(task, Sequence | np.ndarray):
        raise ObservationError(f"the task must be an instruction in words, got {_short(task)}")
    try:
        tasks = tuple(task)
    except Exception as error:  # a foreign sequence may raise anything
        raise ObservationError(f"the tasks cannot be read from {_kind(task)}") from error
    if len(tasks) != count:
        raise ObservationError(f"{len(tasks)} tasks for {count} lanes")
    return tuple(_read_task(each) for each in tasks)


def _read_task(task: Any) -> str:
    if not isinstance(task, str) or not task.strip():
        raise ObservationError(f"the task must be an instruction in words, got {_short(task)}")
    try:
        task.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair: no tokenizer takes it
        raise ObservationError(f"the task is no valid Unicode text: {_short(task)}") from error
    return str.__str__(task)  # a subclass may compare as it likes


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _short(value: object) -> str:
    return f"{_kind(value)}: {short(value)}"


def _names(keys: Iterable[Any]) -> str:
    return reprlib.repr(sorted(map(reprlib.repr, keys))).replace('"', "")
