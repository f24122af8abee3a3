"""The pairs of a recorded episode: what was imagined and what the cameras saw at that step."""

# V views, H W image height/width

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from vp_agent.errors import VPAgentError
from vp_agent.files import read_object


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


def read_trace(path: Path) -> dict[str, Any]:
    """What `Recorder.finish` wrote.

    Raises:
        RecordingError: it is damaged.
    """
    return read_object(path, error=RecordingError, fix="remove it; the film stays")


def read_pairs(folder: Path, name: str) -> Iterator[Pair]:
    """The pairs of the recorded episode `name` of an evaluation folder, in order.

    Raises:
        RecordingError: there are none, or film and trace disagree.
    """
    trace_path, film_path = folder / f"traces/{name}.json", folder / f"pairs/{name}.mp4"
    for path in (trace_path, film_path):
        if not path.is_file():
            raise RecordingError(
                f"{path} is missing; expected what `vp-agent eval --record N` writes for an agent "
                "that imagines (early recordings have no pairs: fly them again)"
            )
    trace = read_trace(trace_path)
    views, places = trace["views"], trace["pairs"]
    count = 0
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
    if count != len(places):
        raise RecordingError(
            f"{film_path} does not hold the {len(places)} pairs of {trace_path}: one of them is "
            "of another flight or damaged; fly the episode again"
        )
