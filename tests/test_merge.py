"""Merging: what several machines flew of one evaluation becomes one journal."""

import json
from pathlib import Path
from typing import Any

import pytest

from vp_agent.cli import main
from vp_agent.errors import OutputExistsError
from vp_agent.evaluation.journal import Journal, JournalError, read_journal
from vp_agent.evaluation.merge import MergeSettings, merge
from vp_agent.evaluation.reading import EvaluationError, read_evaluation
from vp_agent.evaluation.record import Flight, Identity
from vp_agent.report.doubts import doubts

IDENTITY = {
    "suite": "robosuite",
    "suite_version": 1,
    "agent": "abc",
    "package": "0.1.0",
    "sampler": {"steps": 3},
}


def line(episode: int, success: bool | None = True, **changes: Any) -> Flight:
    values: dict[str, Any] = {
        "task": "Lift",
        "env": "Robosuite-Lift-v0",
        "steps": 30,
        "plans": 2,
        "wall_s": 1.0,
        "plan_s": [0.5, 0.5],
        "seconds_per_plan": 0.5,
        "state_hash": f"{episode}",
        "simulator": {"robosuite": "1.5.1"},
        "gl": "osmesa",
        **changes,
    }
    return Flight(episode=episode, seed=episode, success=success, **values)


def folder(path: Path, *lines: Flight, **changes: Any) -> Path:
    path.mkdir()
    identity = Identity(**{**IDENTITY, **changes})
    with Journal(path / "journal.jsonl", identity=identity) as journal:
        for each in lines:
            journal.append(each)
    return path


def joined(tmp_path: Path, *folders: Path) -> list[tuple[int, bool | None]]:
    out = tmp_path / "out"
    merge(MergeSettings(folders=folders, out=out))
    return [(record.episode, record.success) for record in read_journal(out / "journal.jsonl")]


def test_episodes_of_all_folders_are_joined_once_each(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", line(0), line(1, None, error="WorkerDied"), line(2, False))
    two = folder(tmp_path / "two", line(2, False), line(1), line(3, None, error="WorkerDied"))
    assert joined(tmp_path, one, two) == [(0, True), (1, True), (2, False), (3, None)]


def test_films_and_traces_come_along(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", line(0, video="videos/Lift-00000.mp4"))
    two = folder(tmp_path / "two", line(1, video="missing: No space left on device"))
    for name in ("videos/Lift-00000.mp4", "traces/Lift-00000.json"):
        (one / name).parent.mkdir()
        (one / name).write_text(name)
    joined(tmp_path, one, two)
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert files == {"journal.jsonl", "videos/Lift-00000.mp4", "traces/Lift-00000.json"}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"agent": "xyz"}, "agent = 'xyz'"),
        ({"suite_version": 2}, "suite_version = 2"),
        ({"sampler": {"steps": 1}}, "sampler"),
        ({"package": "0.2.0"}, "package"),
    ],
)
def test_another_agent_protocol_or_version_is_refused(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    one, two = folder(tmp_path / "one", line(0)), folder(tmp_path / "two", line(1), **other)
    with pytest.raises(JournalError, match=said):
        joined(tmp_path, one, two)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (line(1, simulator={"robosuite": "1.4.0"}), "different simulators"),
        (line(1, standin=True), "different simulators"),
        (line(1, gl="egl"), "different simulators"),
        (
            line(1, task="Stack", env="Robosuite-Stack-v0", simulator={"robosuite": "1.4.0"}),
            "different simulators",
        ),
        (line(0, False), "success = True and False"),
        (line(0, steps=31), "steps = 30 and 31"),
    ],
)
def test_another_simulator_or_outcome_is_refused(tmp_path: Path, other: Flight, said: str) -> None:
    one, two = folder(tmp_path / "one", line(0)), folder(tmp_path / "two", other)
    with pytest.raises(JournalError, match=said):
        joined(tmp_path, one, two)


def test_a_folder_without_episodes_and_a_used_output_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", line(0))
    with pytest.raises(EvaluationError, match="vp-agent eval"):
        joined(tmp_path, one, tmp_path)
    (tmp_path / "journal.jsonl").write_text('{"loss": 0.5}\n')
    with pytest.raises(EvaluationError, match="line 1 has no schema, env, agent"):
        joined(tmp_path, one, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note").write_text("mine")
    with pytest.raises(OutputExistsError):
        joined(tmp_path, one)


def test_the_merged_folder_is_complete_when_its_parts_are(tmp_path: Path) -> None:
    parts = [folder(tmp_path / f"{part}", line(part)) for part in range(2)]
    for part, path in enumerate(parts):
        (path / "schedule.json").write_text(json.dumps({"Lift": [part]}))
        about = {"commit": f"c{part}", "settings": {"batch": 1, "episodes": part}, "doubts": []}
        (path / "results.json").write_text(json.dumps(about))
    joined(tmp_path, *parts)
    merged = read_evaluation(tmp_path / "out")
    assert (merged.scheduled, merged.results["complete"], merged.results["n"]) == (2, True, 2)
    assert merged.results["commit"] == "c0, c1"
    assert merged.results["settings"] == {"batch": 1, "episodes": "0, 1"}
    assert not list(doubts(merged))


def test_the_merged_folder_lacks_what_its_parts_lack(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", line(0)), folder(tmp_path / "two", line(1))
    (one / "schedule.json").write_text('{"Lift": [0, 2]}')
    merge(MergeSettings(folders=(one,), out=tmp_path / "alone"))
    (doubt,) = doubts(read_evaluation(tmp_path / "alone"))
    assert "1 of 2 scheduled" in doubt
    joined(tmp_path, one, two)
    (doubt,) = doubts(read_evaluation(tmp_path / "out"))
    assert "neither schedule.json nor results.json says" in doubt


def test_merge_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = folder(tmp_path / "one", line(0)), folder(tmp_path / "two", line(1, None))
    out = tmp_path / "out"
    assert main(["merge", str(one), str(two), "--out", str(out)]) == 0
    assert "2 episodes, 1 of them without an outcome" in capsys.readouterr().out
