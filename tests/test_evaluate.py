"""`evaluate` and the demo with a real agent (tiny, untrained) on a toy task."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vp_agent.cli import main
from vp_agent.config import ActionStats
from vp_agent.demo import DemoSettings, demo
from vp_agent.errors import (
    AgentFolderError,
    ConfigError,
    OutputExistsError,
    SimulatorError,
    WorkerRefused,
)
from vp_agent.evaluation.journal import JournalError, read_journal
from vp_agent.evaluation.reading import read_evaluation
from vp_agent.evaluation.runner import EvalSettings, Incomplete, evaluate
from vp_agent.evaluation.statistics import describe
from vp_agent.presets import preset
from vp_agent.report.doubts import doubts

TIMES = ("seconds_per_plan", "plan_s", "wall_s", "started")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> str:
    from vp_agent.agent import VideoPolicyAgent
    from vp_agent.model.video_policy import VideoPolicy

    config = preset("tiny-lift")
    config = config.replace(action_stats=ActionStats(min=(-1.0,) * 7, max=(1.0,) * 7))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoPolicy(config)
    folder = tmp_path_factory.mktemp("agent") / "tiny"
    VideoPolicyAgent(model.eval(), "fast", config.tier("fast")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _workers_find_the_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def settings(agent: str, tmp_path: Path) -> EvalSettings:
    out = tmp_path / "out"
    return EvalSettings(
        agent=agent,
        env="pilots:Reach-v0",
        out=out,
        episodes=3,
        seed=7,
        steps=1,
        record=1,
        workers=0,
    )


def _lines(out: Path) -> list[dict[str, Any]]:
    """Journal lines in the order of their seeds, without what a clock wrote."""
    records = sorted(read_journal(out / "journal.jsonl"), key=lambda record: record.seed)
    lines = [asdict(record) for record in records]
    return [{key: line[key] for key in line if key not in TIMES} for line in lines]


def test_an_evaluation_leaves_a_line_per_seed_results_and_films(settings: EvalSettings) -> None:
    results = evaluate(settings)
    assert [line["seed"] for line in _lines(settings.out)] == [7, 8, 9]
    assert json.loads((settings.out / "results.json").read_text()) == results
    assert results["n"] == 3
    assert results["sampler"]["steps"] == 1
    assert {"torch", "python", "reach"} <= set(results["versions"])
    films = [path.name for path in (settings.out / "videos").iterdir()]
    assert films == ["pilots_Reach-v0-00007.mp4"]


def test_images_that_are_turned_another_way_are_refused(settings: EvalSettings) -> None:
    with pytest.raises(ConfigError, match=r"turns its images 'rot180'.*trained on 'flip_v'"):
        evaluate(replace(settings, env="pilots:MirroredReach-v0"))


def test_the_same_evaluation_twice_gives_the_same_lines(settings: EvalSettings) -> None:
    other = replace(settings, out=settings.out.with_name("other"))
    evaluate(settings)
    evaluate(other)
    assert _lines(settings.out) == _lines(other.out)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_workers_writes_the_same_lines(settings: EvalSettings, batch: int) -> None:
    settings = replace(settings, batch=batch, episodes=6)
    evaluate(settings)
    for workers in (1, 3):
        other = replace(settings, out=settings.out.with_name(f"{workers}"), workers=workers)
        evaluate(other)
        assert _lines(settings.out) == _lines(other.out)


def test_resume_flies_only_what_the_journal_lacks(settings: EvalSettings) -> None:
    evaluate(replace(settings, episodes=1))
    first = (settings.out / "journal.jsonl").read_text()
    results = evaluate(replace(settings, resume=True))
    text = (settings.out / "journal.jsonl").read_text()
    assert text.startswith(first)
    assert text.count("\n") == results["n"] == 3


def test_what_was_ever_asked_for_belongs_to_the_table(settings: EvalSettings) -> None:
    settings = replace(settings, env="pilots:MoodyReach-v0", seed=0, episodes=2, attempts=1)
    evaluate(settings)
    narrower = evaluate(replace(settings, seed=1, episodes=1, resume=True))
    assert (narrower["n"], narrower["scheduled"], narrower["complete"]) == (2, 2, True)
    with pytest.raises(SimulatorError, match="1 episodes running"):  # before results.json
        evaluate(replace(settings, seed=8, episodes=1, resume=True))
    (settings.out / "schedule.json").write_text('{"pilots:MoodyReach-v0": [9]}')  # of another
    with pytest.raises(Incomplete, match="1 of 5 episodes"):
        evaluate(replace(settings, seed=100, episodes=1, resume=True))
    results = json.loads((settings.out / "results.json").read_text())
    assert (results["n"], results["scheduled"], results["complete"]) == (3, 5, False)
    assert "1 of 5 scheduled episodes not flown yet" in describe(results)
    assert "3 of 5 scheduled" in next(doubts(read_evaluation(settings.out)))


def test_an_agent_may_be_named_in_another_way_and_old_lines_go_on(
    settings: EvalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, episodes=1, record=0)
    evaluate(settings)
    (line,) = read_journal(settings.out / "journal.jsonl")
    assert (line.policy, line.device, line.gpu, line.threads) == (
        *(settings.agent, "cpu", "none"),
        1,
    )
    monkeypatch.chdir(Path(settings.agent).parent)
    settings = replace(settings, agent=Path(settings.agent).name, episodes=2, resume=True)
    evaluate(settings)
    assert [line["policy"] for line in _lines(settings.out)][1] == "tiny"
    with pytest.raises(JournalError, match="threads = 1"):
        evaluate(replace(settings, threads=2))
    old = {key: value for key, value in asdict(line).items() if key not in ("device", "threads")}
    old["schema"] = 2
    (settings.out / "journal.jsonl").write_text(json.dumps(old) + "\n")
    assert evaluate(replace(settings, threads=2))["n"] == 2


def test_a_refused_start_leaves_the_folder_to_the_corrected_command(
    settings: EvalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="rot180"):
        evaluate(replace(settings, env="pilots:MirroredReach-v0"))
    (tmp_path / "places.toml").write_text('[robosuite]\npython = "/nowhere/python"\n')
    monkeypatch.setenv("VP_AGENT_CONFIG", str(tmp_path / "places.toml"))
    with pytest.raises(WorkerRefused, match=r"no program(.|\n)*vp-agent doctor"):
        evaluate(replace(settings, env="Robosuite-Lift-v0", workers=1))
    assert evaluate(settings)["scheduled"] == 3


def test_episodes_that_always_break_do_not_keep_the_others_from_flying(
    settings: EvalSettings,
) -> None:
    settings = replace(settings, agent="hold-still", record=0, attempts=1, episodes=8, seed=0)
    settings = replace(settings, env="pilots:FiveBroken-v0", resume=True)
    with pytest.raises(SimulatorError, match="5 episodes running"):
        evaluate(settings)
    with pytest.raises(Incomplete, match="5 of 8 episodes"):
        evaluate(settings)


def test_a_used_output_folder_is_refused_without_resume(settings: EvalSettings) -> None:
    evaluate(replace(settings, episodes=1))
    with pytest.raises(OutputExistsError, match="--resume"):
        evaluate(settings)
    assert len(_lines(settings.out)) == 1


def test_a_journal_of_other_sampler_settings_is_refused(settings: EvalSettings) -> None:
    evaluate(replace(settings, episodes=1))
    with pytest.raises(JournalError, match="sampler"):
        evaluate(replace(settings, resume=True, steps=2))
    assert len(_lines(settings.out)) == 1


def test_an_unknown_agent_is_refused_and_leaves_nothing(settings: EvalSettings) -> None:
    with pytest.raises(AgentFolderError):
        evaluate(replace(settings, agent=str(settings.out.parent)))
    assert not settings.out.exists()


def test_an_agent_that_imagines_copies_is_filmed_without_them(
    settings: EvalSettings, tmp_path: Path
) -> None:
    from vp_agent.agent import VideoPolicyAgent

    agent = VideoPolicyAgent.from_pretrained(settings.agent)
    agent.model.config = agent.config.replace(frame_stride=0)
    agent.save_pretrained(tmp_path / "still")
    evaluate(replace(settings, agent=str(tmp_path / "still"), record=1))
    line = _lines(settings.out)[0]
    assert (settings.out / line["video"]).is_file()
    assert not (settings.out / "pairs").exists()


def test_an_agent_that_cannot_act_is_refused(settings: EvalSettings, tmp_path: Path) -> None:
    from vp_agent.agent import VideoPolicyAgent

    agent = VideoPolicyAgent.from_pretrained(settings.agent)
    agent.model.config = agent.config.replace(action_stats=None)
    agent.save_pretrained(tmp_path / "video-only")
    with pytest.raises(ConfigError, match="--stage action"):
        evaluate(replace(settings, agent=str(tmp_path / "video-only")))
    assert not _lines(settings.out)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_broken_environment_is_an_error_and_not_a_failure(
    settings: EvalSettings, workers: int
) -> None:
    settings = replace(settings, env="pilots:MoodyReach-v0", workers=workers, attempts=2)
    with pytest.raises(Incomplete, match=r"1 of 3 episodes.*the simulator broke"):
        evaluate(settings)
    results = json.loads((settings.out / "results.json").read_text())
    assert (results["n"], results["errors"], results["complete"]) == (2, 1, False)
    assert [record["success"] for record in _lines(settings.out)].count(None) == 1


def test_an_environment_that_always_breaks_stops_the_evaluation(settings: EvalSettings) -> None:
    with pytest.raises(SimulatorError, match=r"broke in 3 episodes running.*vp-agent doctor"):
        evaluate(replace(settings, env="pilots:BrokenReach-v0", attempts=1))


@pytest.mark.slow
def test_a_lane_that_breaks_once_flies_the_episode_again(
    settings: EvalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK_ONCE", str(tmp_path / "broken"))
    whole = replace(settings, out=tmp_path / "whole")
    evaluate(whole)
    evaluate(replace(settings, env="pilots:DyingReach-v0", workers=1))
    lines = [
        {key: record[key] for key in ("seed", "success", "steps")}
        for record in _lines(settings.out)
    ]
    assert lines == [{key: record[key] for key in lines[0]} for record in _lines(whole.out)]
    assert sorted(record["attempts"] for record in _lines(settings.out)) == [1, 1, 2]


def test_the_agent_is_given_black_images_in_the_control(settings: EvalSettings) -> None:
    results = evaluate(replace(settings, episodes=1, blank_images=True))
    assert results["blank_images"]
    assert _lines(settings.out)[0]["blank_images"]


def test_yardsticks_fly_without_an_agent(settings: EvalSettings) -> None:
    results = evaluate(replace(settings, agent="hold-still"))
    assert (results["n"], results["successes"], results["agent"]) == (3, 0, "hold-still")
    assert {record["steps"] for record in _lines(settings.out)} == {20}


def test_evaluating_does_not_change_the_threads_of_the_caller(settings: EvalSettings) -> None:
    before = torch.get_num_threads()
    evaluate(replace(settings, episodes=1, record=0, threads=before + 1))
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_killed_evaluation_resumes_to_the_table_of_an_uninterrupted_one(
    settings: EvalSettings, agent: str
) -> None:
    whole = replace(settings, out=settings.out.with_name("whole"), episodes=6)
    evaluate(whole)
    command = [sys.executable, "-m", "vp_agent.cli", "eval", "--agent", agent]
    command += ["--env", whole.env, "--out", str(settings.out), "--episodes", "6"]
    command += ["--seed", "7", "--steps", "1", "--record", "1", "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    journal = settings.out / "journal.jsonl"
    for lines in (1, 3):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while len(read_journal(journal)) < lines:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert _lines(settings.out) == _lines(whole.out)


@pytest.mark.slow
def test_the_demo_replaces_an_earlier_demo(
    agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    for episodes in (2, 1):
        report = demo(DemoSettings(agent=agent, env="pilots:Reach-v0", episodes=episodes, out=out))
    assert report == out / "report.html"
    assert len(_lines(out)) == 1
    assert report.read_text().count("data:video/mp4") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    shown = capsys.readouterr().out
    assert "of 1 successes" in shown
    assert "s per plan" in shown
    assert f"report: {report}" in shown


@pytest.mark.slow
def test_a_demo_that_fails_keeps_the_earlier_one(agent: str, tmp_path: Path) -> None:
    settings = DemoSettings(agent=agent, env="pilots:Reach-v0", episodes=1, out=tmp_path / "demo")
    demo(settings)
    before = (settings.out / "report.html").read_bytes()
    with pytest.raises(RuntimeError, match="the simulator broke"):
        demo(replace(settings, env="pilots:BrokenReach-v0"))
    assert (settings.out / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_eval_and_report_on_the_command_line(
    agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    flags = ["--agent", agent, "--env", "pilots:Reach-v0", "--out", out, "--episodes", "1"]
    assert main(["eval", *flags, "--steps", "1"]) == 0
    assert "of 1 successes" in capsys.readouterr().out
    assert main(["report", out]) == 0
    assert capsys.readouterr().out.startswith(f"{out}/report.html\nnext: ")


@pytest.mark.slow
def test_nothing_is_lost_or_counted_twice_when_evaluators_and_workers_are_killed(
    tmp_path: Path,
) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "eval_kills.py"
    command = [sys.executable, str(script), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--episodes", "200", "--kills", "6"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert (results["lines"], results["twice"], results["same_as_undisturbed"]) == (200, 0, True)
    assert sum(results["killed"].values()) == 6
