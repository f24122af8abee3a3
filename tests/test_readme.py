"""What the README says runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vp_agent.verbs import VERBS, Verb

pytest.importorskip("robosuite", reason="the example flies a robosuite task: extra [robosuite]")

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_flies_the_packaged_agent(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("lifted")


def test_every_command_in_the_readme_parses():
    for command in re.findall(r"^vp-agent (?:.*\\\n)*.*$", README.read_text(), re.MULTILINE):
        words = command.replace("\\\n", " ").split()[1:]
        verb = words[:1] if isinstance(VERBS[words[0]], Verb) else words[:2]
        shown = subprocess.run(
            [sys.executable, "-m", "vp_agent.cli", *verb, "--help"], capture_output=True, text=True
        ).stdout
        for flag in (word for word in words if word.startswith("--")):
            assert flag in shown, f"vp-agent {' '.join(verb)} knows no {flag}"
