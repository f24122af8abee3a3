"""Importing RoboCasa so that its tasks are registered, with what its versions need."""

import contextlib
import importlib
import inspect
import runpy
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from vp_agent.envs.robocasa_install import DOCS, DOWNLOAD, RELEASES, Install, find
from vp_agent.envs.robosuite_api import import_robosuite
from vp_agent.errors import SimulatorError


def load(install: Install, *, relax_version_checks: bool) -> Any:
    """Imports RoboCasa, which registers its tasks, and returns the module `robosuite`."""
    with contextlib.redirect_stdout(sys.stderr):  # RoboCasa prints what optional parts it lacks
        robosuite = import_robosuite()
        with _pinned_versions(install) if relax_version_checks else contextlib.nullcontext():
            try:
                importlib.import_module("robocasa")
            except (ImportError, AssertionError) as error:
                raise SimulatorError(
                    f"RoboCasa {install.version} cannot be imported ({error}); it was installed "
                    f"without its dependencies on purpose: see the package list in {DOCS}"
                ) from error
    if install.is_1_0:
        _prepare_1_0()
    return robosuite


def download_assets() -> None:
    """Runs RoboCasa's own download script, also where RoboCasa's version checks would stop it."""
    install = find()
    if install is None:
        raise SimulatorError(f"RoboCasa is not installed; see {DOCS}")
    load(install, relax_version_checks=True)
    runpy.run_module(DOWNLOAD, run_name="__main__")


def _prepare_1_0() -> None:
    warnings.warn(
        "RoboCasa 1.0 has other fixtures, objects and success thresholds than the RoboCasa 0.2 of "
        "the paper: results are not comparable with the paper's",
        stacklevel=2,
    )
    base = importlib.import_module("robosuite.environments.manipulation.manipulation_env")
    arguments = inspect.signature(base.ManipulationEnv.__init__).parameters
    takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    if "load_model_on_init" not in arguments and not takes_any:
        raise SimulatorError(
            f"RoboCasa 1.0 needs robosuite's git master: robosuite {version('robosuite')} from "
            "PyPI has no load_model_on_init, although master has the same version number. "
            "pip install 'robosuite @ git+https://github.com/ARISE-Initiative/robosuite@master' "
            f"or install RoboCasa 0.2 ({DOCS})"
        )
    # This module orders geoms by a `set` of objects, that is by memory address, so that equal
    # seeds would give other episodes. Its elements are hashable, and a dict keeps their order.
    counter: Any = importlib.import_module("robocasa.models.fixtures.counter")
    counter.set = lambda items=(): list(dict.fromkeys(items))


@contextlib.contextmanager
def _pinned_versions(install: Install) -> Iterator[None]:
    """Shows RoboCasa the versions it asserts.

    Only while it is imported, and after robosuite: numba and SciPy, which come with robosuite,
    choose their code by NumPy's version when they are imported.
    """
    release = RELEASES[install.series]
    wanted = {"numpy": release.numpy[-1], "mujoco": release.mujoco}
    modules: dict[str, Any] = {name: importlib.import_module(name) for name in wanted}
    true = {name: module.__version__ for name, module in modules.items()}
    try:
        for name, module in modules.items():
            module.__version__ = wanted[name]
        yield
    finally:
        for name, module in modules.items():
            module.__version__ = true[name]


if __name__ == "__main__":
    download_assets()
