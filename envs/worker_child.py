"""The worker's side: one environment, or one policy of another package, driven by messages.

Needs only NumPy and Gymnasium.
"""

import faulthandler
import importlib
import os
import platform
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

import vp_agent
from vp_agent.envs.families import FAMILIES
from vp_agent.envs.worker_errors import described
from vp_agent.envs.worker_messages import (
    MIRRORED,
    POLICIES,
    PROTOCOL,
    Answer,
    Failure,
    Hello,
    Request,
    read,
)
from vp_agent.envs.worker_protocol import HEARTBEAT_S, Link
from vp_agent.envs.worker_spaces import space_to_message
from vp_agent.errors import UnknownNameError, WorkerError
from vp_agent.wrappers.action_chunk import step_chunk

_WARNINGS, _WARNING = 100, 2000  # of one call, and characters of each
_LAST_RESORT_S = 10.0  # after a deadline at which nobody has killed this process


def main(descriptor: int) -> None:
    """Answers calls until the other end of the connection is gone."""
    os.set_inheritable(descriptor, False)  # a simulator's own subprocess would keep it open
    faulthandler.enable(all_threads=False)
    # the parent asks where a call hangs
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    link = Link(socket.socket(fileno=descriptor))
    busy = threading.Event()
    threading.Thread(target=_beat, args=(link, busy), daemon=True).start()
    versions = {
        "vp_agent": vp_agent.__version__,
        "python": platform.python_version(),
        "gymnasium": gym.__version__,
        "numpy": np.__version__,
    }
    link.send(asdict(Hello(protocol=PROTOCOL, versions=versions)))
    desk, warned = _Desk(), list[str]()
    warnings.showwarning = partial(_note_warning, warned, warnings.showwarning)
    while True:
        try:
            message = link.receive()
        except (EOFError, ConnectionError):
            os._exit(0)  # nobody is left to close the environment for, and closing may hang
        except WorkerError as error:  # where the next message would begin is unknown
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        try:
            request: Request = read(Request, message)
        except WorkerError as error:
            link.send(_answer(error=described(error)))
            continue
        # Ends this process even if C code holds the interpreter's lock: Python's own threads
        # could not see then that the parent is gone.
        faulthandler.dump_traceback_later(request.deadline_s + _LAST_RESORT_S, exit=True)
        busy.set()
        try:
            result = getattr(desk, request.call)(**request.arguments)  # one of `CALLS`
            link.send(_answer(result=result, warnings=warned))
        except Exception as error:
            link.send(_answer(error=described(error), warnings=warned))
        warned.clear()
        busy.clear()
        faulthandler.cancel_dump_traceback_later()
        if request.call == "close":
            return


def _answer(
    *, result: Any = None, error: Failure | None = None, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    about = None if error is None else asdict(error)
    return vars(Answer(warnings=list(warnings), result=result, error=about))


class _Desk:
    """What can be asked for, by name."""

    env: gym.Env
    policy: Any

    def make(self, env_id: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        self.close()
        # the parent has Gymnasium's checker around all of it, if it wants one
        self.env = gym.make(env_id, disable_env_checker=True, **kwargs)
        return {
            "action_space": space_to_message(self.env.action_space),
            "observation_space": space_to_message(self.env.observation_space),
            "attributes": self._attributes(),
        }

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info, self._attributes()  # an instruction may change with the scene

    def step(self, action: np.ndarray) -> Any:
        return self.env.step(action)

    def step_chunk(self, actions: np.ndarray) -> Any:
        return step_chunk(self.env, actions)

    def render(self) -> Any:
        return self.env.render()

    def lacking(self, family: str) -> list[str]:
        """What the interpreter lacks of a simulator, and the command that brings it."""
        missing = next(known for known in FAMILIES if known.name == family).missing()
        return [missing.what, missing.fix] if missing else ["", ""]

    def load_policy(self, kind: str, path: str, **options: Any) -> dict[str, Any]:
        if kind not in POLICIES:
            raise UnknownNameError(f"no kind of policy {kind!r}; known: {', '.join(POLICIES)}")
        module = importlib.import_module(f"vp_agent.evaluation.foreign_{kind}")
        self.policy = module.load(path, **options)
        return self.policy.about

    def reset_policy(self, lane: int) -> None:
        self.policy.reset(lane)

    def act(self, lane: int, observation: dict[str, Any], seed: int) -> np.ndarray:
        return self.policy.act(lane, observation, seed)

    def close(self) -> None:
        if hasattr(self, "env"):
            self.env.close()
            del self.env

    def _attributes(self) -> dict[str, Any]:
        inner = self.env.unwrapped
        return {name: getattr(inner, name) for name in MIRRORED if hasattr(inner, name)}


def _beat(link: Link, busy: threading.Event) -> None:
    while True:
        busy.wait()
        time.sleep(HEARTBEAT_S)
        if not busy.is_set():
            continue
        try:
            link.send(None)
        except OSError:  # the parent is gone, and the call that runs is of no use to anyone
            os._exit(1)


def _note_warning(
    warned: list[str], show: Callable[..., None], message: Any, category: Any, *where: Any
) -> None:
    # the others are for the simulator's developers
    if issubclass(category, UserWarning) and len(warned) < _WARNINGS:
        warned.append(str(message)[:_WARNING].encode(errors="backslashreplace").decode())
    show(message, category, *where)
