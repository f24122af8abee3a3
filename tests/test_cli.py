"""The command: verbs, errors in one line, exit codes, and what it does not load."""

import ast
import dataclasses
import errno
import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from journals import evaluation, outcomes

from vp_agent.cli import main
from vp_agent.errors import ConfigError
from vp_agent.files import check_makeable
from vp_agent.flags import check_names
from vp_agent.train.settings import TrainSettings
from vp_agent.verbs import DATA_VERBS, VERBS, EnvsSettings, Verb


@pytest.fixture
def failing_verb(monkeypatch: pytest.MonkeyPatch):
    """Adds a verb `fail` that raises what it is told to."""

    def add(error: BaseException) -> None:
        def call(settings: object) -> None:
            raise error

        monkeypatch.setitem(VERBS, "fail", Verb("fails", lambda: (EnvsSettings, call)))

    return add


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb}" in shown for verb in VERBS)


def test_no_verb_is_an_error_that_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_an_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evl"]) == 2
    assert "did you mean 'eval'?" in capsys.readouterr().err


def test_the_verbs_of_data_have_a_list_and_suggestions_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: vp-agent data VERB")
    assert all(f"\n  {verb}" in shown for verb in DATA_VERBS)
    assert main(["data"]) == 2
    assert main(["data", "chek"]) == 2
    assert "did you mean 'check'?" in capsys.readouterr().err


def test_an_unknown_environment_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(["eval", "--agent", "x", "--env", "Robosuite-Lft-v0", "--out", str(out)])
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no environment 'Robosuite-Lft-v0'; did you mean")
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_used_output_folder_is_refused_without_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "journal.jsonl").write_text("{}\n")
    code = main(["eval", "--agent", "x", "--env", "Robosuite-Lift-v0", "--out", str(tmp_path)])
    assert code == 2
    assert "--resume" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
@pytest.mark.parametrize("verb", ["eval", "report", "train", "collect", "data convert", "demo"])
def test_an_output_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, below: str
) -> None:
    (tmp_path / "file").write_text("precious")
    flown = str(evaluation(tmp_path / "flown", outcomes("OpenDrawer", "+")))
    what = {
        "eval": ["--agent", "hold-still", "--env", "pilots:Reach-v0"],
        "report": [flown],
        "train": ["--stage", "joint", "--preset", "tiny-lift", "--data", flown],
        "collect": ["--env", "Robosuite-Lift-v0", "--episodes", "1"],
        "data convert": [str(tmp_path / "file")],
        "demo": [],
    }
    out = str(tmp_path / "file" / below)
    assert main([*verb.split(), *what[verb], "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path / "file") in error
    assert "Errno" not in error
    assert (tmp_path / "file").read_text() == "precious"


def test_an_output_that_may_not_be_written_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ConfigError, match=r"nothing may be written in .*give another path"):
        check_makeable(tmp_path / "new" / "run")


def test_the_demo_does_not_replace_a_folder_that_is_not_a_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "has no demo.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_demos_report_names_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the worker imports pilots, too
    out = tmp_path / "my-demo"
    fly = ["demo", "--agent", "hold-still", "--env", "pilots:Reach-v0", "--episodes", "1"]
    assert main([*fly, "--out", str(out)]) == 0
    texts = [
        path.read_text()
        for path in out.rglob("*")
        if path.suffix in (".md", ".html", ".json", ".jsonl")
    ]
    assert len(texts) >= 4
    assert not any(".my-demo" in text for text in texts)  # temporary siblings begin with a dot
    assert "my-demo" in (out / "report.md").read_text()


def test_settings_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--agent", "x", "--env", "Robosuite-Lift-v0", "--out", "o"]
    assert main([*arguments, "--episodes", "0"]) == 2
    assert "episodes must be at least 1" in capsys.readouterr().err


def test_an_error_shows_its_traceback_only_with_debug(
    failing_verb, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_verb(ConfigError("stride 0;\n expected > 0"))
    assert main(["fail"]) == 2
    assert capsys.readouterr().err == "error: stride 0; expected > 0\n"
    with pytest.raises(ConfigError):
        main(["fail", "--debug"])


def test_a_full_disk_is_an_error_and_not_a_traceback(
    failing_verb, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_verb(OSError(errno.ENOSPC, "No space left on device", "run/model.safetensors"))
    assert main(["fail"]) == 2
    assert "No space left on device: 'run/model.safetensors'" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(failing_verb) -> None:
    failing_verb(OSError(errno.EBADF, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        main(["fail"])


def test_ctrl_c_exits_with_130(failing_verb) -> None:
    failing_verb(KeyboardInterrupt())
    assert main(["fail"]) == 130


def test_envs_lists_our_environments_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    shown = capsys.readouterr().out
    assert "Robosuite-Lift-v0" in shown
    assert "CartPole" not in shown


ALL_VERBS = {name: verb for name, verb in VERBS.items() if isinstance(verb, Verb)} | {
    f"data {name}": verb for name, verb in DATA_VERBS.items()
}
HEAVY = {"torch", "diffusers", "transformers", "peft", "lerobot", "robosuite", "mujoco"}
HEAVY |= {"scipy", "matplotlib", "pandas", "pyarrow", "huggingface_hub"}


def loaded_by(*commands: list[str]) -> tuple[set[str], str]:
    """What of `HEAVY` a process has loaded after these commands, and what it printed."""
    code = f"""
import sys
from vp_agent.cli import main
for arguments in {list(commands)!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
print(*({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()), done.stdout + done.stderr


def test_help_of_every_verb_and_the_list_of_environments_load_nothing_heavy() -> None:
    helps = [[*name.split(), "--help"] for name in ALL_VERBS]
    heavy, said = loaded_by(["--help"], ["envs"], *helps)
    assert not heavy
    assert all(f"usage: vp-agent {name} " in said for name in ALL_VERBS)
    # what may be left out says so by its default, not by its type
    assert "{None}" not in said
    assert "|{[" not in said


@pytest.mark.parametrize("name", ALL_VERBS)
def test_every_flag_has_a_sentence(name: str) -> None:
    settings, _ = ALL_VERBS[name].load()
    body = ast.parse(inspect.getsource(settings)).body[0]
    assert isinstance(body, ast.ClassDef)
    told = set()
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = isinstance(after, ast.Expr) and ast.literal_eval(after.value)
            if isinstance(text, str) and text.rstrip(")").endswith("."):
                told.add(field.target.id)
    assert {field.name for field in dataclasses.fields(settings)} - told == set()


def test_what_is_cheap_to_refuse_is_refused_before_anything_heavy_is_loaded(tmp_path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("precious")
    new, lift = str(tmp_path / "new"), ["--env", "Robosuite-Lift-v0"]
    start = ["train", "--stage", "joint", "--preset", "tiny-lift"]
    data = str(tmp_path / "data")
    about = {"fps": 20, "codebase_version": "v3.0", "features": {}}
    about |= {"data_path": "{chunk_index}", "video_path": "{chunk_index}", "total_episodes": 1}
    for view in ("left", "gripper"):
        shape = {"dtype": "video", "shape": [64, 64, 3]}
        about["features"][f"observation.images.{view}"] = shape
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "info.json").write_text(json.dumps(about))
    refused = {
        ("eval", "--agent", "packaged:lift", *lift, "--out", str(used)): "is not empty",
        ("eval", "--agent", "packaged:lift", "--env", "Lift", "--out", new): "no environment",
        ("eval", "--agent", "packaged:lift", "--suite", "robosuit", "--out", new): "did you mean",
        ("eval", "--agent", "nowhere", *lift, "--out", new): "no agent folder 'nowhere'",
        ("bench", "--preset", "tiny-lfit"): "did you mean 'tiny-lift'",
        ("demo", "--agent", "nobody"): "no agent folder",
        (*start, "--data", str(used), "--out", str(used)): "give --resume or another --out",
        (*start, "--data", str(tmp_path / "gone"), "--out", new): "gone is not there",
        (*start, "--data", str(used), "--out", new): "is not a LeRobot dataset",
        (*start, "--data", data, "--out", new, "--views", "lfet"): "did you mean 'left'",
        (*start, "--data", data, "--out", new, "--resolution", "63", "64"): "multiples of 16",
        (*start, "--data", data, "--out", new, "--resolution", "0", "0"): "must be positive",
        (*start, "--data", data, "--out", new, "--resume"): "is not a run folder; drop --resume",
        ("data", "cache", "--preset", "tiny-lift", "--data", str(used)): "is not a LeRobot dataset",
        (*start[:-1], "tiny-lfit", "--data", "a/b", "--out", new): "did you mean 'tiny-lift'",
        ("convert", str(used / "no.ckpt"), "--out", new): "no.ckpt is not there",
        ("collect", "--env", "Lift", "--episodes", "1", "--out", new): "no environment",
        ("report", str(tmp_path / "gone"), "--out", new): "gone",
        ("compare", str(tmp_path / "gone"), str(used)): "gone",
        ("audit", str(tmp_path / "gone")): "gone",
        ("merge", str(tmp_path / "gone"), "--out", new): "gone",
    }
    heavy, said = loaded_by(*map(list, refused))
    assert heavy <= {"scipy", "matplotlib", "huggingface_hub"}
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(refused)
    for line, words in zip(lines, refused.values(), strict=True):
        assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "used"]


def test_the_tier_is_checked_against_the_agents_before_it_is_loaded(tmp_path, agent_folder) -> None:
    fly = ["eval", "--agent", str(agent_folder), "--env", "Robosuite-Lift-v0"]
    heavy, said = loaded_by([*fly, "--out", str(tmp_path / "new"), "--tier", "fst"])
    assert "torch" not in heavy
    assert "has no tier 'fst'; did you mean 'fast'" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("eval --agnt x --env y --out z", "no flag '--agnt'; did you mean '--agent'?"),
        ("eval --agent x --no-fresh_env --bach 3", "no flag '--bach'; did you mean '--batch'?"),
        ("eval --agent x", "vp-agent eval needs --out"),
        ("bench --agent x --repeats many", "--repeats takes a whole number, not 'many'"),
        ("train --data a --out b --resolution 64", "--resolution takes INT INT, not '64'"),
        ("train --data a --out b --resolution 64 x", "--resolution takes INT INT, not '64', 'x'"),
        ("collect --env a --out b --episodes 1 --resolution 64 0", "both > 0, not (64, 0)"),
        (
            "train --data a --out b --stage vae --preset x --betas 0.9 7",
            "--betas must be in [0, 1)",
        ),
        ("bench --preset tiny-lift --out /", "/ is a folder; --out is the file to write"),
        ("--verison", "did you mean '--version'?"),
        ("train --data a --out b --lr fast", "--lr takes a number, not 'fast'"),
        ("train --data a --out b --steps", "--steps needs a value"),
        ("train --data a --out b --betas 0.9", "--betas needs 2 values"),
        ("train --data a --out b --stage vdeo", "'vdeo' for argument '--stage'"),
        ("train --data a --out b --stage vdeo", "; did you mean 'video'?"),
        ("eval stray --agent x --out y", "Unrecognized options: stray"),
        ("audit", "Missing from vp-agent audit"),
        ("bench", "give either --agent or --preset NAME"),
    ],
)
def test_what_is_wrong_with_flags_is_one_line(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err


def test_the_next_command_of_every_verb_is_one_that_there_is() -> None:
    root, folder = {"root": Path("data"), "json": False}, {"folder": Path("flown")}
    train = {"plan": False, "show": False, "datasets": (Path("a"),), "out": Path("run")}
    sample = {
        "demo": {"agent": "packaged:lift", "env": "Robosuite-Lift-v0"},
        "train": train | {"learns_actions": False, "stage": "video"},
        "bench": {"agent": "packaged:lift"},
        "report": {"folders": (Path("a"), Path("b"))},
        "compare": {"folders": (Path("a"), Path("b"))},
        "audit": folder,
        "data check": root,
        "data stats": root,
        "data show": root,
        "data cache": {"data": Path("a"), "init": None, "preset": "tiny-lift"},
    }
    for name, verb in ALL_VERBS.items():
        words = verb.then(SimpleNamespace(**sample.get(name, {"out": Path("made")})))
        where = " ".join(words[:2]) if words[0] == "data" else words[0]
        settings, _ = ALL_VERBS[where].load()
        check_names(settings, words, prog=where)


@pytest.mark.parametrize("stage", ["vae", "video", "joint"])
def test_a_stage_is_followed_by_the_next(stage: Any) -> None:
    settings = TrainSettings(stage=stage, data=Path("a"), out=Path("run"), preset="tiny-lift")
    words = ALL_VERBS["train"].then(settings)
    following = {"vae": "video", "video": "action", "joint": "Robosuite-Lift-v0"}
    assert following[stage] in words
    assert "run" in words


def test_what_is_printed_for_programs_has_nothing_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--stage", "joint", "--preset", "tiny-lift", "--data", "a", "--out", str(tmp_path)]
    assert main(["train", "--show", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["stage"] == "joint"
    assert main(["envs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: vp-agent eval --agent ")


def test_python_dash_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "vp_agent", "--version"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip()


def test_a_reader_that_goes_away_is_no_error_and_a_broken_pipe_inside_is(
    failing_verb, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "vp_agent.cli", "envs"]
    listing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait() == 128 + signal.SIGPIPE
    failing_verb(BrokenPipeError(errno.EPIPE, "a pool"))
    with pytest.raises(BrokenPipeError):
        main(["fail"])
