"""One evaluation as the report shows it, and as results.json keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vp_agent.evaluation.reading import Evaluation, unsealed, values
from vp_agent.evaluation.record import EpisodeRecord
from vp_agent.evaluation.results import numbers
from vp_agent.evaluation.statistics import pooled
from vp_agent.report.clips import Clips, choose_clips
from vp_agent.report.doubts import doubts, other_robocasas

_IDENTITY = (
    "suite",
    "suite_version",
    "agent",
    "package",
    "tier",
    "sampler",
    "blank_images",
    "fresh_env",
    "env_kwargs",
)
_SHOWN = {"package": "vp-agent", "gl": "GL", "gl_version": "OpenGL", "gpu": "GPU"}


@dataclass(frozen=True, kw_only=True)
class View:
    """One evaluation, ready to be shown.

    Attributes:
        name: of its folder.
        suite: its suite, or "env:ID" for a single environment.
        policy: what was flown, as the user typed it.
        records: one per episode.
        results: what is written to results.json.
        doubts: why its numbers are not to be reported; empty for a sound evaluation.
        clips: the films to show.
        plan_s: seconds per plan: of all plans, or each episode's mean if only that was kept.
        versions: of everything that was involved.
    """

    name: str
    suite: str
    policy: str
    records: Sequence[EpisodeRecord]
    results: dict[str, Any]
    doubts: Sequence[str]
    clips: Clips
    plan_s: Sequence[float]
    versions: dict[str, str]

    @property
    def protocol(self) -> str:
        """The suite, and with what simulator if that is not the one of its protocol."""
        others = other_robocasas(self.records)
        return f"{self.suite} on RoboCasa {' and '.join(others)}" if others else self.suite

    @property
    def timing(self) -> str:
        """What `plan_s` counts, in words."""
        if not self.plan_s:
            return "no plan was timed"
        each = "plans" if self.first.plan_s else "episodes, the mean of each one's plans"
        film = ", decoding the imagined video included"
        with_video = film if self.results["seconds_per_plan_includes_video"] else ""
        return f"{len(self.plan_s):,} {each}{with_video}"

    @property
    def first(self) -> EpisodeRecord:
        """The first episode with an outcome, or with none if there is no other."""
        return next((r for r in self.records if r.success is not None), self.records[0])

    @property
    def errors(self) -> list[EpisodeRecord]:
        """The episodes that ended in an infrastructure error."""
        return [record for record in self.records if record.success is None]


def view(evaluation: Evaluation) -> View:
    """Counts an evaluation anew from its journal; what results.json alone knows is kept."""
    records, known = evaluation.records, evaluation.results
    counted = numbers(records, {record.key for record in records})
    mean = pooled(counted["per_task"])
    scheduled = evaluation.scheduled
    found = list(doubts(evaluation))
    results = {
        **known,
        **{field: getattr(records[0], field) for field in _IDENTITY},
        "policy": records[0].policy or known.get("policy"),
        **counted,
        "mean_over_tasks": mean["mean_over_tasks"],
        "mean_over_tasks_95": mean["mean_over_tasks_95"],
        "scheduled": scheduled,
        "complete": counted["n"] == scheduled,
        "doubts": found,
        "versions": _versions(evaluation),
    }
    first = records[0]
    policy = first.policy or str(known.get("settings", {}).get("agent") or first.agent)
    return View(
        name=evaluation.name,
        suite=first.suite,
        policy=policy,
        records=records,
        results=results,
        doubts=found,
        clips=choose_clips(evaluation),
        plan_s=_plan_seconds(records),
        versions=results["versions"],
    )


def _versions(evaluation: Evaluation) -> dict[str, str]:
    found = dict(evaluation.results.get("versions", {}))
    for record in evaluation.records:
        found.update(record.simulator)
    if old := unsealed(evaluation.records):
        found["journal"] = old
    for field, name in _SHOWN.items():
        if known := values(evaluation.records, field):
            found[name] = ", ".join(known)
    return found


def _plan_seconds(records: Sequence[EpisodeRecord]) -> list[float]:
    """Without filmed episodes if there are others: a filmed plan also decodes its video."""
    ended = [record for record in records if record.success is not None]
    timed = [record for record in ended if record.video is None] or ended
    seconds: list[float] = []
    for record in timed:
        seconds += record.plan_s or [record.seconds_per_plan or 0.0]
    return seconds
