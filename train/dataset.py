"""A LeRobot dataset as training samples: windows of frames and actions, decoded and cached."""

# B batch, V views, T frames per view, K action steps, A action dim, N frames of the dataset

import importlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vp_agent.config import ActionStats, VideoPolicyConfig
from vp_agent.errors import DatasetError, closest, need
from vp_agent.train.windows import ActionPadding, action_chunks, fit_images, frame_steps

IMAGES = "observation.images."
ACTION = "action"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Action chunks and masks of a batch of windows."""

    actions_BKA: Tensor
    action_is_pad_BK: Tensor
    frame_is_pad_BT: Tensor
    task_B: Tensor


def video_backend() -> str:
    """torchcodec where FFmpeg's libraries let it load (faster at random access), else PyAV."""
    try:
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError):  # RuntimeError: FFmpeg is not there
        return "pyav"
    return "torchcodec"


class Demonstrations:
    """One LeRobot v3 dataset seen through a `VideoPolicyConfig`.

    A sample is a window that starts at any frame of any episode: the views' frames at
    0, stride, 2 stride, ... and the next `horizon` actions. Past the episode's end the last of
    these repeats (or the action is zero, by `action_padding`) and its mask is set. Images of
    another size are cut to shape and resized.

    Raises:
        DatasetError: the dataset is missing, damaged, or does not fit the configuration.
    """

    def __init__(
        self,
        root: Path,
        config: VideoPolicyConfig,
        *,
        holdout: float = 0.05,
        action_padding: ActionPadding = "last",
    ) -> None:
        self.root, self.config = Path(root), config
        self.action_padding: ActionPadding = action_padding
        if not (self.root / "meta" / "info.json").is_file():
            raise DatasetError(
                f"{root} is not a LeRobot dataset (no meta/info.json); "
                "make one: vp-agent collect --env Robosuite-Lift-v0 --out DIR"
            )
        lerobot = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
        fps = json.loads((self.root / "meta" / "info.json").read_text())["fps"]
        if fps != config.control_hz:
            raise DatasetError(f"{root} has {fps} fps, the policy runs at {config.control_hz} Hz")
        deltas = {
            IMAGES + view: [t * config.frame_stride / fps for t in range(config.frames_per_view)]
            for view in config.views
        }
        self._open = lambda deltas: lerobot.LeRobotDataset(
            self.root.name,
            root=self.root,
            delta_timestamps=deltas,
            video_backend=video_backend(),
            return_uint8=True,
        )
        self._check_features(json.loads((self.root / "meta" / "info.json").read_text())["features"])
        try:
            self.dataset: Any = self._open(deltas)
            columns = self.dataset.hf_dataset.with_format("numpy")
            self.actions_NA = np.stack(columns[ACTION][:]).astype(np.float32)
            self.episode_N = np.asarray(columns["episode_index"][:])
            self.task_N = np.asarray(columns["task_index"][:])
        except DatasetError:
            raise
        except Exception as error:  # whatever parquet, datasets or PyAV raise on a damaged file
            raise DatasetError(f"{root} cannot be read: {error}") from error
        self._check_actions()
        self.episodes = int(self.episode_N.max()) + 1
        self.train_episodes = self.episodes - round(holdout * self.episodes)
        ends = np.flatnonzero(np.append(np.diff(self.episode_N), 1))
        self.last_N = ends[np.searchsorted(ends, np.arange(len(self.episode_N)))]

    def __len__(self) -> int:
        return len(self.episode_N)

    @property
    def tasks(self) -> list[str]:
        """Instructions by task index."""
        return list(self.dataset.meta.tasks.index)

    @cached_property
    def notes(self) -> dict[str, Any]:
        """What `vp-agent collect` wrote about the data; empty for datasets from elsewhere."""
        path = self.root / "meta" / "vp_agent.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _check_features(self, features: dict[str, Any]) -> None:
        config = self.config
        for view in config.views:
            if IMAGES + view not in features:
                have = [key.removeprefix(IMAGES) for key in features if key.startswith(IMAGES)]
                raise DatasetError(
                    f"{self.root} has no view {view!r}{closest(view, have)}; "
                    f"views: {', '.join(have)}"
                )
        if features[ACTION]["shape"][0] != config.action_dim:
            raise DatasetError(
                f"{self.root} has {features[ACTION]['shape'][0]}-D actions, "
                f"the policy has action_dim {config.action_dim}"
            )
        noted = self.notes.get("env_kwargs", {})
        for note, wanted in (
            ("render_quality", config.render_quality),
            ("transform", config.image_transform),
        ):
            if noted.get(note, wanted) != wanted:
                raise DatasetError(
                    f"{self.root} was recorded with {note}={noted[note]!r}, "
                    f"the policy expects {wanted!r}"
                )

    def _check_actions(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.actions_NA).all(axis=1))
        if len(bad):
            raise DatasetError(
                f"{self.root}: action is not finite in frame {bad[0]} "
                f"(episode {self.episode_N[bad[0]]}) and {len(bad) - 1} more"
            )
        constant = np.flatnonzero(np.ptp(self.actions_NA, axis=0) == 0)
        if len(constant):
            raise DatasetError(
                f"{self.root}: action dimension {constant[0]} is constant; it cannot be normalised"
            )

    @cached_property
    def action_stats(self) -> ActionStats:
        """Range of every action dimension over all episodes."""
        return ActionStats(
            min=tuple(self.actions_NA.min(axis=0).tolist()),
            max=tuple(self.actions_NA.max(axis=0).tolist()),
        )

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
            action_is_pad_BK=torch.from_numpy(is_pad_BK),
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
        longest, fps = int(np.bincount(self.episode_N).max()), self.config.control_hz
        return self._open(
            {IMAGES + view: [t / fps for t in range(longest)] for view in self.config.views}
        )

    def _views(self, dataset: Any, index: int) -> Tensor:
        try:
            item = dataset[index]
        except Exception as error:  # PyAV's and datasets' errors on damaged files
            raise DatasetError(
                f"{self.root}: frame {index} (episode {self.episode_N[index]}) "
                f"cannot be decoded: {error}"
            ) from error
        views = torch.stack([item[IMAGES + view] for view in self.config.views])
        if views.is_floating_point():  # images kept as files, not as video, come in 0..1
            views = (views * 255).round().byte()
        return fit_images(views, self.config.resolution)
