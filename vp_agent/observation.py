"""Reads an environment's observation once, at the border; inside, shapes and types are trusted."""

# B lanes, V views, H W image height/width, n numbers of agent_pos

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_agent.agent_config import AgentConfig
from vp_agent.errors import ObservationError, closest


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
    """Checks `{"pixels": {view: uint8 (H, W, 3)}, "agent_pos": float (n,), "task": str}`.

    A leading axis on the images (and a sequence of tasks) makes it a batch. What was read before
    is trusted.

    Raises:
        ObservationError: names the part that is missing or malformed.
    """
    if isinstance(obs, Observation):
        return obs
    if not isinstance(obs, Mapping):
        hint = ": `env.reset()` gives observation and info" if isinstance(obs, tuple) else ""
        raise ObservationError(f"expected an observation (a dict), got {_kind(obs)}{hint}")
    for part in ("pixels", "agent_pos", "task"):
        if part not in obs:
            raise ObservationError(f"the observation has no {part!r}; it has {sorted(obs)}")
    pixels = obs["pixels"]
    if not isinstance(pixels, Mapping):
        raise ObservationError(f"pixels must be a dict of views, got {_kind(pixels)}")
    images = []
    for view in config.views:
        if view not in pixels:
            raise ObservationError(
                f"no view {view!r} in pixels{closest(view, pixels)}; it has {sorted(pixels)}"
            )
        image = np.asarray(pixels[view])
        wanted = (*config.resolution, 3)
        if image.shape[-3:] != wanted or image.ndim not in (3, 4):
            raise ObservationError(
                f"view {view!r} has shape {image.shape}, expected {wanted} (height, width, RGB); "
                "make the environment with **agent.env_kwargs"
            )
        if image.dtype != np.uint8:
            raise ObservationError(f"view {view!r} is {image.dtype}, expected uint8 in 0..255")
        images.append(image)
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
    _check_position(obs["agent_pos"], count if batched else None)
    tasks = (obs["task"],) if isinstance(obs["task"], str) else obs["task"]
    if not isinstance(tasks, Sequence | np.ndarray):
        raise ObservationError(f"the task must be an instruction in words, got {tasks!r}")
    tasks = tuple(tasks)
    if len(tasks) != count:
        raise ObservationError(f"{len(tasks)} tasks for {count} lanes")
    for task in tasks:
        if not isinstance(task, str) or not task.strip():
            raise ObservationError(f"the task must be an instruction in words, got {task!r}")
    stacked = np.stack(images, axis=1) if batched else np.stack(images)[None]
    return Observation(images_BVHW3=stacked, tasks=tasks, batched=batched)


def _check_position(agent_pos: Any, lanes: int | None) -> None:
    try:
        position = np.asarray(agent_pos, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"agent_pos must be numbers, got {_kind(agent_pos)}") from error
    if not np.isfinite(position).all():
        raise ObservationError(f"agent_pos is not finite: {position}")
    if lanes is not None and len(np.atleast_1d(position)) != lanes:
        raise ObservationError(f"agent_pos has shape {position.shape}, the images {lanes} lanes")


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
