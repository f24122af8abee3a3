"""One closed-loop episode, and its film and trace if it is to be looked at."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from vp_agent.evaluation.film import Film, compose, imagined_frame
from vp_agent.files import write_json
from vp_agent.wrappers.action_chunk import step_chunk


class PlanLike(Protocol):
    """What the runner reads from a plan."""

    @property
    def actions(self) -> np.ndarray: ...
    @property
    def video(self) -> dict[str, np.ndarray] | None: ...
    @property
    def latency_s(self) -> float: ...


class Pilot(Protocol):
    """What the runner needs of an agent; `VideoPolicyAgent` is one."""

    @property
    def current_plan(self) -> PlanLike | None: ...
    def reset(self, lanes: Any = None, *, seed: int | None = None) -> None: ...
    def act(self, obs: Any, *, video: bool = False, chunk: bool = False) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Where the film and the trace of an episode go, and how imagined frames lie in time."""

    folder: Path
    frame_stride: int
    control_hz: float


def fly(
    agent: Pilot,
    env: gym.Env,
    *,
    seed: int,
    blank_images: bool = False,
    recording: Recording | None = None,
) -> dict[str, Any]:
    """Flies the episode of `seed` to its end and returns its journal line.

    Args:
        agent: The policy; it is reset with the episode's seed.
        env: The environment; it is reset with the seed and not closed.
        seed: The episode.
        blank_images: Gives the agent black images, the control for an agent that does not look.
        recording: Also writes `videos/seed-XXXXX.mp4` and `traces/seed-XXXXX.json`.

    Without a recording, images are drawn only when a plan is due; the episode is the same.
    An exception of the simulator or the agent is not a failed episode: it passes through.
    """
    start = time.perf_counter()
    observation, info = env.reset(seed=seed)
    agent.reset(seed=seed)
    instruction = observation["task"]
    plans: list[tuple[int, PlanLike]] = []
    actions: list[np.ndarray] = []
    video = f"videos/seed-{seed:05d}.mp4" if recording else None
    done = False
    with contextlib.ExitStack() as stack:
        film = None
        if recording is not None and video is not None:
            film = stack.enter_context(Film(recording.folder / video, fps=recording.control_hz))
        while not done:
            seen = _blacked_out(observation) if blank_images else observation
            if film is None:
                chunk = agent.act(seen, chunk=True)
            else:
                chunk = agent.act(seen, video=True)[None]
            plan = agent.current_plan
            assert plan is not None  # act has just used it
            if not plans or plans[-1][1] is not plan:
                plans.append((len(actions), plan))
            if film is not None and recording is not None:
                film.add(_frame(observation, len(actions), plans, recording.frame_stride))
            observation, _, terminated, truncated, info = step_chunk(env, chunk)
            actions.extend(chunk[: info["chunk_steps"]])
            done = terminated or truncated
        if film is not None and recording is not None:
            film.add(_frame(observation, len(actions), plans, recording.frame_stride))
    success = bool(info["is_success"])
    if recording is not None:
        _write_trace(
            recording.folder / f"traces/seed-{seed:05d}.json", actions, plans, instruction, success
        )
    return {
        "seed": seed,
        "success": success,
        "steps": len(actions),
        "horizon": getattr(env.unwrapped, "horizon", None),
        "instruction": instruction,
        "plans": len(plans),
        "seconds_per_plan": round(fmean(plan.latency_s for _, plan in plans), 4),
        "wall_s": round(time.perf_counter() - start, 3),
        "video": video,
        "simulator": info.get("versions", {}),
    }


def _blacked_out(observation: dict[str, Any]) -> dict[str, Any]:
    black = {view: np.zeros_like(image) for view, image in observation["pixels"].items()}
    return {**observation, "pixels": black}


def _frame(
    observation: dict[str, Any], step: int, plans: list[tuple[int, PlanLike]], stride: int
) -> np.ndarray:
    plan_step, plan = plans[-1]
    assert plan.video is not None  # act was asked for it
    index = imagined_frame(
        step=step,
        plan_step=plan_step,
        stride=stride,
        frames=len(next(iter(plan.video.values()))),
    )
    imagined = {view: frames[index] for view, frames in plan.video.items()}
    executed = {view: observation["pixels"][view] for view in imagined}
    captions = (f"EXECUTED step {step}", f"IMAGINED plan {len(plans)}, frame {index}")
    return compose(executed, imagined, captions=captions)


def _write_trace(
    path: Path,
    actions: list[np.ndarray],
    plans: list[tuple[int, PlanLike]],
    instruction: str,
    success: bool,
) -> None:
    def rounded(numbers: Any) -> list[Any]:
        return np.asarray(numbers, np.float64).round(5).tolist()

    write_json(
        path,
        {
            "instruction": instruction,
            "success": success,
            "actions": rounded(actions),
            "plans": [
                {
                    "step": step,
                    "latency_s": round(plan.latency_s, 4),
                    "actions": rounded(plan.actions),
                }
                for step, plan in plans
            ],
        },
    )
