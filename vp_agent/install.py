"""`vp-agent install`: a simulator in a virtual environment of its own, for workers to run in."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vp_agent.envs.interpreters import CONFIG_NAME, config_path
from vp_agent.errors import ConfigError, OutputExistsError, VPAgentError
from vp_agent.files import write_text

_ROBOCASA = "https://github.com/robocasa/robocasa"
# What RoboCasa 0.2 asserts, and what its environments import (its setup.py asks for far more).
_ROBOCASA_NEEDS = [
    "numpy==1.23.3",
    "numba==0.56.4",
    "mujoco==3.2.6",
    "robosuite==1.5.1",
    "gymnasium>=1.0",
    "scipy",
    "h5py",
    "imageio",
    "lxml",
    "opencv-python-headless",
    "pillow",
    "pyyaml",
    "termcolor",
    "tomli",
    "tqdm",
]
# The pins of the extra [libero], without what only the agent needs.
_LIBERO_NEEDS = ["hf-libero==0.1.4", "mujoco>=3.3,<3.9", "numpy<2.3", "gymnasium>=1.0"]


@dataclass(frozen=True, kw_only=True)
class InstallSettings:
    """Makes a virtual environment with a simulator and names it in vp-agent.toml: the one that
    counts here, or a new one in the current folder.
    """

    family: tyro.conf.Positional[Literal["libero", "robocasa"]]
    """Which simulator."""
    folder: tyro.conf.Positional[Path]
    """Where to; must not exist."""
    python: str | None = None
    """Interpreter of the environment: RoboCasa 0.2 needs 3.10, LIBERO takes this one."""
    dry_run: bool = False
    """Only print the commands."""


class InstallError(VPAgentError, RuntimeError):
    """A step of an installation failed; the message says how to go on."""


def install(settings: InstallSettings) -> None:
    """Runs the steps, or prints them.

    Raises:
        OutputExistsError: the folder exists.
        ConfigError: there is no interpreter that fits.
        InstallError: a step failed; what is done stays, and the rest is printed.
    """
    folder = settings.folder.absolute()
    if folder.exists():
        raise OutputExistsError(f"{folder} exists; remove it or choose another folder")
    venv, steps = _STEPS[settings.family](settings, folder)
    config = config_path() or Path(CONFIG_NAME)  # a wrong one is said before gigabytes are loaded
    entry = f'[{settings.family}]\npython = "{venv / "bin/python"}"\n'
    if settings.dry_run:
        print("\n".join(map(shlex.join, steps)))
    else:
        for number, step in enumerate(steps):
            print(f"[{number + 1}/{len(steps)}] {shlex.join(step)}", flush=True)
            _call(step, rest=steps[number:], entry=f"{config}: {entry}")
    _name_it(settings, entry, config)


def _libero(settings: InstallSettings, folder: Path) -> tuple[Path, list[list[str]]]:
    python = settings.python or sys.executable
    pip = [str(folder / "bin/python"), "-m", "pip", "install"]
    return folder, [
        [python, "-m", "venv", str(folder)],
        [*pip, *_LIBERO_NEEDS],
        [sys.executable, "-m", "vp_agent.envs.libero_install"],  # the assets
    ]


def _robocasa(settings: InstallSettings, folder: Path) -> tuple[Path, list[list[str]]]:
    python = settings.python or shutil.which("python3.10")
    if python is None:
        raise ConfigError(
            "RoboCasa 0.2 needs Python 3.10, and there is no python3.10 here; get one "
            "(uv python install 3.10) and name it: --python PATH"
        )
    venv, checkout = folder / "venv", str(folder / "robocasa")
    inside = str(venv / "bin/python")
    pip = [inside, "-m", "pip", "install"]
    return venv, [
        ["git", "clone", "--depth", "1", "--branch", "v0.2", _ROBOCASA, checkout],
        [python, "-m", "venv", str(venv)],
        # Python 3.10 brings a pip that searches these pins for minutes; today's takes seconds.
        [*pip, "--upgrade", "pip"],
        [*pip, *_ROBOCASA_NEEDS],
        [*pip, "--no-deps", "-e", checkout],
        [inside, "-m", "robocasa.scripts.download_kitchen_assets"],  # 5 GB; asks before
    ]


_STEPS: dict[str, Callable[[InstallSettings, Path], tuple[Path, list[list[str]]]]] = {
    "libero": _libero,
    "robocasa": _robocasa,
}


def _call(step: list[str], *, rest: list[list[str]], entry: str) -> None:
    try:
        code = subprocess.run(step).returncode
    except OSError as error:
        code = str(error)
    if code != 0:
        commands = "; ".join(map(shlex.join, rest))
        raise InstallError(
            f"{shlex.join(step)} failed ({code}); when it works, go on: {commands}; "
            f"and write into {entry}"
        )


def _name_it(settings: InstallSettings, entry: str, path: Path) -> None:
    before = path.read_text() if path.is_file() else ""
    if settings.dry_run:
        print(f"\nin {path}:\n{entry}")
    elif f"[{settings.family}]" in map(str.strip, before.splitlines()):
        print(
            f"\n{path} was not changed: it has an entry. To use this one, replace it by:\n{entry}"
        )
    else:
        write_text(path, f"{before}\n{entry}" if before else entry)
        print(f"{path} now names it: gym.make and vp-agent run {settings.family} in there")
