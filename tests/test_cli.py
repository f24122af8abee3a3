"""The command: verbs, errors in one line, exit codes, and what it does not load."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from journals import evaluation, outcomes

from vp_agent import cli
from vp_agent.cli import DATA_VERBS, VERBS, main
from vp_agent.errors import ConfigError


@pytest.fixture
def failing_verb(monkeypatch: pytest.MonkeyPatch):
    """Adds a verb `fail` that raises what it is told to."""

    def add(error: BaseException) -> None:
        def call(settings: object) -> None:
            raise error

        monkeypatch.setitem(VERBS, "fail", ("fails", lambda: (cli.EnvsSettings, call)))

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


@pytest.mark.parametrize("verb", ["eval", "report"])
def test_an_output_folder_that_is_a_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "file").write_text("precious")
    flown = str(evaluation(tmp_path / "flown", outcomes("OpenDrawer", "+")))
    what = {"eval": ["--agent", "hold-still", "--env", "pilots:Reach-v0"], "report": [flown]}
    assert main([verb, *what[verb], "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_the_demo_does_not_replace_a_folder_that_is_not_a_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "has no demo.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_settings_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--agent", "x", "--env", "Robosuite-Lift-v0", "--out", "o"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--episodes", "0"])
    assert stopped.value.code == 2
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["envs"],
        ["eval", "--help"],
        ["demo", "--help"],
        ["train", "--help"],
        ["collect", "--help"],
        ["convert", "--help"],
    ],
)
def test_help_and_envs_load_neither_torch_nor_a_simulator(arguments: list[str]) -> None:
    code = f"""
import sys
from vp_agent.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = {{"torch", "diffusers", "lerobot", "robosuite", "mujoco"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
