"""What is missing for RoboCasa is named, with the command that brings it."""

import importlib.machinery
import os
import shutil
from pathlib import Path
from typing import Any

import fake_robocasa
import gymnasium as gym
import numpy as np
import pytest

import vp_agent  # noqa: F401  (registers the ids)
from vp_agent.envs import robocasa_import, robocasa_install
from vp_agent.envs.families import FAMILIES
from vp_agent.errors import SimulatorError

SINK = "RoboCasa-PnPCounterToSink-v0"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return lambda **arguments: fake_robocasa.install(monkeypatch, tmp_path, **arguments)


def missing(**arguments: Any) -> tuple[str, str]:
    """What and fix; also what `gym.make` says."""
    lack = robocasa_install.missing(**arguments)
    assert lack is not None
    with pytest.raises(SimulatorError) as caught:
        gym.make(SINK, **arguments)
    assert lack.what in str(caught.value)
    assert lack.fix in str(caught.value)
    return lack.what, lack.fix


@pytest.mark.parametrize("robocasa", ["0.2.0", "1.0.1"])
def test_nothing_is_missing_from_a_complete_installation(install, robocasa):
    install(robocasa=robocasa)
    assert robocasa_install.missing() is None
    family = next(family for family in FAMILIES if family.name == "robocasa")
    assert family.missing() is None


def test_no_robocasa(monkeypatch):
    monkeypatch.setattr(robocasa_install, "find", lambda: None)
    what, fix = missing()
    assert what == "RoboCasa is not installed"
    assert "vp-agent install robocasa" in fix


def test_a_checkouts_folder_in_the_working_directory_is_not_an_installation(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr("sys.meta_path", [importlib.machinery.PathFinder])  # none but this path
    (tmp_path / "robocasa").mkdir()
    assert robocasa_install.find() is None


def test_a_version_that_is_not_served(install):
    install(robocasa="2.0.0")
    what, fix = missing()
    assert "2.0.0" in what
    assert "v0.2" in fix


@pytest.mark.parametrize(
    ("robocasa", "found", "command"),
    [
        ("0.2.0", None, "pip install robosuite==1.5.1"),
        ("0.2.0", "1.4.0", "pip install robosuite==1.5.1"),
        ("1.0.1", "1.5.1", "github.com/ARISE-Initiative/robosuite"),
    ],
)
def test_a_wrong_robosuite(install, robocasa, found, command):
    install(robocasa=robocasa, packages={"robosuite": found})
    what, fix = missing(relax_version_checks=True)
    assert str(found or "not installed") in what
    assert command in fix


def test_robosuite_from_pypi_cannot_run_1_0_although_its_version_is_right(install):
    install(robocasa="1.0.1", git_master=False)
    env = gym.make(SINK)
    with (
        pytest.warns(UserWarning, match="not comparable"),
        pytest.raises(SimulatorError, match=r"git master.*same version number"),
    ):
        env.reset(seed=0)


@pytest.mark.parametrize("package", ["numpy", "mujoco"])
def test_a_broken_pin_is_named_and_can_be_relaxed(install, package):
    install(packages={package: "9.9.9"})
    what, fix = missing()
    assert package in what
    assert "9.9.9" in what
    assert "relax_version_checks=True" in fix
    assert robocasa_install.missing(relax_version_checks=True) is None


def test_relaxed_checks_show_the_asserted_versions_only_while_robocasa_is_imported(install):
    install(
        packages={"numpy": "9.9.9"},
        asserts="import mujoco, numpy\n"
        "assert mujoco.__version__ == '3.2.6'\nassert numpy.__version__ == '1.23.5'\n",
    )
    true = np.__version__
    gym.make(SINK, relax_version_checks=True, views=()).reset(seed=0)
    assert np.__version__ == true


def test_an_import_that_fails_names_the_package_list(install):
    install(asserts="import robocasa_needs_this")
    with pytest.raises(SimulatorError, match=r"robocasa_needs_this.*docs/robocasa\.md"):
        gym.make(SINK).reset(seed=0)


@pytest.mark.parametrize(
    ("robocasa", "folder", "pack", "command"),
    [
        ("0.2.0", "textures", "textures", "download_kitchen_assets"),
        ("0.2.0", "fixtures", "fixtures", "download_kitchen_assets"),
        ("0.2.0", "objects/objaverse", "objaverse", "download_kitchen_assets"),
        ("1.0.1", "textures", "tex", "download_kitchen_assets --type tex"),
        ("1.0.1", "fixtures", "fixtures_lw", "--type fixtures_lw"),
        ("1.0.1", "objects", "objs_objaverse", "--type objs_objaverse objs_lw"),
    ],
)
def test_a_missing_asset_pack_is_named_with_its_folder_and_command(
    install, robocasa, folder, pack, command
):
    assets = install(robocasa=robocasa)
    shutil.rmtree(assets / folder)
    what, fix = missing()
    assert f"{pack} (in {assets / folder}" in what
    assert fix.endswith(command)


def test_with_relaxed_checks_robocasas_download_script_is_run_past_its_asserts(install, capsys):
    asserts = "import numpy\nassert numpy.__version__ == '1.23.5'"
    assets = install(packages={"numpy": "9.9.9"}, asserts=asserts)
    shutil.rmtree(assets / "textures")
    _, fix = missing(relax_version_checks=True)
    assert fix == "python -m vp_agent.envs.robocasa_import"
    robocasa_import.download_assets()
    assert capsys.readouterr().out == "downloading\n"


def test_generated_textures_are_asked_for_only_when_wanted(install):
    install()
    assert robocasa_install.missing() is None
    what, _ = missing(generative_textures=True)
    assert "generative_textures" in what


def test_a_read_only_asset_folder(install, monkeypatch):
    assets = install()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # chmod does not stop root
    what, fix = missing()
    assert "read-only" in what
    assert fix == f"chmod -R u+w {assets / 'objects/objaverse'}"
