"""`vp-agent compare`: paired statistics against published values, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from journals import evaluation, line, outcomes
from scipy.stats import binom

from vp_agent.cli import main
from vp_agent.errors import ConfigError
from vp_agent.evaluation.compare import CompareSettings
from vp_agent.evaluation.journal import JournalError
from vp_agent.evaluation.paired import PairedTable, holm, pairs_needed
from vp_agent.evaluation.pairing import Comparison, ComparisonError, compare
from vp_agent.evaluation.reading import EvaluationError, read_evaluation

TWO_STAGE = Path(__file__).parents[1] / "benchmarks/two-stage"


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Altman et al., Statistics with Confidence (2000), table 6.2.
        (PairedTable(both=14, only_a=0, only_b=5, neither=22), 0.011, 0.226),
        # Fagerland, Lydersen & Laake, Stat. Med. 33:2850 (2014): Bentur, and Cavo.
        (PairedTable(both=1, only_a=7, only_b=1, neither=12), -0.507, -0.026),
        (PairedTable(both=59, only_a=16, only_b=6, neither=80), -0.1186, -0.0046),
    ],
)
def test_paired_intervals_are_the_published_ones(
    table: PairedTable, low: float, high: float
) -> None:
    digits = 4 if abs(low * 1000 % 1) > 1e-9 else 3
    assert table.interval() == pytest.approx((low, high), abs=0.51 * 10**-digits)


def test_the_paired_interval_turns_over_with_its_sides() -> None:
    table = PairedTable(both=20, only_a=2, only_b=12, neither=16)
    low, high = PairedTable(both=20, only_a=12, only_b=2, neither=16).interval()
    assert table.interval() == pytest.approx((-high, -low))


@pytest.mark.parametrize(("only_a", "only_b"), [(7, 1), (0, 5), (16, 6), (4, 4)])
def test_mcnemar_sums_the_tail_of_a_fair_coin(only_a: int, only_b: int) -> None:
    smaller, n = min(only_a, only_b), only_a + only_b
    tail = sum(binom.pmf(k, n, 0.5) for k in range(smaller + 1))
    table = PairedTable(both=3, only_a=only_a, only_b=only_b, neither=3)
    assert table.mcnemar_p == pytest.approx(min(1, 2 * tail))


def test_without_a_discordant_pair_nothing_is_shown_to_differ() -> None:
    table = PairedTable(both=5, only_a=0, only_b=0, neither=5)
    assert table.mcnemar_p == 1
    low, high = table.interval()
    assert low < 0 < high


def test_the_pairs_for_a_margin_are_those_of_the_formula() -> None:
    # (1.6449 + 0.8416)^2 = 6.1826; x 0.15 / 0.02^2 and / 0.01^2.
    assert pairs_needed(0.15, 0.02) == 2319
    assert pairs_needed(0.15, 0.01) == 9274


def test_holm_is_the_textbook_step_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


def _compare(tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Comparison:
    first, second = evaluation(tmp_path / "a", a), evaluation(tmp_path / "b", b)
    return compare(read_evaluation(first), read_evaluation(second))


def test_episodes_are_paired_by_task_and_number(tmp_path: Path) -> None:
    a = [*outcomes("OpenDrawer", "++--"), *outcomes("CloseDrawer", "+-")]
    b = [*outcomes("CloseDrawer", "++"), *outcomes("OpenDrawer", "+-+-")]
    comparison = _compare(tmp_path, a, b)
    assert comparison.total == PairedTable(both=2, only_a=1, only_b=2, neither=1)
    assert comparison.tasks["CloseDrawer"] == PairedTable(both=1, only_a=0, only_b=1, neither=0)
    assert not comparison.unpaired


def test_unpaired_episodes_are_named_with_their_reason(tmp_path: Path) -> None:
    a, b = (outcomes("OpenDrawer", marks, standin=True) for marks in ("+-+-", "++-"))
    a[1] |= outcomes("OpenDrawer", "ee")[1]
    b[2] |= outcomes("OpenDrawer", "eee")[2]
    comparison = _compare(tmp_path, a, b)
    assert comparison.total.n == 1
    assert comparison.notes == ("flown with stand-in assets: not reportable",)
    assert comparison.as_dict()["pairs_needed"] is None  # the one pair is not discordant
    assert comparison.unpaired == (
        "OpenDrawer episode 1 (error in A)",
        "OpenDrawer episode 2 (error in B)",
        "OpenDrawer episode 3 (not in B)",
    )


@pytest.mark.parametrize(
    ("lost", "margin", "shown"), [(0, 0.02, True), (5, 0.02, False), (5, 0.10, True)]
)
def test_non_inferiority_depends_on_the_episodes_lost_and_the_margin(
    tmp_path: Path, lost: int, margin: float, shown: bool
) -> None:
    a = read_evaluation(evaluation(tmp_path / "a", outcomes("OpenDrawer", "+" * 100 + "-" * 100)))
    outcome = "-" * lost + "+" * (100 - lost) + "-" * 100
    b = read_evaluation(evaluation(tmp_path / "b", outcomes("OpenDrawer", outcome)))
    assert compare(a, b, margin=margin).non_inferior is shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"suite": "robocasa24-registry"}, "suite is robocasa24-paper in the first"),
        ({"seed": 7}, "seed of OpenDrawer episode 0 is 100 in the first and 7"),
        ({"horizon": 500}, "horizon of OpenDrawer episode 0 is 992 in the first and 500"),
        ({"standin": True}, "standin is false in the first and true"),
        ({"episode": 50}, "share no episode"),
        ({"success": None, "error": "x"}, "is an error in one of the two"),
    ],
)
def test_other_episodes_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        _compare(tmp_path, [line()], [line(**change)])


def test_a_journal_of_two_agents_is_refused(tmp_path: Path) -> None:
    mixed = [line(), line(episode=1, agent="other")]
    with pytest.raises(ComparisonError, match="a mixes 2 agents"):
        _compare(tmp_path, mixed, [line()])


def test_other_surroundings_are_noted(tmp_path: Path) -> None:
    other = line(gpu="NVIDIA A100", state_hash="another")
    notes = _compare(tmp_path, [line()], [other]).notes
    assert "gpu differs: none in A, NVIDIA A100 in B" in notes
    assert "1 of 1 pairs start from different states (state_hash)" in notes


def test_a_settled_line_beats_the_error_before_it(tmp_path: Path) -> None:
    retried = [*outcomes("OpenDrawer", "e"), line(success=False), *outcomes("OpenDrawer", "e")]
    (record,) = read_evaluation(evaluation(tmp_path, retried)).records
    assert record.success is False


def test_journals_of_schema_1_are_compared_on_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = [
        f"{TWO_STAGE}/journal-{name}.jsonl" for name in ("no-video-training-10", "two-stage-10")
    ]
    out = tmp_path / "numbers.json"
    assert main(["compare", *paths, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "pairs: 50 (both 7, only A 6, only B 12, neither 25)" in shown
    assert "B - A: +12.0 points" in shown
    assert "p = 0.24" in shown
    (numbers,) = json.loads(out.read_text())["comparisons"]
    assert numbers["mcnemar_p"] == pytest.approx(2 * binom.cdf(6, 18, 0.5))
    assert numbers["pairs_needed"] == pairs_needed(18 / 50, 0.02)


def test_three_folders_make_a_table_with_holms_correction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", *map(str, sorted(TWO_STAGE.glob("journal-*-10.jsonl")))]) == 0
    header, *rows, note, following = capsys.readouterr().out.splitlines()
    assert note.startswith("note: lines of journal schema 1 have no checksum")
    assert following.startswith("next: vp-agent report ")
    assert re.search(r"McNemar p  Holm p +B > A - 2$", header)
    assert all(row.endswith("shown") for row in rows)
    assert [row.split()[:2] for row in rows] == [
        ["joint-10", "no-video-training-10"],
        ["joint-10", "two-stage-10"],
        ["no-video-training-10", "two-stage-10"],
    ]


def test_folders_of_equal_name_are_told_apart_and_every_pair_has_its_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flown = {"x/lift": "none", "y/lift": "H100", "z": "none"}
    folders = [
        str(evaluation(tmp_path / name, outcomes("OpenDrawer", "+-", gpu=gpu)))
        for name, gpu in flown.items()
    ]
    assert main(["compare", *folders]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^(\S+/lift)", told, re.MULTILINE) == ["x/lift", "x/lift", "y/lift"]
    assert "note: x/lift, y/lift: gpu differs: none in A, H100 in B" in told
    assert "note: x/lift, z:" not in told


@pytest.mark.parametrize("margin", [0.0, -0.02, 1.0, 2.0])
def test_a_margin_that_is_no_difference_of_rates_is_refused(tmp_path: Path, margin: float) -> None:
    folder = read_evaluation(evaluation(tmp_path, [line()]))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        compare(folder, folder, margin=margin)


def test_one_folder_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two evaluation folders or more, not 1"):
        CompareSettings(folders=(tmp_path,))


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no journal\.jsonl; expected the --out folder"):
        read_evaluation(tmp_path)


def test_an_empty_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no finished episode"):
        read_evaluation(evaluation(tmp_path, []))


def test_a_journal_of_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"line 2 is of journal schema 9.*reads 1, 2 and 3"):
        read_evaluation(evaluation(tmp_path, [line(), line(episode=1, schema=9)]))


def test_lines_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"line 1 has no schema, env, agent"):
        read_evaluation(evaluation(tmp_path, [{"loss": 0.5}]))


def test_a_damaged_line_is_refused_and_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    journal = evaluation(tmp_path, outcomes("OpenDrawer", "+-")) / "journal.jsonl"
    whole = journal.read_text()
    journal.write_text(whole + '{"schema": 3, "task"')
    assert len(read_evaluation(tmp_path).records) == 2
    journal.write_text('{"schema": 3, "task"\n' + whole)
    with pytest.raises(JournalError, match="line 1 is damaged"):
        read_evaluation(tmp_path)


def test_a_damaged_results_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (evaluation(tmp_path, [line()]) / "results.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"results\.json is damaged.*remove it"):
        read_evaluation(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(EvaluationError, match=r"results\.json holds no JSON object"):
        read_evaluation(tmp_path)
    (tmp_path / "results.json").unlink()
    (tmp_path / "schedule.json").write_text("{")
    with pytest.raises(JournalError, match=r"schedule\.json is damaged.*--resume"):
        read_evaluation(tmp_path)
