"""Two evaluations on the same episodes, paired."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vp_agent.errors import ConfigError, VPAgentError
from vp_agent.evaluation.paired import PairedTable, holm, pairs_needed
from vp_agent.evaluation.reading import Evaluation, values
from vp_agent.evaluation.record import EpisodeRecord, Key

_PROTOCOL = ("suite", "suite_version", "fresh_env", "standin")
_SURROUNDINGS = ("package", "simulator", "gl", "gl_version", "gpu", "blank_images")


class ComparisonError(VPAgentError, ValueError):
    """Evaluations whose episodes are not the same ones."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """B against A on the episodes that both of them settled.

    Attributes:
        a: name of the policy to be measured against.
        b: name of the other.
        margin: of non-inferiority, a difference of rates.
        total: all pairs.
        tasks: the pairs of each task.
        unpaired: the episodes left out, and why.
        notes: what else differs between the two.
    """

    a: str
    b: str
    margin: float
    total: PairedTable
    tasks: Mapping[str, PairedTable]
    unpaired: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def non_inferior(self) -> bool:
        """Whether B is shown to be less than the margin below A."""
        return self.total.lower_bound > -self.margin

    @property
    def pairs_needed(self) -> int:
        """How many pairs decide that margin, if as many of them disagree as here."""
        return pairs_needed(self.total.discordance, self.margin)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        p_tasks = holm([table.mcnemar_p for table in self.tasks.values()])
        return {
            "a": self.a,
            "b": self.b,
            "margin": self.margin,
            **_numbers(self.total),
            "lower_bound_one_sided_95": self.total.lower_bound,
            "non_inferior": self.non_inferior,
            "pairs_needed": self.pairs_needed if self.total.discordance else None,
            "per_task": [
                {"task": task, **_numbers(table), "mcnemar_p_holm": p}
                for (task, table), p in zip(self.tasks.items(), p_tasks, strict=True)
            ],
            "unpaired": list(self.unpaired),
            "notes": list(self.notes),
        }


def _numbers(table: PairedTable) -> dict[str, Any]:
    return {
        "n": table.n,
        "successes_a": table.successes_a,
        "successes_b": table.successes_b,
        "both": table.both,
        "only_a": table.only_a,
        "only_b": table.only_b,
        "neither": table.neither,
        "difference": table.difference,
        "difference_95": list(table.interval()),
        "mcnemar_p": table.mcnemar_p,
    }


def compare(a: Evaluation, b: Evaluation, *, margin: float = 0.02) -> Comparison:
    """Pairs the episodes of two evaluations by (task, episode).

    Raises:
        ComparisonError: the two are not of the same suite, seeds and horizons, or share nothing.
        ConfigError: the margin is not between 0 and 1.
    """
    check_margin(margin)
    for side in (a, b):
        agents = values(side.records, "agent")
        if len(agents) > 1:
            raise ComparisonError(
                f"{side.name} mixes {len(agents)} agents ({', '.join(agents)}); expected the "
                "journal of one policy"
            )
    for field in _PROTOCOL:
        of_a, of_b = (" and ".join(values(side.ended, field)) for side in (a, b))
        if of_a and of_b and of_a != of_b:
            raise _not_the_same(a, b, field, of_a, of_b)
    lines_a, lines_b = _by_key(a), _by_key(b)
    shared = [key for key in lines_a if key in lines_b]
    if not shared:
        raise ComparisonError(
            f"{a.name} and {b.name} share no episode: {_extent(a)}, and {_extent(b)}; fly both "
            "with the same suite, --seed and --episodes"
        )
    pairs = {
        key: (of_a, of_b)
        for key in shared
        if (of_a := lines_a[key].success) is not None and (of_b := lines_b[key].success) is not None
    }
    if not pairs:
        raise ComparisonError(
            f"{a.name} and {b.name}: each of the {len(shared)} episodes they share is an error in "
            "one of the two; run their `vp-agent eval` again with --resume"
        )
    for key in pairs:
        for field in ("seed", "horizon"):
            of_a, of_b = getattr(lines_a[key], field), getattr(lines_b[key], field)
            if of_a != of_b:
                raise _not_the_same(a, b, f"{field} of {_named(key)}", str(of_a), str(of_b))
    tasks = dict.fromkeys(task for task, _ in pairs)
    return Comparison(
        a=a.name,
        b=b.name,
        margin=margin,
        total=_table(pairs.values()),
        tasks={
            task: _table(both for key, both in pairs.items() if key[0] == task) for task in tasks
        },
        unpaired=tuple(_unpaired(lines_a, lines_b)),
        notes=tuple(_notes(a, b, ((lines_a[key], lines_b[key]) for key in pairs))),
    )


def check_margin(margin: float) -> None:
    """Raises a `ConfigError` unless `margin` is a difference of success rates."""
    if not 0 < margin < 1:
        raise ConfigError(f"the margin is a difference of rates between 0 and 1, not {margin}")


def _table(pairs: Iterable[tuple[bool, bool]]) -> PairedTable:
    seen = Counter(pairs)
    return PairedTable(
        both=seen[True, True],
        only_a=seen[True, False],
        only_b=seen[False, True],
        neither=seen[False, False],
    )


def _by_key(evaluation: Evaluation) -> dict[Key, EpisodeRecord]:
    return {record.key: record for record in evaluation.records}


def _named(key: Key) -> str:
    return f"{key[0]} episode {key[1]}"


def _extent(evaluation: Evaluation) -> str:
    tasks = values(evaluation.records, "task")
    seeds = [record.seed for record in evaluation.records]
    named = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    return f"{evaluation.name} has {named}, seeds {min(seeds)} to {max(seeds)}"


def _not_the_same(
    a: Evaluation, b: Evaluation, field: str, of_a: str, of_b: str
) -> ComparisonError:
    return ComparisonError(
        f"{a.name} and {b.name} did not fly the same episodes: {field} is {of_a} in the first and "
        f"{of_b} in the second; fly one of them again with the other's suite and --seed"
    )


def _unpaired(a: Mapping[Key, Any], b: Mapping[Key, Any]) -> Iterator[str]:
    for key in sorted({*a, *b}):
        why = [
            f"{'not in' if key not in lines else 'error in'} {side}"
            for side, lines in (("A", a), ("B", b))
            if key not in lines or lines[key].success is None
        ]
        if why:
            yield f"{_named(key)} ({', '.join(why)})"


def _notes(
    a: Evaluation, b: Evaluation, pairs: Iterable[tuple[EpisodeRecord, EpisodeRecord]]
) -> Iterator[str]:
    for field in _SURROUNDINGS:
        of_a, of_b = (" and ".join(values(side.ended, field)) for side in (a, b))
        if of_a != of_b:
            yield f"{field} differs: {of_a or 'unknown'} in A, {of_b or 'unknown'} in B"
    hashes = [(of_a.state_hash, of_b.state_hash) for of_a, of_b in pairs]
    other = sum(None not in pair and pair[0] != pair[1] for pair in hashes)
    if other:
        yield f"{other} of {len(hashes)} pairs start from different states (state_hash)"
    if any(record.standin for record in a.records):
        yield "flown with stand-in assets: not reportable"
