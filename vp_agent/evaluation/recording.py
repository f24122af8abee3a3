"""What a recorded episode leaves: a film to look at, pairs of frames to measure, a trace."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vp_agent.evaluation.film import Film, compose, imagined_frame
from vp_agent.evaluation.policy import PlanLike
from vp_agent.files import write_json

_PAIR_QUALITY = 10  # of H.264; docs/audit.md says what it costs


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Where the film and the trace of an episode go, and how imagined frames lie in time."""

    folder: Path
    frame_stride: int | None
    control_hz: float


class Recorder:
    """Records one episode: `videos/NAME.mp4`, `traces/NAME.json` and `pairs/NAME.mp4`.

    A pair is an imagined frame and what the cameras saw at its control step. Every imagined frame
    gives one whose step was reached before, or just as, the next plan took over. An exception
    within the block leaves none of the three files.
    """

    def __init__(self, recording: Recording, name: str) -> None:
        self._recording = recording
        self._film_path = recording.folder / f"videos/{name}.mp4"
        self._pairs_path = recording.folder / f"pairs/{name}.mp4"
        self._trace_path = recording.folder / f"traces/{name}.json"
        self._open = contextlib.ExitStack()
        self._film = self._open.enter_context(Film(self._film_path, fps=recording.control_hz))
        self._pair_film: Film | None = None
        self._pairs: list[tuple[int, int, int]] = []  # plan, imagined frame, control step
        self._plans: list[tuple[int, PlanLike]] = []

    def add(self, observation: Mapping[str, Any], *, step: int, plan: PlanLike) -> None:
        """Takes the observation before control step `step`, and the plan that acts on it."""
        if self._plans and self._plans[-1][1] is not plan:
            self._pair(observation, step)  # where the last plan ends
        if not self._plans or self._plans[-1][1] is not plan:
            self._plans.append((step, plan))
        self._show(observation, step)

    def finish(
        self, observation: Mapping[str, Any], actions: Sequence[np.ndarray], **about: Any
    ) -> None:
        """Takes the last observation; writes the trace, with `about` in it."""
        self._show(observation, len(actions))
        self._open.close()
        write_json(self._trace_path, {**about, **self._trace(actions)})

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if kind is not None:
            for path in (self._film_path, self._pairs_path, self._trace_path):
                path.unlink(missing_ok=True)

    def _show(self, observation: Mapping[str, Any], step: int) -> None:
        self._film.add(self._frame(observation, step))
        self._pair(observation, step)

    def _pair(self, observation: Mapping[str, Any], step: int) -> None:
        start, plan = self._plans[-1]
        stride = self._recording.frame_stride
        if plan.video is None or stride is None:
            return
        frame, between = divmod(step - start, stride)
        if between or frame >= _length(plan.video):
            return
        if self._pair_film is None:
            fps = self._recording.control_hz / stride
            film = Film(self._pairs_path, fps=fps, pix_fmt="yuv444p", quality=_PAIR_QUALITY)
            self._pair_film = self._open.enter_context(film)
        executed = [observation["pixels"][view] for view in plan.video]
        imagined = [frames[frame] for frames in plan.video.values()]
        rows = [np.concatenate(views, axis=1) for views in (executed, imagined)]
        self._pair_film.add(np.concatenate(rows))
        self._pairs.append((len(self._plans) - 1, frame, step))

    def _frame(self, observation: Mapping[str, Any], step: int) -> np.ndarray:
        start, plan = self._plans[-1]
        stride = self._recording.frame_stride
        executed = (f"EXECUTED step {step}", observation["pixels"])
        if plan.video is None or stride is None:
            return compose(executed)
        frames = _length(plan.video)
        index = imagined_frame(step=step, plan_step=start, stride=stride, frames=frames)
        imagined = {view: frames[index] for view, frames in plan.video.items()}
        seen = {view: observation["pixels"][view] for view in imagined}
        title = f"IMAGINED plan {len(self._plans)}, frame {index}"
        return compose((executed[0], seen), (title, imagined))

    def _trace(self, actions: Sequence[np.ndarray]) -> dict[str, Any]:
        def rounded(numbers: Any) -> list[Any]:
            return np.asarray(numbers, np.float64).round(5).tolist()

        plans = [
            {"step": step, "latency_s": round(plan.latency_s, 4), "actions": rounded(plan.actions)}
            for step, plan in self._plans
        ]
        return {
            "actions": rounded(actions),
            "plans": plans,
            "frame_stride": self._recording.frame_stride,
            "control_hz": self._recording.control_hz,
            "views": list(self._plans[-1][1].video or ()),
            "pairs": self._pairs,
        }


def _length(video: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(video.values())))
