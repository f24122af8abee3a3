"""Which films a page shows: some successes, some failures, not too many bytes."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vp_agent.evaluation.inside import file_inside
from vp_agent.evaluation.pairs import read_trace
from vp_agent.evaluation.reading import Evaluation
from vp_agent.evaluation.record import EpisodeRecord
from vp_agent.report.plots import action_plot

CLIPS = 6  # of the successes and of the failures of one evaluation
CLIP_BYTES = 24 * 2**20  # of one evaluation's films on the page


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An episode to look at: the film as base64, the plot of its actions as SVG if it has one."""

    record: EpisodeRecord
    film: str
    plot: Markup | None


@dataclass(frozen=True, kw_only=True)
class Clips:
    """The films of one evaluation; `left_out` says which exist and are not shown, and why."""

    successes: Sequence[Clip]
    failures: Sequence[Clip]
    left_out: str


def choose_clips(evaluation: Evaluation) -> Clips:
    """Takes films of successes and failures in turn, first one of every task, then the next."""
    filmed = [record for record in evaluation.records if record.video]
    there = [record for record in filmed if _film(evaluation.folder, record) is not None]
    groups = [
        _one_of_each_task([record for record in there if record.success is outcome])[:CLIPS]
        for outcome in (True, False)
    ]
    taken, size = [], 0
    longest = max(map(len, groups))
    for place in range(longest):
        for group in groups:
            for record in group[place : place + 1]:
                film = _film(evaluation.folder, record)
                film_size = CLIP_BYTES if film is None else film.stat().st_size
                if size + film_size <= CLIP_BYTES:
                    taken.append(record)
                    size += film_size
    clips = [_clip(evaluation.folder, record) for record in taken]
    return Clips(
        successes=[clip for clip in clips if clip.record.success],
        failures=[clip for clip in clips if not clip.record.success],
        left_out=_left_out(evaluation.folder, filmed, there, taken),
    )


def _one_of_each_task(records: Iterable[EpisodeRecord]) -> list[EpisodeRecord]:
    seen: dict[str, int] = {}
    turns = []
    for record in records:
        turns.append((seen.setdefault(record.task, 0), record))
        seen[record.task] += 1
    return [record for _, record in sorted(turns, key=lambda turn: turn[0])]


def _film(folder: Path, record: EpisodeRecord) -> Path | None:
    return None if record.film is None else file_inside(folder, record.film)


def _clip(folder: Path, record: EpisodeRecord) -> Clip:
    film = _film(folder, record)
    assert film is not None  # chosen because it is there
    trace = file_inside(folder, f"traces/{film.stem}.json")
    plot = None if trace is None else Markup(action_plot(read_trace(trace)))
    return Clip(record=record, film=base64.b64encode(film.read_bytes()).decode(), plot=plot)


def _left_out(
    folder: Path,
    filmed: Sequence[EpisodeRecord],
    there: Sequence[EpisodeRecord],
    taken: Sequence[EpisodeRecord],
) -> str:
    parts = []
    if len(there) > len(taken):
        parts.append(f"{len(there) - len(taken)} more films are in {folder / 'videos'}")
    if len(filmed) > len(there):
        parts.append(f"{len(filmed) - len(there)} films of the journal are not in the folder")
    return "; ".join(parts)
