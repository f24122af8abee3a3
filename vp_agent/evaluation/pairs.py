"""The pairs of a recorded episode: what was imagined and what the cameras saw at that step."""

# V views, H W image height/width

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from vp_agent.errors import VPAgentError
from vp_agent.evaluation.inside import file_inside
from vp_agent.files import read_object
from vp_agent.typed import Misfit, fit


class RecordingError(VPAgentError, ValueError):
    """A recording that lacks a part or whose parts do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One imagined frame and its executed one, uint8 (H, W, 3) per view.

    `plan` counts from 0, `frame` within the plan, `step` is the control step of both images.
    """

    plan: int
    frame: int
    step: int
    executed: dict[str, np.ndarray]
    imagined: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PlanTrace:
    """One plan: its first control step, the seconds it took, its actions (steps, dimensions)."""

    step: int
    latency_s: float
    actions: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What `Recorder.finish` writes of an episode.

    Attributes:
        actions: executed ones (steps, dimensions).
        plans: every plan; as objects of JSON they are dicts.
        pairs: plan, imagined frame and control step of each pair of frames.
        views: of a pair, from left to right.
        frame_stride: control steps between imagined frames.
        control_hz: of the actions.
        instruction: that the agent was given.
        success: of the episode.
    """

    actions: list[list[float]]
    plans: list[PlanTrace]
    pairs: list[list[int]] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    frame_stride: int | None = None
    control_hz: float | None = None
    instruction: str | None = None
    success: bool | None = None

    def __post_init__(self) -> None:
        chunks = [self.actions, *(plan.actions for plan in self.plans)]
        widths = {len(row) for chunk in chunks for row in chunk}
        steps = [plan.step for plan in self.plans]
        begin = steps == sorted(set(steps)) and all(0 <= step < len(self.actions) for step in steps)
        if len(widths) != 1 or 0 in widths or not all(chunks) or not begin:
            raise Misfit("has actions that do not fit together")
        if not np.isfinite(np.concatenate(chunks)).all():
            raise Misfit("has actions that are not finite")
        if any(len(pair) != 3 or min(pair) < 0 for pair in self.pairs):
            raise Misfit("has pairs that are not a plan, a frame and a step each")


def read_trace(path: Path) -> Trace:
    """What `Recorder.finish` wrote.

    Raises:
        RecordingError: it is damaged.
    """
    fix = "remove it; the film stays"
    values = read_object(path, error=RecordingError, fix=fix)
    try:
        plans = values.get("plans")
        if not isinstance(plans, list):
            raise Misfit("has no plans")
        return fit(Trace, {**values, "plans": [fit(PlanTrace, plan) for plan in plans]})
    except Misfit as error:
        raise RecordingError(f"{path} {error}; {fix}") from error


def read_pairs(folder: Path, name: str) -> Iterator[Pair]:
    """The pairs of the recorded episode `name` of an evaluation folder, in order.

    Raises:
        RecordingError: there are none, or film and trace disagree.
    """
    paths = folder / f"traces/{name}.json", folder / f"pairs/{name}.mp4"
    for path in paths:
        if file_inside(folder, str(path.relative_to(folder))) is None:
            raise RecordingError(
                f"{path} is missing or lies outside the folder; expected what `vp-agent eval "
                "--record N` writes for an agent that imagines (early recordings have no pairs: "
                "fly them again)"
            )
    trace_path, film_path = paths
    trace = read_trace(trace_path)
    views, places = trace.views, trace.pairs
    count = 0
    try:
        with av.open(str(film_path)) as film:
            for count, frame in enumerate(film.decode(video=0), start=1):
                if count > len(places):
                    break
                plan, number, step = places[count - 1]
                rows = np.split(frame.to_ndarray(format="rgb24"), 2)
                executed, imagined = (
                    dict(zip(views, np.split(row, len(views), axis=1), strict=True)) for row in rows
                )
                yield Pair(plan=plan, frame=number, step=step, executed=executed, imagined=imagined)
    except (av.FFmpegError, IndexError, ValueError, ZeroDivisionError) as error:
        raise RecordingError(f"{film_path} is damaged ({error}); fly the episode again") from error
    if count != len(places):
        raise RecordingError(
            f"{film_path} does not hold the {len(places)} pairs of {trace_path}: one of them is "
            "of another flight or damaged; fly the episode again"
        )
