"""Where an environment runs is said by arguments or by vp-agent.toml."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from test_worker import TESTS, same
from worker_envs import Noise

from vp_agent.envs import interpreters, worker_process
from vp_agent.envs.families import Family
from vp_agent.envs.interpreters import Place, make_env, place_of, read_places
from vp_agent.envs.worker import WorkerEnv
from vp_agent.errors import (
    ConfigError,
    MissingExtraError,
    UnknownNameError,
    WorkerDied,
    WorkerRefused,
)

LIFT = "Robosuite-Lift-v0"
TOY = "worker_envs:Noise-v0"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes vp-agent.toml one folder above the current one."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.delenv("VP_AGENT_CONFIG", raising=False)
    file = tmp_path / "vp-agent.toml"
    file.write_text("")  # else one further up would be found
    return file.write_text


def test_without_an_entry_everything_runs_in_this_process(config):
    assert read_places() == {}
    config("")
    assert place_of(LIFT) is None


def test_an_entry_names_the_interpreter_of_a_family(config, tmp_path):
    config('[robosuite]\npython = "venv/bin/python"\nenv = { A = "1" }\ndeadline_s = 9')
    expected = Place(python=str(tmp_path / "venv/bin/python"), env={"A": "1"}, deadline_s=9)
    assert place_of(LIFT) == expected
    assert place_of(LIFT, python="self") == Place()
    config("[robosuite]")
    assert place_of(LIFT) == Place(python="self")


def test_a_variable_names_the_file_or_none(config, tmp_path, monkeypatch):
    config('[robosuite]\npython = "~/other"')
    monkeypatch.setenv("VP_AGENT_CONFIG", "")
    assert place_of(LIFT) is None
    monkeypatch.chdir("/")
    monkeypatch.setenv("VP_AGENT_CONFIG", str(tmp_path / "vp-agent.toml"))
    assert place_of(LIFT) == Place(python=str(Path.home() / "other"))
    monkeypatch.setenv("VP_AGENT_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"'nowhere.toml', and there is no such"):
        read_places()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[robosiute]", UnknownNameError, "did you mean 'robosuite'"),
        ("robosuite = 3", ConfigError, "must be a table"),
        ("[robosuite]\npyhton = 'x'", ConfigError, "did you mean 'python'"),
        ("[robosuite]\npython = 3", ConfigError, "python = 3 is of the wrong type"),
        ("[robosuite]\ndeadline_s = true", ConfigError, "wrong type"),
        ("[robosuite]\nenv = { A = 1 }", ConfigError, "env.A must be a string"),
        ("[robosuite", ConfigError, r"vp-agent.toml is not TOML"),
        (f"a = {'[' * 5000}", ConfigError, r"vp-agent.toml is not TOML"),
        ('[robosuite]\npython = "a\\u0000b"', ConfigError, "has a zero byte"),
        ('[robosuite]\nenv = { "A=B" = "1" }', ConfigError, "a word without ="),
    ],
)
def test_a_file_that_does_not_fit_is_refused(config, text, error, said):
    config(text)
    with pytest.raises(error, match=said):
        read_places()


STRANGER = 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["vp-agent.toml", "."])
def test_a_file_or_folder_of_another_user_starts_no_program(config, tmp_path, monkeypatch, what):
    monkeypatch.delenv("SUDO_UID", raising=False)
    config('[robosuite]\npython = "venv/bin/python"')
    os.chown(tmp_path / what, STRANGER, -1)
    said = rf"belongs to another user, {STRANGER}\. If you trust it: export VP_AGENT_CONFIG=/"
    with pytest.raises(ConfigError, match=said):
        gym.make(LIFT)
    monkeypatch.setenv("VP_AGENT_CONFIG", str(tmp_path / "vp-agent.toml"))  # as it says
    assert place_of(LIFT) == Place(python=str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("VP_AGENT_CONFIG", "")
    assert place_of(LIFT) is None
    monkeypatch.delenv("VP_AGENT_CONFIG")
    monkeypatch.setenv("SUDO_UID", str(STRANGER))  # it is theirs, and they called sudo
    assert place_of(LIFT) == Place(python=str(tmp_path / "venv/bin/python"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_to_a_file_of_another_user_starts_no_program(config, tmp_path):
    (tmp_path / "theirs").mkdir()
    theirs = tmp_path / "theirs" / "vp-agent.toml"
    theirs.write_text('[robosuite]\npython = "venv/bin/python"')
    (tmp_path / "vp-agent.toml").unlink()
    (tmp_path / "vp-agent.toml").symlink_to(theirs)
    assert place_of(LIFT) is not None
    os.chown(tmp_path / "theirs", STRANGER, -1)
    with pytest.raises(ConfigError, match=rf"theirs belongs to another user, {STRANGER}"):
        place_of(LIFT)


@pytest.mark.parametrize("what", ["vp-agent.toml", "."])
def test_a_file_that_anybody_can_write_starts_no_program(config, tmp_path, what):
    config('[robosuite]\npython = "venv/bin/python"')
    (tmp_path / what).chmod((tmp_path / what).stat().st_mode | 0o002)
    with pytest.raises(ConfigError, match=r"anybody can write .*export VP_AGENT_CONFIG=/"):
        place_of(LIFT)


def test_a_deadline_without_a_worker_is_refused(config):
    with pytest.raises(ConfigError, match="say python='self' as well"):
        gym.make(LIFT, deadline_s=5)


def test_an_entry_makes_workers_and_no_entry_does_not(config, monkeypatch):
    toy = Family(
        name="toy",
        entry_point="worker_envs:Noise",
        environments={TOY: {}},
        missing=lambda: None,
    )
    monkeypatch.setattr(interpreters, "FAMILIES", (toy,))
    assert type(make_env(env_id=TOY)) is Noise
    config(f'[toy]\nenv = {{ PYTHONPATH = "{TESTS["PYTHONPATH"]}" }}')
    env = make_env(env_id=TOY, deadline_s=90, horizon=4)
    assert isinstance(env, WorkerEnv)
    assert env.deadline_s == 90
    assert env._max_episode_steps == 4
    assert same(env.reset(seed=1), Noise().reset(seed=1))
    env.close()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")
def test_lift_looks_the_same_in_a_worker(config):
    def fly(**kwargs: Any) -> list[Any]:
        env: Any = gym.make(LIFT, resolution=(32, 48), render_quality="fast", **kwargs)
        actions = np.random.default_rng(0).uniform(-1, 1, (2, 7)).astype(np.float32)
        seen = [env.reset(seed=3), env.step(actions[0]), env.unwrapped.step_chunk(actions)]
        facts = env.unwrapped.views, env.unwrapped.horizon, env.spec.id
        env.close()
        return [*seen, facts]

    assert same(fly(), fly(python=sys.executable))


def test_a_worker_killed_while_it_starts_is_no_refused_interpreter(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    with pytest.raises(WorkerDied, match=r"killed by SIGKILL .* during start"):
        WorkerEnv("Robosuite-Lift-v0", python=str(program))


def test_a_program_that_is_no_interpreter_is_refused():
    with pytest.raises(WorkerRefused, match=r"no program '/no/such/python'.*'/path/to/venv"):
        WorkerEnv("Robosuite-Lift-v0", python="/no/such/python")
    with pytest.raises(WorkerRefused, match=r"/bin/true cannot run .* exited with code 0"):
        WorkerEnv("Robosuite-Lift-v0", python="/bin/true")
    with pytest.raises(ConfigError, match="deadline_s"):
        WorkerEnv("Robosuite-Lift-v0", deadline_s=0)


def test_a_worker_of_another_protocol_is_refused(monkeypatch):
    monkeypatch.setattr(worker_process, "PROTOCOL", 99)
    with pytest.raises(WorkerRefused, match=r"speaks protocol \d+ and not 99.*start the command"):
        WorkerEnv(TOY, env=TESTS)


def test_an_interpreter_without_gymnasium_is_told_the_command(python310):
    with pytest.raises(WorkerRefused, match=r"No module named .*-m pip install gymnasium numpy"):
        gym.make(LIFT, python=python310)


@pytest.mark.slow
def test_another_python_needs_numpy_and_gymnasium_and_no_vp_agent(python310, tmp_path):
    subprocess.run([python310, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "gymnasium", "numpy"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install gymnasium for Python 3.10: {done.stderr[-200:]}")
    env, here = WorkerEnv(TOY, python=python, env=TESTS), Noise()
    assert env.worker is not None
    assert env.worker.versions["python"].startswith("3.10")
    assert same(env.reset(seed=2), here.reset(seed=2))
    assert same(env.step(np.ones(7, np.float32)), here.step(np.ones(7, np.float32)))
    env.close()
    with pytest.raises(MissingExtraError, match=f"vp-agent.robosuite.. .for {python}, where"):
        gym.make(LIFT, python=python)
