"""One closed-loop episode, and its film and trace if it is to be looked at."""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.errors import (
    ActionError,
    ConfigError,
    MissingExtraError,
    SimulatorError,
    UnknownNameError,
    WorkerRefused,
)
from vp_agent.evaluation.policy import PlanLike, Policy, plan_seed
from vp_agent.evaluation.record import Flight
from vp_agent.evaluation.recording import Recorder, Recording
from vp_agent.evaluation.suites import Episode
from vp_agent.typed import fit
from vp_agent.wrappers.action_chunk import step_chunk

# The user's or the policy's to mend: trying again would change nothing.
_NOT_THE_ENVIRONMENTS = (
    ActionError,
    ConfigError,
    MissingExtraError,
    UnknownNameError,
    WorkerRefused,
)


class EnvironmentFailed(SimulatorError):
    """The environment broke; what happened is not an outcome of the policy."""


@contextlib.contextmanager
def environment_errors() -> Iterator[None]:
    """Marks an error of the environment as one."""
    try:
        yield
    except _NOT_THE_ENVIRONMENTS:
        raise
    except Exception as error:  # a simulator raises anything
        raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error


def fly(
    policy: Policy,
    env: gym.Env,
    episode: Episode,
    *,
    blank_images: bool = False,
    recording: Recording | None = None,
) -> Flight:
    """Flies an episode to its end and returns what the journal says of the flight.

    Args:
        policy: Plans; plan k is drawn with `plan_seed(episode.policy_seed, k)`.
        env: The environment; it is reset and not closed.
        episode: Which one.
        blank_images: Gives the policy black images, the control for one that does not look.
        recording: Also writes what `Recorder` writes, under the name `TASK-NNNNN`.

    Without a recording, images are drawn only when a plan is due; the episode is the same.

    Raises:
        EnvironmentFailed: the environment broke, which is not a failure of the policy.
    """
    start = time.perf_counter()
    options = None if episode.options is None else dict(episode.options)
    with environment_errors():
        observation, info = env.reset(seed=episode.seed, options=options)
    first = info
    _check_needs(episode, info.get("versions", {}))
    policy.reset(env, seed=episode.policy_seed)
    with environment_errors():
        instruction = observation["task"]
    plans: list[PlanLike] = []
    actions: list[np.ndarray] = []
    name = f"{re.sub('[^A-Za-z0-9._-]', '_', episode.task)}-{episode.number:05d}"
    done = False
    with contextlib.ExitStack() as stack:
        recorder = None
        if recording is not None:
            recorder = stack.enter_context(Recorder(recording, name))
        while not done:
            seen = _blacked_out(observation) if blank_images else observation
            plan = policy.plan(
                seen, seed=plan_seed(episode.policy_seed, len(plans)), video=recorder is not None
            )
            plans.append(plan)
            chunk = plan.actions[: policy.execute]
            for part in [chunk] if recorder is None else np.split(chunk, len(chunk)):
                if recorder is not None:
                    recorder.add(observation, step=len(actions), plan=plan)
                with environment_errors():
                    observation, _, terminated, truncated, info = step_chunk(env, part)
                actions.extend(part[: info["chunk_steps"]])
                done = terminated or truncated
                if done:
                    break
        with environment_errors():
            success = bool(info["is_success"])
        if recorder is not None:
            recorder.finish(observation, actions, instruction=instruction, success=success)
    video = f"videos/{name}.mp4" if recording else None
    said = {
        **about(episode),
        "success": success,
        "steps": len(actions),
        "horizon": getattr(env.unwrapped, "horizon", None),
        "instruction": instruction,
        "plans": len(plans),
        "plan_s": [round(plan.latency_s, 4) for plan in plans],
        "seconds_per_plan": round(fmean(plan.latency_s for plan in plans), 4),
        "wall_s": round(time.perf_counter() - start, 3),
        "video": video,
        "video_sha256": _sha256(recording.folder / video) if recording and video else None,
        "simulator": info.get("versions", {}),
        "gl": info.get("gl"),
        "gl_version": info.get("gl_version"),
        "scene": first.get("scene", (options or {}).get("scene")),
        "state_hash": first.get("state_hash"),
        "standin": bool(first.get("standin_assets", False)),
        "facts": dict(info.get("facts", {})),
    }
    with environment_errors():  # it may say of itself what no line can hold
        return fit(Flight, json.loads(json.dumps(said)))


def about(episode: Episode) -> dict[str, Any]:
    """What a line says of an episode before it is flown."""
    return {
        "task": episode.task,
        "category": episode.category,
        "env": episode.env,
        "episode": episode.number,
        "seed": episode.seed,
        "scene": (episode.options or {}).get("scene"),
    }


def _check_needs(episode: Episode, versions: Mapping[str, str]) -> None:
    for name, wanted in episode.needs.items():
        found = versions.get(name, "missing")
        if not found.startswith(wanted):
            raise ConfigError(
                f"the suite of {episode.task} needs {name} {wanted}, and here it is {found}; "
                "install that version (docs/robocasa.md), or fly another suite"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _blacked_out(observation: dict[str, Any]) -> dict[str, Any]:
    black = {view: np.zeros_like(image) for view, image in observation["pixels"].items()}
    return {**observation, "pixels": black}
