"""Finding LIBERO, its assets and its configuration, on a fake LIBERO (tests/fake_libero.py)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_libero
import gymnasium as gym
import pytest
import yaml

import vp_agent  # noqa: F401
from vp_agent.envs.families import FAMILIES, Missing
from vp_agent.errors import MissingExtraError, SimulatorError

LIBERO = next(family for family in FAMILIES if family.name == "libero")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The packages are there, the assets are not."""
    fake_libero.install(tmp_path / "site")
    fake_libero.enter(monkeypatch, site=tmp_path / "site", home=tmp_path)
    yield tmp_path / "site"
    fake_libero.leave()


@pytest.fixture
def assets(site, tmp_path) -> Path:
    """They are where LIBERO downloads them to."""
    return fake_libero.make_assets(tmp_path / ".cache/libero/assets")


def make(**kwargs: Any) -> Any:
    return gym.make("LIBERO-object-3-v0", views=(), **kwargs)


def lacking() -> Missing:
    missing = LIBERO.missing()
    assert missing is not None
    return missing


def assets_read(env: Any, seed: int = 0) -> str:
    env.reset(seed=seed)
    return env.unwrapped.sim_env.assets_read


def test_nothing_is_missing_and_nothing_was_imported_to_know_it(assets):
    assert LIBERO.missing() is None
    make()
    assert "libero" not in sys.modules


def test_without_libero_the_messages_say_how_to_get_it(site):
    shutil.rmtree(site / "hf_libero-0.1.4.dist-info")
    assert lacking().what == "LIBERO is not installed"
    assert "vp-agent install libero" in lacking().fix
    with pytest.raises(MissingExtraError, match="not installed; vp-agent install libero"):
        make()


def test_beside_another_robosuite_libero_asks_for_an_environment_of_its_own(tmp_path, monkeypatch):
    fake_libero.install(tmp_path / "site", robosuite="1.5.1")
    fake_libero.enter(monkeypatch, site=tmp_path / "site", home=tmp_path)
    assert lacking().what == "LIBERO needs robosuite 1.4.0, here is 1.5.1"
    assert "vp-agent install libero" in lacking().fix
    with pytest.raises(MissingExtraError, match=r"1\.4\.0, here is 1\.5\.1"):
        make()


def test_missing_assets_come_with_the_command_that_downloads_them(site):
    assert lacking().what == "LIBERO's assets are not here"
    assert "python -m vp_agent.envs.libero_install" in lacking().fix


def test_assets_come_from_the_argument_then_the_variable_then_liberos_folder(
    assets, tmp_path, monkeypatch
):
    assert assets_read(make()) == str(assets)
    variable = fake_libero.make_assets(tmp_path / "variable" / "assets")
    monkeypatch.setenv("VP_AGENT_LIBERO_ASSETS", str(variable.parent))
    assert assets_read(make()) == str(variable)
    argument = fake_libero.make_assets(tmp_path / "argument")
    assert assets_read(make(assets=argument)) == str(argument)


def test_two_environments_keep_their_own_assets(assets, tmp_path):
    other = fake_libero.make_assets(tmp_path / "other")
    first, second = make(), make(assets=str(other))
    assert [assets_read(first), assets_read(second)] == [str(assets), str(other)]
    assert assets_read(first, seed=1) == str(assets)


def test_a_folder_that_lacks_assets_is_refused_by_name(assets, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SimulatorError, match="empty is no folder of LIBERO's assets"):
        make(assets=tmp_path / "empty")
    monkeypatch.setenv("VP_AGENT_LIBERO_ASSETS", str(tmp_path / "nowhere"))
    assert "nowhere is no folder of LIBERO's assets: it lacks articulated" in lacking().what


def test_the_first_reset_downloads_assets_whole_or_not_at_all(site, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(repository: str, *, repo_type: str, local_dir: Path) -> None:
        calls.append((repository, repo_type))
        if len(calls) == 1:
            local_dir.mkdir(parents=True)
            raise ConnectionError("the network is away")
        for folder in fake_libero.ASSET_FOLDERS:
            (local_dir / folder).mkdir()

    hub = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    env = make()
    with pytest.raises(SimulatorError, match=r"network is away.*vp_agent\.envs\.libero_install"):
        env.reset(seed=0)
    assert lacking().what == "LIBERO's assets are not here"
    assert assets_read(env) == str(tmp_path / ".cache/libero/assets")
    assert calls == [("lerobot/libero-assets", "dataset")] * 2
    assert LIBERO.missing() is None


def test_the_configuration_is_written_once_to_a_folder_of_our_own(assets, site, tmp_path):
    make().reset(seed=0)
    config = tmp_path / ".cache/vp_agent/libero/config.yaml"
    assert os.environ["LIBERO_CONFIG_PATH"] == str(config.parent)
    keys = {"benchmark_root", "bddl_files", "init_states", "datasets", "assets"}
    written = yaml.safe_load(config.read_text())
    assert set(written) == keys
    assert written["bddl_files"] == str(site / "libero/libero/bddl_files")
    assert not (tmp_path / ".libero").exists()


def test_the_users_own_configuration_stays_in_use(assets, tmp_path):
    own = tmp_path / ".libero" / "config.yaml"
    own.parent.mkdir()
    own.write_text("bddl_files: mine")
    del os.environ["LIBERO_CONFIG_PATH"]
    make().reset(seed=0)
    assert "LIBERO_CONFIG_PATH" not in os.environ
    assert own.read_text() == "bddl_files: mine"


def test_a_variable_without_a_configuration_gets_one(assets, tmp_path, monkeypatch):
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path / "named"))
    make().reset(seed=0)
    assert (tmp_path / "named" / "config.yaml").is_file()


def test_the_download_is_a_command_that_says_where_assets_are(assets, site):
    roots = [str(site), str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-m", "vp_agent.envs.libero_install"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
    )
    assert done.stdout.strip() == str(assets), done.stderr
