"""One demonstration as arrays, and many of them as a LeRobot dataset."""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts import Expert
from vp_agent.errors import DatasetError, VPAgentError, need
from vp_agent.files import atomic_dir
from vp_agent.train.notes import write_notes
from vp_agent.train.read_back import confirm_written
from vp_agent.train.video_decoder import video_backend

IMAGE = "observation.images."
# Without chroma subsampling: at 64 x 64 yuv420p blurs colour edges. On Lift this decodes to 45 dB
# PSNR (43 in the worst frame) against 37 (27) with LeRobot's default av1.
_CODEC = {"vcodec": "h264", "pix_fmt": "yuv444p", "crf": 10, "g": 2}
# LeRobot appends to a video by copying it, so long files make collection quadratic: 400 Lift
# episodes in one file took 5 minutes to write
_VIDEO_FILE_MB = 2
# LeRobot joins videos by copying packets, and the only packet of a video of one frame has no
# length: the next would be shown with it. So nothing is appended to such a video, nor it to one.
_ALONE_MB = 1e-9
_NO_FAULT_OF_ITS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM)
ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
_STATE_NAMES = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger1", "finger2")
NAMES = {
    "action": ACTION_NAMES,
    "executed_action": ACTION_NAMES,
    "observation.state": _STATE_NAMES,
}
_SIZED = ("cube", "cubeA", "cubeB")  # boxes whose size robosuite draws per episode


def demonstrate(
    env: gym.Env, expert: Expert, *, seed: int, noise: float, hold_steps: int, disturb: float = 0.0
) -> dict[str, np.ndarray] | None:
    """The arrays of one episode, or None if the expert failed.

    `action` is what the expert asked for and `executed_action` what the arm got, so that a policy
    trained on the first learns to recover from the noise in the second. With probability `disturb`
    the recording begins where `_push` has left the arm.
    """
    # a stream of its own, so that the scene of a seed does not depend on the noise
    generator = np.random.default_rng([seed, 1])
    noise_std = generator.uniform(noise / 5, noise)
    observation, info = env.reset(seed=seed)
    first = info
    expert.reset(env)
    disturbing = np.random.default_rng([seed, 2])
    disturbed, truncated = bool(disturbing.uniform() < disturb), False
    if disturbed:
        observation, truncated = _push(env, expert, disturbing)
        expert.reset(env)
    steps: dict[str, list[np.ndarray]] = {}
    held: int | None = None
    while held != hold_steps:
        if truncated:
            return None
        action = expert.act(env)
        executed = action.copy()
        executed[:6] += generator.normal(0.0, noise_std, 6)
        executed = np.clip(executed, -1.0, 1.0).astype(np.float32)
        frame = {IMAGE + view: image for view, image in observation["pixels"].items()}
        frame["observation.state"] = observation["agent_pos"]
        frame |= {"action": action, "executed_action": executed}
        for key, value in frame.items():
            steps.setdefault(key, []).append(value)
        observation, _, _, truncated, info = env.step(executed)
        if held is not None:
            held += 1
        elif info["is_success"]:
            held = 0
    if not info["is_success"]:
        return None  # it did not stay: a bad example
    simulator: Any = env.unwrapped
    boxes = {name: getattr(simulator.sim_env, name, None) for name in _SIZED}
    facts = {
        "seed": seed,
        "steps": len(steps["action"]),
        "noise_std": float(noise_std),
        "disturbed": disturbed,
        "half_sizes": {name: list(map(float, box.size)) for name, box in boxes.items() if box},
        "versions": info["versions"],
        **{name: info[name] for name in ("transform", "protocol") if name in info},
        **{name: first[name] for name in ("objects", "colours") if name in first},
        **info.get("facts", {}),
    }
    arrays = {key: np.stack(values) for key, values in steps.items()}
    return arrays | {"facts": np.array(json.dumps(facts)), "task": np.array(observation["task"])}


def _push(
    env: gym.Env, expert: Expert, generator: np.random.Generator
) -> tuple[dict[str, Any], bool]:
    """Spoils an attempt of the expert, unrecorded: at a random moment the arm is driven away.

    A policy that missed its grasp finds itself in such places: beside or above the object, turned,
    with a closed hand. No undisturbed demonstration shows the way back.
    """
    wrong = np.append(generator.uniform(-0.4, 0.4, 6), generator.choice([-1.0, 1.0]))
    wrong[2] = abs(wrong[2])  # up, not into the table
    attempt, drive = generator.integers(0, 26), generator.integers(5, 25)
    observation, truncated = {}, False
    for step in range(attempt + drive):
        action = expert.act(env) if step < attempt else wrong.astype(np.float32)
        observation, _, _, truncated, _ = env.step(action)
        if truncated:
            break
    return observation, truncated


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode on its way into a dataset; its frames are read once, in order."""

    task: str
    """The instruction."""
    frames: Iterable[Mapping[str, np.ndarray]]
    """Per step: images uint8 (H, W, 3) and float32 vectors, by feature name."""
    facts: Mapping[str, Any]
    """What `meta/vp_agent.json` says of it."""
    place: str = "an episode"
    """Where it comes from, for messages."""


class BadEpisode(DatasetError):
    """An episode that cannot be written; the others may."""

    def __init__(self, place: str, reason: object) -> None:
        super().__init__(f"{place} cannot be written: {reason}")
        self.place = place


def stored_episode(path: Path) -> Episode:
    """An episode that `demonstrate` gave and `np.savez` wrote."""
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored}
    task, facts = str(arrays.pop("task")), json.loads(str(arrays.pop("facts")))
    frames = ({key: a[i] for key, a in arrays.items()} for i in range(len(arrays["action"])))
    return Episode(task=task, frames=frames, facts=facts, place=f"the episode of {path.stem}")


def write_dataset(
    folder: Path,
    *,
    name: str,
    episodes: Iterable[Episode],
    names: Mapping[str, Sequence[str]],
    meta: Mapping[str, Any],
    fps: int = 20,
    robot: str = "panda",
) -> None:
    """Writes a dataset with LeRobot's own writer, whole or not at all.

    The episodes, at least one, are read one after the other and not kept. `names` are those of
    every vector's numbers; `meta` goes with the episodes' facts into `meta/vp_agent.json`.
    """
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # one bar per episode otherwise
    datasets: Any = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
    video: Any = need("lerobot.configs.video", extra="lerobot")
    libav: Any = need("av.logging", extra="lerobot")
    libav.set_libav_level(libav.ERROR)  # the encoder explains itself for every episode
    dataset, facts, steps_before = None, [], 0
    with atomic_dir(folder) as tmp:
        tmp.rmdir()  # LeRobot insists on making it
        for episode in episodes:
            with _naming(episode.place):
                steps = 0
                for frame in episode.frames:
                    if dataset is None:
                        dataset = datasets.LeRobotDataset.create(
                            repo_id=f"local/{name}",
                            fps=fps,
                            features={key: _feature(key, frame[key].shape, names) for key in frame},
                            root=tmp,
                            robot_type=robot,
                            video_files_size_in_mb=_VIDEO_FILE_MB,
                            video_backend=video_backend(),
                            rgb_encoder=video.RGBEncoderConfig(**_CODEC),
                        )
                    dataset.add_frame({**frame, "task": episode.task})
                    steps += 1
                assert dataset is not None  # an episode has frames
                alone = 1 in (steps, steps_before)
                dataset.meta.update_chunk_settings(
                    video_files_size_in_mb=_ALONE_MB if alone else _VIDEO_FILE_MB
                )
                # its pool of encoder processes costs more than these short videos
                dataset.save_episode(parallel_encoding=False)
            steps_before = steps
            facts.append(dict(episode.facts))
        assert dataset is not None
        dataset.finalize()
        dataset.meta.update_chunk_settings(video_files_size_in_mb=_VIDEO_FILE_MB)
        write_notes(tmp, {**meta, "episodes": facts})
        confirm_written(tmp, shown_as=folder)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Names the episode whose frames LeRobot or the encoder refuses."""
    libav: Any = need("av", extra="lerobot")
    try:
        yield
    except VPAgentError:
        raise
    except (libav.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) in _NO_FAULT_OF_ITS:
            raise
        raise BadEpisode(place, f"{type(error).__name__}: {error}") from error


def _feature(
    key: str, shape: tuple[int, ...], names: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    if key.startswith(IMAGE):
        return {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"]}
    return {"dtype": "float32", "shape": shape, "names": list(names[key])}
