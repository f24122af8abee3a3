"""Installing a simulator: the steps that are printed are the steps that run."""

import sys
from pathlib import Path

import pytest

from vp_agent import install as module
from vp_agent.cli import main
from vp_agent.envs.interpreters import read_places
from vp_agent.errors import ConfigError, OutputExistsError
from vp_agent.install import InstallError, InstallSettings, install


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VP_AGENT_CONFIG")
    return tmp_path


def fake(monkeypatch, *steps: list[str]) -> None:
    """Lets LIBERO be installed by other steps."""
    monkeypatch.setitem(module._STEPS, "libero", lambda settings, folder: (folder, list(steps)))


def touch(name: str) -> list[str]:
    return [sys.executable, "-c", f"open({name!r}, 'w')"]


def test_a_dry_run_prints_commands_and_changes_nothing(here, capsys):
    assert main(["install", "libero", "sim", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"-m venv {here}/sim" in shown
    assert "hf-libero==0.1.4" in shown
    assert "[libero]" in shown
    assert list(here.iterdir()) == []


def test_robocasa_keeps_its_own_pins_and_takes_no_dependencies(capsys):
    main(["install", "robocasa", "sim", "--python", "python3.10", "--dry-run"])
    shown = capsys.readouterr().out
    assert "numpy==1.23.3" in shown
    assert "--no-deps -e" in shown
    assert "download_kitchen_assets" in shown


def test_robocasa_without_a_fitting_python_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="uv python install"):
        install(InstallSettings(family="robocasa", folder=Path("sim"), dry_run=True))


def test_the_steps_run_in_order_and_the_interpreter_is_named(here, monkeypatch):
    fake(monkeypatch, touch("one"), touch("two"))
    (here / "vp-agent.toml").write_text('[robocasa]\npython = "x"\n')
    install(InstallSettings(family="libero", folder=Path("sim")))
    assert (here / "one").exists()
    assert (here / "two").exists()
    text = (here / "vp-agent.toml").read_text()
    assert text == f'[robocasa]\npython = "x"\n\n[libero]\npython = "{here}/sim/bin/python"\n'


def test_the_file_that_counts_is_written_and_a_comment_is_no_entry(here, monkeypatch):
    fake(monkeypatch, touch("one"))
    (here / "vp-agent.toml").write_text('# [libero] is to come\n[robocasa]\npython = "x"\n')
    (here / "runs").mkdir()
    monkeypatch.chdir(here / "runs")
    install(InstallSettings(family="libero", folder=Path("sim")))
    assert read_places().keys() == {"robocasa", "libero"}
    assert not (here / "runs/vp-agent.toml").exists()


def test_an_entry_of_the_user_is_kept(here, monkeypatch, capsys):
    fake(monkeypatch, touch("one"))
    (here / "vp-agent.toml").write_text('[libero]\npython = "mine"\n')
    install(InstallSettings(family="libero", folder=Path("sim")))
    assert (here / "vp-agent.toml").read_text() == '[libero]\npython = "mine"\n'
    assert "sim/bin/python" in capsys.readouterr().out


@pytest.mark.parametrize("broken", [["false"], ["no-such-program"]])
def test_a_step_that_fails_is_named_with_what_is_left(here, monkeypatch, broken):
    fake(monkeypatch, touch("one"), broken, touch("two"))
    told = rf"{broken[0]} failed .*go on: {broken[0]}; .*two.*write into vp-agent.toml: .libero"
    with pytest.raises(InstallError, match=told):
        install(InstallSettings(family="libero", folder=Path("sim")))
    assert (here / "one").exists()
    assert not (here / "two").exists()
    assert not (here / "vp-agent.toml").exists()


def test_an_existing_folder_is_left_alone(here):
    (here / "sim").mkdir()
    with pytest.raises(OutputExistsError, match="sim exists"):
        install(InstallSettings(family="libero", folder=Path("sim")))
