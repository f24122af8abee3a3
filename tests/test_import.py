"""Importing the package is cheap, offline, and possible on Python 3.10 with two dependencies."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS_ON_3_10 = [
    "vp_agent/*.py",
    "envs/**/*.py",
    "wrappers/action_chunk.py",  # of a worker's chunks
    *(f"vp_agent/{name}/**/*.py" for name in ("diffusion", "evaluation", "model", "report")),
]


def _paths_for_3_10() -> list[str]:
    paths = sorted({str(path) for glob in RUNS_ON_3_10 for path in ROOT.glob(glob)})
    assert str(ROOT / "envs/__init__.py") in paths
    return paths


def _run(python: str, code: str, cwd: Path) -> str:
    done = subprocess.run([python, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_opens_no_socket(tmp_path: Path) -> None:
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
import vp_agent
"""
    _run(sys.executable, code, tmp_path)


def test_import_loads_no_torch_no_lerobot_and_no_simulator(tmp_path: Path) -> None:
    code = "import sys, vp_agent; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(_run(sys.executable, code, tmp_path).split())
    heavy = {
        "torch",
        "diffusers",
        "transformers",
        "lerobot",
        "robosuite",
        "mujoco",
        "libero",
        "matplotlib",
    }
    assert not loaded & heavy


def test_import_registers_the_environments(tmp_path: Path) -> None:
    code = "import gymnasium, vp_agent; print(gymnasium.spec('Robosuite-Lift-v0').id)"
    assert _run(sys.executable, code, tmp_path).strip() == "Robosuite-Lift-v0"


def test_core_and_environments_compile_on_python_3_10(python310: str) -> None:
    code = f"for path in {_paths_for_3_10()!r}: compile(open(path).read(), path, 'exec')"
    _run(python310, code, ROOT)


def test_core_and_environments_import_only_names_that_python_3_10_has(python310: str) -> None:
    code = f"""
import ast, importlib, sys
for path in {_paths_for_3_10()!r}:
    for node in ast.walk(ast.parse(open(path).read())):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.split(".")[0] in {sorted(sys.stdlib_module_names)!r}:
                loaded = importlib.import_module(module)
                assert name is None or hasattr(loaded, name), (path, module, name)
"""
    _run(python310, code, ROOT)


@pytest.mark.slow
def test_import_on_python_3_10_needs_only_gymnasium_and_numpy(
    python310: str, tmp_path: Path
) -> None:
    subprocess.run([python310, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "gymnasium", "numpy"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install gymnasium for Python 3.10: {done.stderr[-200:]}")
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import gymnasium, vp_agent, vp_agent.envs
print(gymnasium.spec("Robosuite-Lift-v0").id)
"""
    assert _run(python, code, tmp_path).strip() == "Robosuite-Lift-v0"
