"""The report page, made from an evaluation of a toy task by a stand-in agent."""

import json
import re
from pathlib import Path

import pytest
from journals import NOTHING, evaluation, flown, line, outcomes
from pilots import Looker, Reach, episode

from vp_agent.errors import OutputExistsError
from vp_agent.evaluation.episode import fly
from vp_agent.evaluation.journal import Journal
from vp_agent.evaluation.merge import MergeSettings, merge
from vp_agent.evaluation.pairs import RecordingError
from vp_agent.evaluation.reading import EvaluationError, read_evaluation
from vp_agent.evaluation.record import Identity
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.statistics import summarise
from vp_agent.report import clips, write_report
from vp_agent.report.beside import beside_the_paper, rows_of

LIFT = Path(__file__).parents[1] / "benchmarks/lift"
IDENTITY = {
    "suite": "env:Reach-v0",
    "agent": "0123456789abcdef",
    "tier": "default",
    "sampler": {"steps": 3, "guidance": 1.5},
    "blank_images": False,
    "env_kwargs": {"resolution": [16, 16]},
}


def _evaluation(folder: Path, **changes: object) -> Path:
    identity = {**IDENTITY, **changes}
    with Journal(folder / "journal.jsonl", identity=Identity(**identity)) as journal:
        for seed in range(3):
            recording = Recording(folder=folder, frame_stride=2, control_hz=20)
            blank = bool(identity["blank_images"])
            shown = recording if seed < 2 else None
            flight = fly(Looker(), Reach(), episode(seed), blank_images=blank, recording=shown)
            journal.append(flight)
    results = {
        **summarise(journal.records),
        **identity,
        "seeds": [0, 2],
        "execute": 4,
        "horizon": 6,
        "settings": {"agent": "looker", "note": "<script>alert(1)</script>"},
        "versions": {"torch": "2.99"},
        "machine": {"cpu_count": 2},
        "commit": None,
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_the_report_shows_the_counts_the_films_and_the_plots(tmp_path: Path) -> None:
    page = write_report(_evaluation(tmp_path)).read_text()
    assert "3 of 3" in page
    assert "44 to 100 %" in page  # Wilson interval of 3 of 3
    assert page.count("data:video/mp4;base64,") == 2
    assert page.count("<svg") == 3  # two plots of actions and the histogram of plan times
    assert "episode 1" in page
    assert "torch" in page
    assert "2.99" in page


def test_the_report_needs_no_network(tmp_path: Path) -> None:
    page = write_report(_evaluation(tmp_path)).read_text()
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)]{1,40})', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in re.sub(r'<style type="text/css">.*?</style>', "", page)


def test_the_report_escapes_what_it_shows(tmp_path: Path) -> None:
    assert "<script>" not in write_report(_evaluation(tmp_path)).read_text()


def test_a_control_run_says_so(tmp_path: Path) -> None:
    page = write_report(_evaluation(tmp_path, blank_images=True)).read_text()
    assert "0 of 3" in page
    assert "Control run" in page


def test_a_folder_without_a_journal_is_refused_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no journal\.jsonl; expected the --out folder"):
        write_report(tmp_path)


def _banner(page: Path) -> str:
    found = re.search(r'<section class="banner".*?</section>', page.read_text(), re.DOTALL)
    return found.group() if found else ""


def test_a_sound_evaluation_has_no_banner(tmp_path: Path) -> None:
    assert _banner(write_report(evaluation(tmp_path, outcomes("OpenDrawer", "+-+")))) == ""
    assert "Not reportable" not in (tmp_path / "report.md").read_text()


def test_an_evaluation_that_was_stopped_is_shown_with_a_banner(tmp_path: Path) -> None:
    (evaluation(tmp_path, outcomes("OpenDrawer", "+-")) / "results.json").unlink()
    assert "It has not ended" in _banner(write_report(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["n"], results["scheduled"], results["complete"]) == (2, None, False)
    assert "It has not ended" in _banner(write_report(tmp_path))  # of the results just written


@pytest.mark.parametrize(
    ("lines", "scheduled", "words"),
    [
        (outcomes("OpenDrawer", "+-"), 5, "2 of 5 scheduled episodes are settled"),
        (outcomes("OpenDrawer", "+e"), 2, "neither as success nor as failure: 1"),
        ([line(), line(episode=1, agent="beef")], 2, "mixes 2 agents: beef, c175780271633a8b"),
        ([line(), line(episode=1, package="0.2.0")], 2, "2 versions of vp-agent: 0.1.0, 0.2.0"),
        ([line(simulator={"a": "1"}), line(episode=1)], 2, "mixes 2 simulator versions"),
        ([line(gpu="A100"), line(episode=1)], 2, "mixes 2 GPUs: A100, none"),
        ([line(standin=True), line(episode=1)], 2, "flown with stand-in assets: 1"),
        ([line(simulator={"robocasa": "1.0.1"})], 1, "this is RoboCasa 1.0.1"),
    ],
)
def test_what_is_not_reportable_says_so_in_a_banner(
    tmp_path: Path, lines: list[dict[str, object]], scheduled: int, words: str
) -> None:
    banner = _banner(write_report(evaluation(tmp_path, lines, scheduled=scheduled)))
    assert "Not reportable" in banner
    assert words in banner
    assert words in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["doubts"]


def test_errors_are_listed_with_their_words(tmp_path: Path) -> None:
    error = line(episode=7, **{**NOTHING, "error": "WorkerDied: <signal 9>", "attempts": 3})
    page = write_report(evaluation(tmp_path, [line(episode=9), error])).read_text()
    assert "mixes" not in _banner(tmp_path / "report.html")
    assert "episode 7 (seed 107)" in page
    assert "WorkerDied: &lt;signal 9&gt;" in page
    assert "episode 7 (seed 107, 3 attempts)" in (tmp_path / "report.md").read_text()
    assert "2 plans" in page
    assert "None" not in page


def test_results_json_is_counted_anew_and_keeps_what_it_knew(tmp_path: Path) -> None:
    folder = evaluation(tmp_path, [*outcomes("OpenDrawer", "++-"), *outcomes("CloseDrawer", "+")])
    write_report(folder)
    results = json.loads((folder / "results.json").read_text())
    assert (results["commit"], results["complete"], results["successes"]) == ("abc", True, 3)
    assert results["mean_over_tasks"] == pytest.approx((2 / 3 + 1) / 2)
    assert [row["task"] for row in results["per_task"]] == ["CloseDrawer", "OpenDrawer"]
    assert results["per_category"][0]["category"] == "Drawers"
    assert results["versions"] == {
        "robocasa": "0.2.0",
        "vp-agent": "0.1.0",
        "GL": "osmesa",
        "GPU": "none",
    }


def test_what_was_flown_again_is_counted_again(tmp_path: Path) -> None:
    lines = outcomes("OpenDrawer", "+-")
    folder = evaluation(tmp_path, lines)
    known = json.loads((folder / "results.json").read_text())
    known |= {"first_error": "WorkerDied", "seeds": [-1, 999], "standin": True}
    (folder / "results.json").write_text(json.dumps(known))
    write_report(folder)
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [min(x["seed"] for x in lines), max(x["seed"] for x in lines)]
    assert (results["first_error"], results["standin"]) == (None, False)


def test_a_folder_of_schema_1_is_counted_alike_every_time(tmp_path: Path) -> None:
    old = (LIFT / "journal.jsonl").read_text().splitlines(keepends=True)[:3]
    (tmp_path / "journal.jsonl").write_text("".join(old))
    seeds = sorted(json.loads(text)["seed"] for text in old)[:2]
    (tmp_path / "results.json").write_text(json.dumps({"seeds": seeds}))
    counts = []
    for _ in range(2):
        write_report(tmp_path)
        results = json.loads((tmp_path / "results.json").read_text())
        counts.append((results["n"], results["complete"], results["seeds"]))
    assert counts == [(2, True, seeds)] * 2
    assert "have no checksum" in (tmp_path / "report.html").read_text()


def _cells(page: Path, first: str) -> list[str]:
    """The cells of the markdown row that starts with `first` in the paper's Table 1."""
    text = (page.parent / "report.md").read_text().split("## Table 1 ")[1].split("##")[0]
    row = next(row for row in text.splitlines() if row.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_tasks_stand_beside_the_columns_of_the_paper(tmp_path: Path) -> None:
    lines = [*outcomes("OpenDrawer", "++--"), *outcomes("CloseDrawer", "+++-")]
    page = write_report(evaluation(tmp_path, lines))
    paper = ["0", "36", "64", "60", "79", "72", "66", "28", "46", "54"]
    assert _cells(page, "OpenDrawer") == ["OpenDrawer", "50 (15 to 85)", *paper]
    mean = _cells(page, "Mean of these 2 tasks")
    assert mean[1].startswith("62 (")
    assert mean[-2:] == ["71", "77"]  # means of the same two tasks, not the printed averages
    html = page.read_text()
    assert all(f"Table {number}:" in html for number in (1, 3, 6, 7, 8))
    assert "Table 9:" not in html


def test_a_category_stands_beside_the_papers_mean_over_its_tasks(tmp_path: Path) -> None:
    lines = [
        *outcomes("OpenDrawer", "+"),
        *outcomes("CloseDrawer", "-"),
        *outcomes("OpenSingleDoor", "+"),
    ]
    page = write_report(evaluation(tmp_path, lines))
    assert _cells(page, "Drawers (mean over tasks)")[-2:] == ["71", "77"]


def test_another_protocol_is_named_and_not_ranked(tmp_path: Path) -> None:
    lines = outcomes("OpenDrawer", "+" * 50, suite="robocasa24-mimicgen")
    page = write_report(evaluation(tmp_path, lines)).read_text()
    table = page[page.index("Table 1:") : page.index("Table 3:")]
    assert "not robocasa24-mimicgen" in table
    assert "▲" not in table
    assert "▲" in page[page.index("Table 8:") :]  # that table's own protocol


def test_robocasa_1_0_is_not_ranked(tmp_path: Path) -> None:
    lines = outcomes("OpenDrawer", "+" * 50, simulator={"robocasa": "1.0.1"})
    page = write_report(evaluation(tmp_path, lines)).read_text()
    table = page[page.index("Table 1:") : page.index("Table 3:")]
    assert "not robocasa24-paper on RoboCasa 1.0.1" in table
    assert "▲" not in table


def test_a_mean_over_tasks_of_unequal_n_is_not_ranked(tmp_path: Path) -> None:
    lines = [*flown("OpenDrawer", "+-"), *flown("CloseDrawer", "+" * 50)]
    rows = beside_the_paper(rows_of([lines]), ["robocasa24-paper"])[0].lines
    marks = {row.label: {cell.stands for cell in cells} for row, cells in rows}
    assert "above" in marks["CloseDrawer"]
    assert marks["Mean of these 2 tasks"] == {""}


def test_libero_tasks_stand_beside_tables_2_and_9(tmp_path: Path) -> None:
    lines = outcomes("put both moka pots on the stove", "+-", suite="libero10-uva")
    lines = [{**each, "env": "LIBERO-10-8-v0", "category": ""} for each in lines]
    text = write_report(evaluation(tmp_path, lines)).with_suffix(".md").read_text()
    assert "## Table 2 of the paper" in text
    assert "| put both moka pots on the stove | 50 (9 to 91) | 80 |" in text


def test_a_task_of_its_own_has_no_table_of_the_paper(tmp_path: Path) -> None:
    assert "Beside the paper" not in write_report(_evaluation(tmp_path)).read_text()


def test_several_evaluations_share_one_page(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "paper", outcomes("OpenDrawer", "++-+"))
    second = evaluation(tmp_path / "fast", outcomes("OpenDrawer", "+--+", agent="beef"))
    third = evaluation(tmp_path / "other", outcomes("OpenDrawer", "+", suite="x", agent="dead"))
    page = write_report(first, second, third, out=tmp_path / "all")
    text = page.read_text()
    assert page == tmp_path / "all/report.html"
    assert "2 · 1 · 0 · 1" in text  # both, only A, only B, neither
    assert "suite is robocasa24-paper in the first and x in the second" in text
    numbers = json.loads((tmp_path / "all/results.json").read_text())["evaluations"]
    assert [each["successes"] for each in numbers] == [3, 2, 1]
    assert not (first / "report.html").exists()
    with pytest.raises(OutputExistsError, match=r"replace its results\.json"):
        write_report(first, second, out=first)


def test_a_mean_over_tasks_is_of_those_who_flew_them_all(tmp_path: Path) -> None:
    both = [*outcomes("OpenDrawer", "+-"), *outcomes("CloseDrawer", "--")]
    first = evaluation(tmp_path / "some", outcomes("OpenDrawer", "++"))
    second = evaluation(tmp_path / "both", both)
    rows = rows_of([read_evaluation(folder).records for folder in (first, second)])
    (whole,) = [row for row in rows if row.kind == "all"]
    assert [each and each["rate"] for each in whole.measured] == [None, 0.25]
    page = write_report(first, second, out=tmp_path / "page")
    assert _cells(page, "Mean of these 2 tasks")[1:3] == ["–", "25 (5 to 64)"]


def test_films_are_bounded_and_show_failures_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = outcomes("OpenDrawer", "+" * 10 + "-" * 3)
    (tmp_path / "videos").mkdir()
    for each in lines:
        each["video"] = f"videos/OpenDrawer-{each['episode']:05d}.mp4"
        (tmp_path / each["video"]).write_bytes(b"film" * 100)
    lines += [line(episode=90, video="missing: no space left")]
    page = write_report(evaluation(tmp_path, lines)).read_text()
    assert page.count("data:video/mp4") == clips.CLIPS + 3
    assert "4 more films are in" in page
    assert "1 films of the journal are not in the folder" in page
    monkeypatch.setattr(clips, "CLIP_BYTES", 900)
    assert write_report(tmp_path).read_text().count("data:video/mp4") == 2


@pytest.mark.parametrize("link", ["film", "folder"])
def test_a_film_outside_the_folder_is_not_shown_or_copied(tmp_path: Path, link: str) -> None:
    (tmp_path / "theirs").mkdir()
    secret = tmp_path / "theirs/OpenDrawer-00000.mp4"
    secret.write_bytes(b"root:x:0:0:secret")
    folder = evaluation(tmp_path / "mine", [line(video="videos/OpenDrawer-00000.mp4")])
    if link == "folder":
        (folder / "videos").symlink_to(tmp_path / "theirs")
    else:
        (folder / "videos").mkdir()
        (folder / "videos/OpenDrawer-00000.mp4").symlink_to(secret)
    page = write_report(folder).read_text()
    assert page.count("data:video/mp4") == 0
    assert "1 films of the journal are not in the folder" in page
    merge(MergeSettings(folders=(folder,), out=tmp_path / "out"))
    assert not (tmp_path / "out/videos").exists()


@pytest.mark.parametrize(
    "trace",
    [
        "[]",
        "{",
        '{"plans": 3}',
        '{"actions": [], "plans": []}',
        '{"actions": [[0, 1]], "plans": [{"step": 0, "latency_s": 1, "actions": [[0]]}]}',
        '{"actions": [[0]], "plans": [{"step": 5, "latency_s": 1, "actions": [[0]]}]}',
        '{"actions": [["0"]], "plans": [{"step": 0, "latency_s": 1, "actions": [[0]]}]}',
        '{"actions": [[NaN]], "plans": [{"step": 0, "latency_s": 1, "actions": [[0]]}]}',
    ],
)
def test_a_damaged_trace_is_named(tmp_path: Path, trace: str) -> None:
    folder = evaluation(tmp_path, [line(video="videos/a.mp4")])
    for name, text in (("videos/a.mp4", "film"), ("traces/a.json", trace)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    with pytest.raises(RecordingError, match=r"traces/a\.json .*; remove it"):
        write_report(folder)


def test_films_come_from_different_tasks_first(tmp_path: Path) -> None:
    lines = [*outcomes("CloseDrawer", "+" * 8), *outcomes("OpenDrawer", "+")]
    (tmp_path / "videos").mkdir()
    for each in lines:
        each["video"] = f"videos/{each['task']}-{each['episode']:05d}.mp4"
        (tmp_path / each["video"]).write_bytes(b"film")
    page = write_report(evaluation(tmp_path, lines)).read_text()
    assert "<strong>OpenDrawer · episode 0 (seed 100)</strong>" in page


def test_the_time_of_every_plan_is_in_the_histogram(tmp_path: Path) -> None:
    page = write_report(evaluation(tmp_path, outcomes("OpenDrawer", "+-+"))).read_text()
    assert "6 plans" in page
    assert "median 0.50" in page


def test_an_evaluation_of_errors_only_is_shown(tmp_path: Path) -> None:
    lines = outcomes("OpenDrawer", "ee", plans=0, plan_s=[], seconds_per_plan=None)
    page = write_report(evaluation(tmp_path, lines)).read_text()
    assert "0 of 0" in page
    assert "Not reportable" in page


def test_the_hundred_episodes_of_the_packaged_agent_are_shown(tmp_path: Path) -> None:
    for name in ("journal.jsonl", "results.json"):
        (tmp_path / name).write_bytes((LIFT / name).read_bytes())
    page = write_report(tmp_path)
    assert "99 of 100" in page.read_text()
    assert _banner(page) == ""
    assert (
        "| Robosuite-Lift-v0 | 99 / 100 | 99 | 95 to 100 |" in page.with_suffix(".md").read_text()
    )
