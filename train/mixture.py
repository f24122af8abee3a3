"""One dataset or several as one: frames and instructions are numbered through."""

# B batch, N frames of all datasets, A action dim

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, distributed

from vp_agent.agent_config import ActionStats, AgentConfig, Config
from vp_agent.errors import DatasetError, UnknownNameError, closest
from vp_agent.train.dataset import Chunk, Demonstrations
from vp_agent.train.notes import check_action_kind, check_one_meaning
from vp_agent.train.settings import TrainSettings
from vp_agent.train.windows import action_range

ActionRange = Literal["check", "keep", "data"]
MOST_OUTSIDE = 0.25  # of the actions; more cannot be a mere difference between demonstrations
LEAST_SPAN = 0.03  # of the agent's range: radians are 0.017 of degrees


class Mixture:
    """Several `Demonstrations` behind the surface of one.

    Args:
        parts: at least one; all fit one policy.
        weights: share of a batch's windows from each part; None: as many as it has frames.
        tasks_with_actions: names of datasets or instructions (`*` stands for any text) whose
            actions may be learned; None: all. The range of the actions stays that of all.
        action_episodes: only the first n episodes of every part have actions to learn.

    Raises:
        DatasetError: the parts' actions mean different things.
        UnknownNameError: a name in `tasks_with_actions` fits nothing.
    """

    def __init__(
        self,
        parts: Sequence[Demonstrations],
        *,
        weights: Sequence[float] | None = None,
        tasks_with_actions: Sequence[str] | None = None,
        action_episodes: int | None = None,
    ) -> None:
        self.parts, self.config = tuple(parts), parts[0].config
        self.name = " + ".join(part.name for part in parts)
        self._starts = np.cumsum([0, *map(len, parts)])[:-1]
        self._first_tasks = np.cumsum([0, *(len(part.tasks) for part in parts)])[:-1]
        self.tasks = [task for part in parts for task in part.tasks]
        self._check_names()
        self.train_N = np.isin(np.arange(sum(map(len, parts))), self.split("train"))
        _check_known(tasks_with_actions or (), parts)
        learned = [_to_learn(part, tasks_with_actions, action_episodes) for part in parts]
        have = np.repeat([part.has_actions for part in parts], [len(part) for part in parts])
        # Held-out episodes keep their actions: they are only measured on.
        self.labelled_N = have & (~self.train_N | np.concatenate(learned))
        self.weights = weights

    def __len__(self) -> int:
        return len(self.train_N)

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the dimensions of the actions are, by the first dataset that says so."""
        named = (part.layout.action_names for part in self.parts if part.has_actions)
        return next(filter(None, named), ())

    def _check_names(self) -> None:
        for part in self.parts:
            if part.has_actions and part.layout.action_names not in ((), self.action_names):
                raise DatasetError(
                    f"{part.root} has the actions {', '.join(part.layout.action_names)}, the "
                    f"others {', '.join(self.action_names)}; if they mean the same, say so in the "
                    "action_names of a key map (docs/data.md)"
                )

    @cached_property
    def actions_NA(self) -> np.ndarray:
        """Every action of the datasets that have some."""
        return np.concatenate([part.actions_NA for part in self.parts if part.has_actions])

    @property
    def action_stats(self) -> ActionStats:
        """Range of every action dimension over all episodes, also those not to be learned."""
        return action_range(self.actions_NA, where=self.name)

    def split(self, name: str) -> np.ndarray:
        """Frame indices of the "train" or "holdout" episodes (the last ones are held out)."""
        splits = zip(self._starts, self.parts, strict=True)
        return np.concatenate([start + part.split(name) for start, part in splits])

    def by_part(self, ids_B: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """For every part that `ids_B` touches: its number, where in `ids_B`, and its own ids."""
        part_B = np.searchsorted(self._starts, ids_B, side="right") - 1
        places = [(int(p), np.flatnonzero(part_B == p)) for p in np.unique(part_B)]
        return [(p, at, ids_B[at] - self._starts[p]) for p, at in places]

    def gather(self, ids_B: np.ndarray, load: Callable[..., Tensor]) -> Tensor:
        """What `load(part number, own ids, where in ids_B)` gives, in the order of `ids_B`."""
        found = self.by_part(ids_B)
        rows = torch.cat([load(p, own, at) for p, at, own in found])
        return rows[np.argsort(np.concatenate([at for _, at, _ in found]))]

    def chunk(self, ids_B: np.ndarray) -> Chunk:
        """Raw action chunks and masks of the windows that start at `ids_B`."""
        chunks = {p: self.parts[p].chunk(own) for p, _, own in self.by_part(ids_B)}
        columns = {
            field.name: self.gather(ids_B, lambda p, _own, _at, x=field.name: getattr(chunks[p], x))
            for field in fields(Chunk)
        }
        first_B = self.gather(
            ids_B,
            lambda p, own, _: torch.full(
                (len(own),), int(self._first_tasks[p]), dtype=torch.int64, device="cpu"
            ),
        )
        return Chunk(**{**columns, "task_B": columns["task_B"] + first_B})

    def pixels(self, ids_B: np.ndarray) -> Tensor:
        """The windows' frames (B, V, T, 3, H, W), uint8, decoded from the videos."""
        return self.gather(ids_B, lambda p, own, _: self.parts[p].pixels(own))


def open_mixture(settings: TrainSettings, config: AgentConfig) -> Mixture:
    """The datasets of `--data`, each through its key map."""
    maps = settings.key_map or (None,)
    maps = maps * len(settings.datasets) if len(maps) == 1 else maps
    parts = [
        Demonstrations(
            root,
            config,
            holdout=settings.holdout,
            action_padding=settings.action_padding,
            key_map=key_map,
        )
        for root, key_map in zip(settings.datasets, maps, strict=True)
    ]
    if not any(part.train_episodes for part in parts):
        counts = " + ".join(str(part.episodes) for part in parts)
        raise DatasetError(
            f"--holdout {settings.holdout:g} leaves none of the {counts} episodes to train on; "
            "give a smaller one (0: hold none out)"
        )
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        for part in parts:
            if not part.has_actions:
                print(f"{part.root} has no actions: only its video can be learned")
    return as_mixture(parts, settings)


def as_mixture(parts: Sequence[Demonstrations], settings: TrainSettings) -> Mixture:
    """Opened datasets, mixed as the settings say."""
    return Mixture(
        parts,
        weights=settings.data_weights,
        tasks_with_actions=settings.tasks_with_actions,
        action_episodes=settings.action_episodes,
    )


def _fits(pattern: str, part: Demonstrations, task: str) -> bool:
    return pattern == part.name or fnmatchcase(task, pattern)


def _to_learn(
    part: Demonstrations, patterns: Sequence[str] | None, episodes: int | None
) -> np.ndarray:
    """Frames (N,) of one part whose actions may be learned."""
    tasks = [patterns is None or any(_fits(x, part, task) for x in patterns) for task in part.tasks]
    limit = part.episodes if episodes is None else episodes
    return np.array(tasks)[part.task_N] & (part.episode_N < limit)


def _check_known(patterns: Sequence[str], parts: Sequence[Demonstrations]) -> None:
    names = {part.name for part in parts} | {task for part in parts for task in part.tasks}
    for pattern in patterns:
        if not any(_fits(pattern, part, task) for part in parts for task in part.tasks):
            listed = ", ".join(map(repr, sorted(names)[:20]))
            raise UnknownNameError(
                f"--tasks-with-actions: no dataset or instruction {pattern!r}"
                f"{closest(pattern, names)}; there are: {listed}"
            )


def learn_actions(config: Config, data: Mixture, settings: TrainSettings) -> Config:
    """The configuration with the range and the names of the actions that a head is to learn.

    An agent that has a range keeps it, because its weights are made for it.

    Raises:
        DatasetError: there is no action to learn, they mean something else than the agent's or
            each other, or too many lie outside the agent's range.
    """
    if not (data.labelled_N & data.train_N).any():
        raise DatasetError(
            f"{data.name} has no actions to learn for --stage {settings.stage}; add a dataset "
            "with actions, or train --stage video"
        )
    parts = [part for part in data.parts if part.has_actions]
    for part in parts:
        # names that the dataset itself gives its numbers do not make them the agent's
        mapped = part.layout.action_names if part.layout.key_map != "own" else ()
        names = config.action_names or mapped
        check_action_kind(part.notes, names, where=str(part.root))
    check_one_meaning((str(part.root), part.notes) for part in parts)
    stats = config.action_stats
    if stats is None or settings.action_range == "data":
        stats = data.action_stats
    elif not settings.resume:  # a run that goes on was checked when it began
        check_range(stats, data.actions_NA, name=data.name, action_range=settings.action_range)
    return config.replace(action_stats=stats, action_names=config.action_names or data.action_names)


def check_range(
    stats: ActionStats,
    actions_NA: np.ndarray,
    *,
    name: str,
    action_range: ActionRange,
    flag: str = "--action-range ",
) -> None:
    """Refuses actions that are not the agent's by their range; `flag` is what says otherwise."""
    low, high = (np.array(x, np.float32) for x in (stats.min, stats.max))
    span_A = np.ptp(actions_NA, axis=0) / (high - low)
    least = int(span_A.argmin())
    if action_range == "check" and span_A[least] < LEAST_SPAN:
        raise DatasetError(
            f"{name}: the actions' dimension {least} goes from "
            f"{actions_NA[:, least].min():.3g} to {actions_NA[:, least].max():.3g}, the agent's "
            f"from {low[least]:.3g} to {high[least]:.3g}: other units? If it only moves little, "
            f"{flag}keep goes on with the agent's range; {flag}data takes the new one (the head "
            "learns it anew)"
        )
    outside_NA = (actions_NA < low) | (actions_NA > high)
    count = int(outside_NA.any(axis=1).sum())
    if not count:
        return
    worst = int(outside_NA.sum(axis=0).argmax())
    found = (
        f"{name}: {count} of {len(actions_NA)} actions lie outside the range that the agent "
        f"was trained in, most in dimension {worst} ({actions_NA[:, worst].min():.3g} to "
        f"{actions_NA[:, worst].max():.3g}; the agent: {low[worst]:.3g} to {high[worst]:.3g})"
    )
    if action_range == "check" and count > MOST_OUTSIDE * len(actions_NA):
        raise DatasetError(
            f"{found}: other units, or another robot? {flag}keep goes on with the agent's range, "
            f"{flag}data takes the new one (the head learns it anew)"
        )
    warnings.warn(f"{found}; in flight they are cut to it", stacklevel=2)
