"""A LeRobot dataset as training samples: windows of frames and actions, decoded and cached."""

# B batch, V views, T frames per view, K action steps, A action dim, N frames of the dataset

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vp_agent.agent_config import ActionStats, AgentConfig
from vp_agent.errors import DatasetError, need
from vp_agent.train.gate import open_dataset
from vp_agent.train.key_maps import Column, find_layout
from vp_agent.train.notes import Notes, read_notes
from vp_agent.train.pictures import ViewFrames
from vp_agent.train.windows import (
    ActionPadding,
    action_chunks,
    action_range,
    fit_images,
    frame_steps,
)

# Axes that each kind of image is turned over on, counted from the simulator's raw one.
_TURNED = {"raw": frozenset(), "flip_v": frozenset({-2}), "rot180": frozenset({-2, -1})}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Action chunks and masks of a batch of windows."""

    actions_BKA: Tensor
    action_is_pad_BK: Tensor
    frame_is_pad_BT: Tensor
    task_B: Tensor


class Demonstrations:
    """One LeRobot v3 dataset seen through an agent's configuration.

    A sample is a window that starts at any frame of any episode: the views' frames at
    0, stride, 2 stride, ... and the next `horizon` actions. Past the episode's end the last of
    these repeats (or the action is zero, by `action_padding`) and its mask is set. Images of
    another size are cut to shape and resized, images that lie otherwise are turned over. `key_map`
    says how others name things (see `vp_agent.train.key_maps`); `root` may be a Hub repository.

    Raises:
        DatasetError: the dataset is missing, damaged, or does not fit the configuration.
    """

    def __init__(
        self,
        root: Path,
        config: AgentConfig,
        *,
        holdout: float = 0.05,
        action_padding: ActionPadding = "last",
        key_map: str | None = None,
    ) -> None:
        self.files = open_dataset(root)
        self.root, self.name = self.files.root, self.files.name
        self.config = config
        self.action_padding: ActionPadding = action_padding
        self.layout = find_layout(self.files, key_map, views=config.views)
        self.fps = self.files.fps
        self._check_layout()
        self.episode_N = self.files.columns["episode_index"]
        # Instructions are counted through, whatever numbers the dataset gives them.
        self.task_N = np.searchsorted(list(self.files.tasks), self.files.columns["task_index"])
        self.actions_NA = self._numbers(self.layout.action, width=config.action_dim)
        self.episodes = len(self.files.episodes)
        self._check_left_out()
        self.train_episodes = self.episodes - round(holdout * self.episodes)
        ends = np.flatnonzero(np.append(np.diff(self.episode_N), 1))
        self.last_N = ends[np.searchsorted(ends, np.arange(len(self.episode_N)))]

    def __len__(self) -> int:
        return len(self.episode_N)

    @property
    def has_actions(self) -> bool:
        """False for action-free video."""
        return bool(self.layout.action)

    @property
    def tasks(self) -> list[str]:
        """Instructions, as `Chunk.task_B` counts them."""
        return list(self.files.tasks.values())

    @cached_property
    def dataset(self) -> Any:
        """LeRobot's own view of the same rows, for its tools; nothing is read from the network."""
        lerobot: Any = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
        pandas: Any = need("pandas", extra="lerobot")
        view = lerobot.LeRobotDataset(self.name, root=self.root, return_uint8=True)
        # It takes the place of a row for its task_index.
        numbers = range(max(self.files.tasks) + 1)
        words = [self.files.tasks.get(number, "") for number in numbers]
        view.meta.tasks = pandas.DataFrame({"task_index": numbers}, index=words).rename_axis("task")
        return view

    @cached_property
    def states_NS(self) -> np.ndarray:
        """The robot's state in the key map's order (N, S); no columns where there is none."""
        return self._numbers(self.layout.state)

    @cached_property
    def notes(self) -> Notes:
        """What the dataset says of its images and actions; empty for datasets from elsewhere."""
        return read_notes(self.root)

    @cached_property
    def flips(self) -> tuple[int, ...]:
        """Image axes (H is -2, W is -1) to turn over, so that images are as the policy's."""
        wanted = self.config.image_transform
        have = self.layout.image_transform or self.notes.transform or wanted
        return tuple(sorted(_TURNED[have] ^ _TURNED[wanted]))

    def _numbers(self, columns: tuple[Column, ...], *, width: int = 0) -> np.ndarray:
        """Parts of the rows side by side, float32; zeros where the dataset has none."""
        if not columns:
            return np.zeros((len(self.episode_N), width), np.float32)
        rows = {key: self.files.column(key) for key in {column.key for column in columns}}
        parts = [rows[x.key][:, x.start : x.stop] for x in columns]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _check_layout(self) -> None:
        config, layout = self.config, self.layout
        if layout.control_hz != config.control_hz:
            raise DatasetError(
                f"{self.root} has {layout.control_hz:g} fps, the policy runs at "
                f"{config.control_hz:g} Hz; give data of its rate or a preset of another one"
            )
        if layout.action and layout.action_dim != config.action_dim:
            raise DatasetError(
                f"{self.root} has {layout.action_dim}-D actions, "
                f"the policy has action_dim {config.action_dim}; choose the part of them that it "
                "controls: --key-map"
            )
        if config.action_names and layout.action_names not in ((), config.action_names):
            raise DatasetError(
                f"{self.root} has the actions {', '.join(layout.action_names)}; the policy's are "
                f"{', '.join(config.action_names)}; if they mean the same, say so in the "
                "action_names of a key map (docs/data.md)"
            )
        noted = self.notes.render_quality
        if noted not in (None, config.render_quality):
            raise DatasetError(
                f"{self.root} was recorded with render_quality={noted!r}, "
                f"the policy expects {config.render_quality!r}"
            )

    def _check_left_out(self) -> None:
        """Episodes that move what the policy does not control cannot be repeated by it."""
        first_N = np.searchsorted(self.episode_N, self.episode_N)
        for part, column in self.layout.left_out.items():
            numbers_NA = self._numbers((column,))
            moved = np.unique(self.episode_N[(numbers_NA != numbers_NA[first_N]).any(axis=1)])
            if len(moved):
                warnings.warn(
                    f"{self.root}: {part} changes in {len(moved)} of {self.episodes} episodes "
                    f"({', '.join(map(str, moved[:8]))}, ...), and the policy does not control it; "
                    "leave these episodes out",
                    stacklevel=2,
                )

    @cached_property
    def action_stats(self) -> ActionStats:
        """Range of every action dimension over all episodes."""
        return action_range(self.actions_NA, where=str(self.root))

    def split(self, name: str) -> np.ndarray:
        """Frame indices of the "train" or "holdout" episodes (the last ones are held out)."""
        train = self.episode_N < self.train_episodes
        return np.flatnonzero(train if name == "train" else ~train)

    def _frames(self, ids_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        return frame_steps(
            ids_B, self.last_N[ids_B], frames=config.frames_per_view, stride=config.frame_stride
        )

    def frame_ids(self, ids_B: np.ndarray) -> np.ndarray:
        """Indices (B, T) of the windows' frames, all inside their episode."""
        return self._frames(ids_B)[0]

    def chunk(self, ids_B: np.ndarray) -> Chunk:
        """Raw action chunks and masks of the windows that start at `ids_B`."""
        actions_BKA, is_pad_BK = action_chunks(
            self.actions_NA,
            ids_B,
            self.last_N[ids_B],
            horizon=self.config.horizon,
            padding=self.action_padding,
        )
        return Chunk(
            actions_BKA=torch.from_numpy(actions_BKA),
            # Nothing is known of the actions of action-free video.
            action_is_pad_BK=torch.from_numpy(is_pad_BK | (not self.has_actions)),
            frame_is_pad_BT=torch.from_numpy(self._frames(ids_B)[1]),
            task_B=torch.from_numpy(self.task_N[ids_B]),
        )

    def pixels(self, ids_B: np.ndarray) -> Tensor:
        """The windows' frames (B, V, T, 3, H, W), uint8, decoded from the videos."""
        return torch.stack([self._views(rows_T) for rows_T in self.frame_ids(ids_B)])

    def episode_pixels(self, episode: int) -> Tensor:
        """All frames of one episode (V, T, 3, H, W), uint8, decoded in one go."""
        return self._views(self.files.rows_of(episode))

    @cached_property
    def _view_frames(self) -> list[ViewFrames]:
        return [ViewFrames(self.files, view) for view in self.layout.views]

    def _views(self, rows_T: np.ndarray) -> Tensor:
        """Frames (V, T, 3, H, W) of these rows, whose actions are `actions_NA[rows_T]`."""
        with ThreadPoolExecutor(len(self._view_frames)) as pool:  # decoders release the GIL
            views = pool.map(lambda frames: frames(rows_T), self._view_frames)
        return torch.stack(
            [
                fit_images(torch.from_numpy(view_TCHW).flip(self.flips), self.config.resolution)
                for view_TCHW in views
            ]
        )
