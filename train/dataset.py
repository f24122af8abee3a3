"""A LeRobot dataset as training samples: windows of frames and actions, decoded and cached."""

# B batch, V views, T frames per view, K action steps, A action dim, N frames of the dataset

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vp_agent.agent_config import ActionStats, AgentConfig
from vp_agent.errors import DatasetError, need
from vp_agent.train.dataset_files import read_json
from vp_agent.train.dataset_source import check_files, locate_dataset
from vp_agent.train.key_maps import Column, find_layout
from vp_agent.train.video_decoder import video_backend
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


def read_notes(root: Path) -> dict[str, Any]:
    """What `vp-agent collect` wrote about the dataset; empty for datasets from elsewhere."""
    path = root / "meta" / "vp_agent.json"
    return read_json(path) if path.is_file() else {}


def noted_transform(root: Path, notes: dict[str, Any]) -> str | None:
    """How the images lie by our own notes: of the environment, or else of the episodes."""
    if transform := notes.get("env_kwargs", {}).get("transform"):
        return transform
    recorded = {x["transform"] for x in notes.get("episodes", ()) if "transform" in x}
    if len(recorded) > 1:
        raise DatasetError(
            f"{root}/meta/vp_agent.json: episodes lie otherwise than others "
            f"({', '.join(sorted(recorded))}); make a dataset of each"
        )
    return next(iter(recorded), None)


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
        self.root, self.name = locate_dataset(root)
        self.config = config
        self.action_padding: ActionPadding = action_padding
        self.layout = find_layout(self.root, key_map, views=config.views)
        self.fps = read_json(self.root / "meta" / "info.json")["fps"]
        self._check_layout()
        check_files(self.root)
        try:
            self.dataset: Any = self._open(
                {
                    key: [t * config.frame_stride / self.fps for t in range(config.frames_per_view)]
                    for key in self.layout.views
                }
            )
            self.episode_N = self._column("episode_index")
            self.task_N = self._column("task_index")
            self.actions_NA = self._numbers(self.layout.action, width=config.action_dim)
        except Exception as error:  # whatever parquet, datasets or PyAV raise on a damaged file
            raise DatasetError(f"{root} cannot be read: {error}; copy it again") from error
        self.episodes = int(self.episode_N.max()) + 1
        self._check_rows()
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
        """Instructions by task index."""
        return list(self.dataset.meta.tasks.index)

    @cached_property
    def states_NS(self) -> np.ndarray:
        """The robot's state in the key map's order (N, S); no columns where there is none."""
        return self._numbers(self.layout.state)

    @cached_property
    def notes(self) -> dict[str, Any]:
        """What `vp-agent collect` wrote about the data; empty for datasets from elsewhere."""
        return read_notes(self.root)

    @cached_property
    def flips(self) -> tuple[int, ...]:
        """Image axes (H is -2, W is -1) to turn over, so that images are as the policy's."""
        wanted = self.config.image_transform
        have = self.layout.image_transform or noted_transform(self.root, self.notes) or wanted
        return tuple(sorted(_TURNED[have] ^ _TURNED[wanted]))

    def _open(self, deltas: dict[str, list[float]]) -> Any:
        lerobot = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
        return lerobot.LeRobotDataset(
            self.root.name,
            root=self.root,
            delta_timestamps=deltas,
            video_backend=video_backend(),
            return_uint8=True,
        )

    def _column(self, key: str) -> np.ndarray:
        return np.asarray(self.dataset.hf_dataset.with_format("numpy")[key][:])

    def _numbers(self, columns: tuple[Column, ...], *, width: int = 0) -> np.ndarray:
        """Parts of the rows side by side, float32; zeros where the dataset has none."""
        if not columns:
            return np.zeros((len(self.episode_N), width), np.float32)
        rows = {key: self._column(key) for key in {column.key for column in columns}}
        parts = [rows[x.key].reshape(len(rows[x.key]), -1)[:, x.start : x.stop] for x in columns]
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
        noted = self.notes.get("env_kwargs", {}).get("render_quality", config.render_quality)
        if noted != config.render_quality:
            raise DatasetError(
                f"{self.root} was recorded with render_quality={noted!r}, "
                f"the policy expects {config.render_quality!r}"
            )

    def _check_rows(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.actions_NA).all(axis=1))
        if len(bad):
            raise DatasetError(
                f"{self.root}: action is not finite in frame {bad[0]} "
                f"(episode {self.episode_N[bad[0]]}) and {len(bad) - 1} more"
            )
        empty = [i for i, task in enumerate(self.tasks) if not task.strip()]
        bad = np.flatnonzero(np.isin(self.task_N, empty))
        if len(bad):
            raise DatasetError(
                f"{self.root}: the instruction of episode {self.episode_N[bad[0]]} is empty (of "
                f"{len(set(self.episode_N[bad]))} in all); write what the robot does there with "
                "lerobot-edit-dataset, or leave these episodes out"
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
        windows = []
        for index, is_pad_T in zip(ids_B, self._frames(ids_B)[1], strict=True):
            # LeRobot repeats the episode's last frame, which is not a strided one.
            real = np.minimum(np.arange(len(is_pad_T)), (~is_pad_T).sum() - 1)
            windows.append(self._views(self.dataset, int(index))[:, real])
        return torch.stack(windows)

    def episode_pixels(self, episode: int) -> Tensor:
        """All frames of one episode (V, T, 3, H, W), uint8, decoded in one go."""
        first, last = np.flatnonzero(self.episode_N == episode)[[0, -1]]
        return self._views(self._whole_episodes, int(first))[:, : last - first + 1]

    @cached_property
    def _whole_episodes(self) -> Any:
        # One window as long as the longest episode; past a shorter one its last frame repeats.
        longest = int(np.bincount(self.episode_N).max())
        return self._open(
            {key: [t / self.fps for t in range(longest)] for key in self.layout.views}
        )

    def _views(self, dataset: Any, index: int) -> Tensor:
        try:
            item = dataset[index]
        except Exception as error:  # PyAV's and datasets' errors on damaged files
            files = {
                str(dataset.meta.get_video_file_path(int(self.episode_N[index]), key))
                for key in dataset.meta.video_keys
            }
            raise DatasetError(
                f"{self.root}: frame {index} (episode {self.episode_N[index]}, in "
                f"{' or '.join(sorted(files)) or 'data/'}) cannot be decoded: {error}; "
                "copy the dataset again"
            ) from error
        # LeRobot leaves out the time axis of a single frame.
        views = torch.stack(
            [item[key].reshape(-1, *item[key].shape[-3:]) for key in self.layout.views]
        )
        if views.is_floating_point():  # images kept as files, not as video, come in 0..1
            views = (views * 255).round().byte()
        return fit_images(views.flip(self.flips), self.config.resolution)
