"""Where an environment runs: in this process, or in a worker, maybe of another interpreter.

`vp-agent.toml`, in the current folder or one above it, or where $VP_AGENT_CONFIG says:

    [robocasa]
    python = "~/venvs/robocasa/bin/python"

    [libero]
    python = "~/venvs/libero/bin/python"
    env = { LIBERO_CONFIG_PATH = "/data/libero" }
    deadline_s = 600

Policies of other packages have entries of the same kind: [lerobot], [robomimic].

The file chooses which programs are started. One that is merely found must therefore belong to the
user, as must its folder, and be writable by nobody else; $VP_AGENT_CONFIG may name any.
"""

import importlib
import os
import pwd
import shlex
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from vp_agent.envs.arm_env import ArmEnv
from vp_agent.envs.families import FAMILIES
from vp_agent.envs.worker import DEADLINE_S, WorkerEnv
from vp_agent.envs.worker_messages import POLICIES, check_deadline
from vp_agent.errors import ConfigError, MissingExtraError, UnknownNameError, closest

CONFIG_NAME = "vp-agent.toml"
CONFIG_VARIABLE = "VP_AGENT_CONFIG"  # a path; empty: no file, everything in this process


@dataclass(frozen=True, kw_only=True)
class Place:
    """The worker in which a family's environments run.

    Attributes:
        python: "self" or the path of an interpreter.
        env: environment variables of the child.
        deadline_s: seconds for every call.
    """

    python: str = "self"
    env: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        check_deadline(self.deadline_s)


def make_env(
    *, env_id: str, python: str | None = None, deadline_s: float | None = None, **kwargs: Any
) -> gym.Env:
    """Entry point of every registered id; `kwargs` are the environment's own.

    Without `python` and without an entry in vp-agent.toml the environment runs in this process.
    """
    place = place_of(env_id, python=python)
    if place is None:
        if deadline_s is not None:
            raise ConfigError(
                "deadline_s is of a worker, and this environment runs in this process; "
                "say python='self' as well"
            )
        family = next(family for family in FAMILIES if env_id in family.environments)
        creator: Any = load_env_creator(family.entry_point)
        return creator(**kwargs)
    if deadline_s is not None:
        place = replace(place, deadline_s=deadline_s)
    return make_in_worker(env_id, place=place, kwargs=kwargs)


def make_in_worker(
    env_id: str, *, place: Place | None = None, kwargs: Mapping[str, Any]
) -> WorkerEnv:
    """The environment in a worker, in any case: at `place`, or where vp-agent.toml says."""
    place = place or place_of(env_id) or Place()
    return WorkerEnv(
        env_id, python=place.python, env=place.env, deadline_s=place.deadline_s, kwargs=kwargs
    )


make_env.metadata = ArmEnv.metadata  # type: ignore[attr-defined]  # gym.make asks for render modes


def place_of(env_id: str, *, python: str | None = None) -> Place | None:
    """The worker for an id: of the argument, else of vp-agent.toml, else None: this process.

    Raises:
        ConfigError: vp-agent.toml does not fit.
    """
    if python is not None:
        return Place(python=python)
    family = next((family for family in FAMILIES if env_id in family.environments), None)
    return None if family is None else read_places().get(family.name)  # None: not of this package


def read_places() -> dict[str, Place]:
    """Family or kind of policy -> worker, of vp-agent.toml; empty if there is none."""
    path = config_path()
    if path is None:
        return {}
    try:
        content = _toml().loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    families = [*(family.name for family in FAMILIES), *POLICIES]
    places = {}
    for name, entry in content.items():
        if name not in families:
            raise UnknownNameError(
                f"{path}: no family {name!r}{closest(name, families)}; known: {', '.join(families)}"
            )
        places[name] = _place(entry, f"{path}, [{name}]", path.parent)
    return places


def _place(entry: Any, where: str, folder: Path) -> Place:
    known = {"python": str, "env": dict, "deadline_s": int | float}
    if not isinstance(entry, dict):
        raise ConfigError(f'{where} must be a table, such as\n[robocasa]\npython = "/path/python"')
    for key, value in entry.items():
        if key not in known:
            raise ConfigError(
                f"{where}: no setting {key!r}{closest(key, known)}; known: {', '.join(known)}"
            )
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise ConfigError(f"{where}: {key} = {value!r} is of the wrong type")
    for name, value in entry.get("env", {}).items():
        if not isinstance(value, str):
            raise ConfigError(f'{where}: env.{name} must be a string, such as "{value}"')
    python = entry.get("python", "self")
    for text in (python, *entry.get("env", {}), *entry.get("env", {}).values()):
        if "\0" in text:
            raise ConfigError(f"{where}: {text!r} has a zero byte, which no program can be given")
    if any("=" in name or not name for name in entry.get("env", {})):
        raise ConfigError(f"{where}: the name of an environment variable is a word without =")
    if "/" in python:  # absolute, of the home folder, or relative to the file
        python = str(folder / Path(python).expanduser())
    return Place(**{**entry, "python": python})


def config_path() -> Path | None:
    """The vp-agent.toml that counts here, absolute; None if there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        here = Path.cwd()
        candidates = [folder / CONFIG_NAME for folder in (here, *here.parents)]
        found = next((path for path in candidates if path.is_file()), None)
        if found is not None:
            _check_owner(found)
        return found
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"${CONFIG_VARIABLE} is {named!r}, and there is no such file")
    return path


def _check_owner(found: Path) -> None:
    """Raises `ConfigError` unless the user alone says what is in a file (as git does)."""
    real = found.resolve()
    for path in dict.fromkeys((found.parent, real.parent, real)):
        about = path.stat()
        if about.st_uid not in _users():
            why = f"{path} belongs to {_user_name(about.st_uid)}"
        elif about.st_mode & stat.S_IWOTH:
            why = f"anybody can write {path}"
        else:
            continue
        raise ConfigError(
            f"{found} chooses which programs are started, but {why}. If you trust it: "
            f"export {CONFIG_VARIABLE}={shlex.quote(str(found))}; without it: "
            f"export {CONFIG_VARIABLE}="
        )


def _users() -> set[int]:
    """Who runs this: also the one who called sudo, whose folders root works in then."""
    caller = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    return {os.geteuid(), *([int(caller)] if caller.isdecimal() else [])}


def _user_name(number: int) -> str:
    try:
        return f"{pwd.getpwuid(number).pw_name}, another user"
    except KeyError:
        return f"another user, {number}"


def _toml() -> Any:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"reading {CONFIG_NAME} on Python 3.10 needs tomli: pip install tomli"
        ) from error
