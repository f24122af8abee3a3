"""Policies of other packages: each in a process of its own, with an interpreter of its own.

`lerobot:PATH` and `robomimic:PATH` name them; vp-agent.toml says which interpreter has their
package, as it does for simulators:

    [lerobot]
    python = "~/venvs/lerobot/bin/python"

One process serves all lanes. What runs in it is `vp_agent.evaluation.foreign_<kind>`: its `load`
gives an object with `about`, `reset(lane)` and `act(lane, observation, seed)`.
"""

# A action dim

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.interpreters import Place, read_places
from vp_agent.envs.worker_messages import PolicyFacts, check_action, check_nothing, read
from vp_agent.envs.worker_process import Result, Worker
from vp_agent.errors import ActionError, AgentFolderError
from vp_agent.evaluation.policy import Actions, LoadedPolicy
from vp_agent.files import hash_tree, sha256

LOADING_S = 900.0  # LeRobot's import and some gigabytes of weights


class ForeignPolicy:
    """One lane's policy in the shared process: an action per plan, as these packages act."""

    execute = 1

    def __init__(self, host: "_Host", lane: int) -> None:
        self._host, self._lane = host, lane

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Forgets the episode."""
        self._host.call("reset_policy", check_nothing, lane=self._lane)

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Actions:
        """One action; what is random in it is a function of `seed`."""
        started = time.perf_counter()
        seen = {**obs, "pixels": dict(obs["pixels"])}
        check = partial(check_action, self._host.action_dim)
        action = self._host.call("act", check, lane=self._lane, observation=seen, seed=seed)
        action_A = np.asarray(action, np.float32)
        if not np.isfinite(action_A).all():
            raise ActionError(f"{self._host.name} gave an action that is not finite: {action_A}")
        return Actions(actions=action_A[None], latency_s=time.perf_counter() - started)


class _Host:
    """The process; lanes take turns."""

    def __init__(self, name: str, place: Place) -> None:
        self.name, self._deadline_s = name, place.deadline_s
        self._turn = threading.Lock()
        self.loading_s = max(LOADING_S, place.deadline_s)
        self.action_dim = 0  # until the policy is loaded
        self._worker = Worker(place.python, env=place.env, deadline_s=self.loading_s)

    def call(
        self,
        name: str,
        check: Callable[[Any], Result],
        *,
        deadline_s: float | None = None,
        **arguments: Any,
    ) -> Result:
        deadline_s = deadline_s or self._deadline_s
        with self._turn:
            return self._worker.call(name, deadline_s=deadline_s, check=check, **arguments)


def load_foreign(
    name: str,
    *,
    device: str = "auto",
    threads: int = 1,
    trusted: bool = False,
    env_kwargs: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """The policy `KIND:PATH`, ready to fly.

    Args:
        name: "lerobot:" and a folder or Hub repository, or "robomimic:" and a checkpoint file.
        device: "auto" takes a GPU if there is one.
        threads: CPU threads of the process.
        trusted: whether a file that runs code when it is read (some of robomimic's) may be.
        env_kwargs: of the environment, besides views and resolution, which the policy says.

    Raises:
        AgentFolderError: there is no such policy, or it cannot be read.
        ConfigError: it takes what our environments do not show, or runs code and is not trusted.
        MissingExtraError: the interpreter lacks the policy's package.
    """
    kind, _, path = name.partition(":")
    file = _locate(kind, path)
    host = _Host(name, read_places().get(kind, Place()))
    about: PolicyFacts = host.call(
        "load_policy",
        partial(read, PolicyFacts),
        deadline_s=host.loading_s,
        kind=kind,
        path=str(file),
        device=device,
        threads=threads,
        trusted=trusted,
    )
    host.action_dim = about.action_dim
    numbers = itertools.count()
    return LoadedPolicy(
        identity={"agent": _fingerprint(file), "tier": None, "sampler": None},
        lane=lambda: ForeignPolicy(host, next(numbers)),
        env_kwargs={**about.env_kwargs, **(env_kwargs or {})},
        action_dim=about.action_dim,
        device=about.device,
        gpu=about.gpu,
        torch=about.torch,
        facts=about.facts,
    )


def _locate(kind: str, path: str) -> Path:
    if kind == "lerobot":
        from vp_agent.locate import locate

        return locate(path).absolute()
    if not Path(path).is_file():
        raise AgentFolderError(f"{path!r} is no file; robomimic: takes a checkpoint, model_*.pth")
    return Path(path).absolute()


def _fingerprint(file: Path) -> str:
    """Short hash of what makes the policy act."""
    if file.is_file():
        return sha256(file)[:16]
    hashes = hash_tree(file)
    hashes.pop("README.md", None)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
