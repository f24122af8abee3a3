"""What runs on this machine is told truly, and without loading a simulator."""

import dataclasses
import subprocess
import sys
import venv
from importlib.util import find_spec

import gymnasium as gym
import pytest

import vp_agent  # noqa: F401  (registers the ids)
from vp_agent import doctor
from vp_agent.cli import main
from vp_agent.doctor import Finding, environment_lines
from vp_agent.envs.families import FAMILIES, Missing


def test_every_registered_environment_is_listed():
    listed = {line.strip() for line in environment_lines() if line.startswith("  ")}
    ours = {
        name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("vp_agent.")
    }
    assert listed == ours


def test_robosuite_is_looked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = FAMILIES[0].missing()
    assert missing is not None
    assert missing.fix == "pip install 'vp-agent[robosuite]'"


def test_a_missing_simulator_is_named_with_the_command_that_brings_it(monkeypatch):
    gone = dataclasses.replace(FAMILIES[0], missing=lambda: Missing("no robosuite", "pip it"))
    monkeypatch.setattr(doctor, "FAMILIES", (gone,))
    assert next(environment_lines()) == "robosuite (5): no robosuite; fix: pip it"


def test_an_interpreter_of_vp_agent_toml_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FAMILIES", FAMILIES[:1])
    monkeypatch.setenv("VP_AGENT_CONFIG", str(tmp_path / "vp-agent.toml"))
    for python, said in (
        (sys.executable, f"robosuite (5): in workers of {sys.executable}"),
        ("/no/python", "robosuite (5): vp-agent.toml names /no/python, which is not there; fix: "),
    ):
        (tmp_path / "vp-agent.toml").write_text(f'[robosuite]\npython = "{python}"')
        assert next(environment_lines()).startswith(said)


def test_the_doctor_asks_the_interpreter_of_vp_agent_toml_for_its_simulator(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FAMILIES", FAMILIES[2:])
    monkeypatch.setenv("VP_AGENT_CONFIG", str(tmp_path / "vp-agent.toml"))
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    for python, said in (
        (sys.executable, f"LIBERO is not installed (for {sys.executable})"),
        (f"{bare}/bin/python", f"{bare}/bin/python cannot run environments of vp_agent"),
    ):
        (tmp_path / "vp-agent.toml").write_text(f'[libero]\npython = "{python}"')
        finding = next(x for x in doctor.examine() if x.about == "libero")
        assert finding.says.startswith(said)
        assert finding.fix
    assert "install gymnasium numpy" in finding.fix


def test_listing_loads_no_simulator_and_no_torch():
    code = (
        "import sys; from vp_agent.cli import main; main(['envs']); "
        "print({'robosuite', 'mujoco', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.skipif(find_spec("mujoco") is None, reason="needs the extra robosuite")
def test_rendering_is_tried_and_a_wrong_backend_is_mended(monkeypatch):
    assert doctor._gl().fix == ""
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    finding = doctor._gl()
    assert "nonsense" in finding.says
    assert "libosmesa6" in finding.fix


def test_what_is_wrong_sets_the_exit_code_and_is_counted(monkeypatch, capsys):
    found = [Finding("python", "3.12"), Finding("disk", "1 GB free", "free 10 GB there")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    assert main(["doctor"]) == 2
    shown = capsys.readouterr()
    assert "ok  python" in shown.out
    assert "fix: free 10 GB there" in shown.out
    assert "1 of 2 need attention: disk" in shown.err


def test_what_the_demo_does_without_is_a_note(monkeypatch, capsys):
    found = [Finding("python", "3.12"), Finding("libero", "not there", "pip it", optional=True)]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr()
    assert "--  libero       not there" in shown.out
    assert "if wanted: pip it" in shown.out
    assert shown.out.endswith("next: vp-agent demo\n")
    assert shown.err == ""


def test_only_what_the_demo_needs_is_no_note(monkeypatch):
    gone = [
        dataclasses.replace(family, missing=lambda: Missing("gone", "pip it"))
        for family in FAMILIES
    ]
    monkeypatch.setattr(doctor, "FAMILIES", tuple(gone))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "_run", lambda code: (0, ""))
    needed = {finding.about for finding in doctor.examine() if finding.fix and not finding.optional}
    assert needed == {"rendering", "robosuite"}


def test_a_crash_of_what_is_tried_is_a_finding():
    code, said = doctor._run("import os; os.abort()")
    assert code != 0
    assert "exit status" in said
