"""`vp-agent compare`: is one policy better than another, or at least not worse?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import tyro

from vp_agent.errors import ConfigError
from vp_agent.evaluation.paired import PairedTable, holm
from vp_agent.evaluation.pairing import Comparison, check_margin, compare
from vp_agent.evaluation.reading import read_evaluations, unsealed
from vp_agent.evaluation.statistics import wilson_interval
from vp_agent.files import write_json

_NAMED = 10  # so many unpaired episodes are named in the terminal


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Compares policies on the episodes that they share, by exact McNemar and a margin."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Evaluation folders (or journals); the first is the one to be measured against."""
    margin: float = 0.02
    """Non-inferiority margin: how much lower the success rate may be, from 0 to 1."""
    out: Path | None = None
    """Also writes the numbers to this JSON file."""

    def __post_init__(self) -> None:
        check_margin(self.margin)
        if len(self.folders) < 2:
            raise ConfigError(
                f"compare needs two evaluation folders or more, not {len(self.folders)}: "
                "vp-agent compare A B"
            )


def compare_folders(settings: CompareSettings) -> str:
    """Compares every two of the folders; returns what to print.

    Raises:
        VPAgentError: a folder cannot be read, or two of them cannot be compared.
    """
    evaluations = read_evaluations(settings.folders)
    found = [compare(a, b, margin=settings.margin) for a, b in combinations(evaluations, 2)]
    adjusted = holm([each.total.mcnemar_p for each in found])
    if settings.out is not None:
        rows = [
            {**each.as_dict(), "mcnemar_p_holm": p} for each, p in zip(found, adjusted, strict=True)
        ]
        write_json(settings.out, {"comparisons": rows})
    told = describe(found[0]) if len(found) == 1 else describe_all(found, adjusted)
    old = unsealed(record for evaluation in evaluations for record in evaluation.records)
    return f"{told}\nnote: {old}" if old else told


def describe(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    table, margin = comparison.total, 100 * comparison.margin
    low, high = (100 * bound for bound in table.interval())
    verdict = "shown" if comparison.non_inferior else "not shown"
    lines = [
        f"A  {comparison.a}: {_rate(table.successes_a, table.n)}",
        f"B  {comparison.b}: {_rate(table.successes_b, table.n)}",
        f"pairs: {table.n} (both {table.both}, only A {table.only_a}, only B {table.only_b}, "
        f"neither {table.neither})",
        f"B - A: {100 * table.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}; "
        "Newcombe 1998, paired, method 10)",
        f"exact McNemar: p = {table.mcnemar_p:.2g}",
        f"B at most {margin:g} points below A: {verdict} (one-sided 95 % lower bound "
        f"{100 * table.lower_bound:+.1f})",
        f"pairs for that margin: {comparison.pairs_needed:,} (80 % power, equal true rates, "
        f"{100 * table.discordance:.1f} % of pairs discordant as here)"
        if table.discordance
        else "pairs for that margin: unknown, no pair was discordant",
    ]
    if len(comparison.tasks) > 1:
        lines += ["", *_task_lines(comparison)]
    if comparison.unpaired:
        lines += ["", f"{len(comparison.unpaired)} episodes are not paired:"]
        lines += [f"  {each}" for each in comparison.unpaired[:_NAMED]]
        if len(comparison.unpaired) > _NAMED:
            lines.append(
                f"  and {len(comparison.unpaired) - _NAMED} more (all of them: --out FILE)"
            )
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])


def describe_all(comparisons: Sequence[Comparison], adjusted: Sequence[float]) -> str:
    """One line per pair of policies, with Holm's correction for their number; then the notes."""
    margin = f"B > A - {100 * comparisons[0].margin:g}"
    rows = [("A", "B", "pairs", "A %", "B %", "B - A (95 %)", "McNemar p", "Holm p", margin)]
    for each, p in zip(comparisons, adjusted, strict=True):
        shown = "shown" if each.non_inferior else "not shown"
        rows.append((each.a, each.b, *_cells(each.total), f"{p:.2g}", shown))
    unpaired = [
        f"{each.a}, {each.b}: {len(each.unpaired)} episodes are not paired (vp-agent compare "
        "of these two names them)"
        for each in comparisons
        if each.unpaired
    ]
    notes = [f"note: {each.a}, {each.b}: {note}" for each in comparisons for note in each.notes]
    return "\n".join([*_columns(rows), *unpaired, *notes])


def _task_lines(comparison: Comparison) -> list[str]:
    rows = [("task", "pairs", "A %", "B %", "B - A (95 %)", "McNemar p", "Holm p")]
    adjusted = holm([table.mcnemar_p for table in comparison.tasks.values()])
    for (task, table), p in zip(comparison.tasks.items(), adjusted, strict=True):
        rows.append((task, *_cells(table), f"{p:.2g}"))
    return _columns(rows)


def _cells(table: PairedTable) -> tuple[str, str, str, str, str]:
    low, high = (100 * bound for bound in table.interval())
    return (
        str(table.n),
        f"{100 * table.successes_a / table.n:.1f}",
        f"{100 * table.successes_b / table.n:.1f}",
        f"{100 * table.difference:+.1f} ({low:+.1f} to {high:+.1f})",
        f"{table.mcnemar_p:.2g}",
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _rate(successes: int, n: int) -> str:
    low, high = (100 * bound for bound in wilson_interval(successes, n))
    return (
        f"{successes} of {n} ({100 * successes / n:.1f} %, 95 % interval {low:.1f} to {high:.1f})"
    )
