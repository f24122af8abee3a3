"""The worker's side: one environment, or one policy of another package, driven by messages.

Needs only NumPy and Gymnasium.
"""

import faulthandler
import importlib
import os
import platform
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

import vp_agent
from vp_agent.envs.families import FAMILIES
from vp_agent.envs.worker_protocol import HEARTBEAT_S, PROTOCOL, Link, space_to_message
from vp_agent.wrappers.action_chunk import step_chunk

# what others ask of an environment besides Gymnasium's own words
MIRRORED = (
    "control_hz",
    "horizon",
    "instruction",
    "metadata",
    "protocol",
    "render_mode",
    "render_quality",
    "resolution",
    "task",
    "terminate_on_success",
    "transform",
    "views",
)
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
    link.send({"protocol": PROTOCOL, "versions": versions})
    desk, warned = _Desk(), list[str]()
    warnings.showwarning = partial(_note_warning, warned, warnings.showwarning)
    while True:
        try:
            request = link.receive()
        except (EOFError, ConnectionError):
            os._exit(0)  # nobody is left to close the environment for, and closing may hang
        # Ends this process even if C code holds the interpreter's lock: Python's own threads
        # could not see then that the parent is gone.
        faulthandler.dump_traceback_later(request["deadline_s"] + _LAST_RESORT_S, exit=True)
        busy.set()
        try:
            result = getattr(desk, request["call"])(**request["arguments"])
            link.send({"result": result, "warnings": warned})
        except Exception as error:
            link.send({"error": _described(error), "warnings": warned})
        warned.clear()
        busy.clear()
        faulthandler.cancel_dump_traceback_later()
        if request["call"] == "close":
            return


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
    if issubclass(category, UserWarning):  # the others are for the simulator's developers
        warned.append(str(message))
    show(message, category, *where)


def _described(error: Exception) -> dict[str, Any]:
    plain = len(error.args) == 1 and isinstance(error.args[0], str)
    return {
        "classes": [[cls.__module__, cls.__name__] for cls in type(error).__mro__],
        # str() of a KeyError is the repr of its message
        "message": error.args[0] if plain else str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
