"""The report page, made from an evaluation of a toy task by a stand-in agent."""

import json
import re
from pathlib import Path

import pytest
from pilots import Looker, Reach

from vp_agent.evaluation.episode import Recording, fly
from vp_agent.evaluation.journal import Journal
from vp_agent.evaluation.statistics import summarise
from vp_agent.report import ReportError, write_report

IDENTITY = {
    "env": "Reach-v0",
    "agent": "0123456789abcdef",
    "tier": "default",
    "sampler": {"steps": 3, "guidance": 1.5},
    "blank_images": False,
    "env_kwargs": {"resolution": [16, 16]},
}


def _evaluation(folder: Path, **changes: object) -> Path:
    identity = {**IDENTITY, **changes}
    with Journal(folder / "journal.jsonl", identity=identity) as journal:
        for seed in range(3):
            recording = Recording(folder=folder, frame_stride=2, control_hz=20)
            blank = bool(identity["blank_images"])
            shown = recording if seed < 2 else None
            journal.append(fly(Looker(), Reach(), seed=seed, blank_images=blank, recording=shown))
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
    assert page.count("<svg") == 2
    assert "Seed 1" in page
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


def test_a_folder_without_results_is_refused_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no results\.json.*--resume"):
        write_report(tmp_path)
