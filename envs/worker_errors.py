"""Exceptions between a worker and its parent: sent as names and text, looked up in a list."""

import builtins
import contextlib
import sys
import traceback
from types import ModuleType

import gymnasium as gym

from vp_agent import errors
from vp_agent.envs.worker_messages import Failure
from vp_agent.errors import (
    MissingExtraError,
    SimulatorError,
    WorkerDied,
    WorkerError,
    WorkerRefused,
    WorkerTimeout,
)

# Only the parent knows these of a worker; the first two would end a generator, not be raised.
_NOT_SENT = (StopIteration, StopAsyncIteration, WorkerDied, WorkerRefused, WorkerTimeout)


def _exceptions(module: ModuleType) -> dict[tuple[str, str], type[Exception]]:
    return {
        (module.__name__, name): found
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Exception) and found not in _NOT_SENT
    }


# What comes from outside is looked up here and nowhere else: a name may be `exec` or `SystemExit`.
_KNOWN = {
    (module, name): found
    for each in (builtins, gym.error, errors)
    for (module, name), found in _exceptions(each).items()
    if found not in (Exception, errors.VPAgentError, gym.error.Error)  # these say nothing
}


def described(error: Exception) -> Failure:
    """What the parent is told of an exception."""
    plain = len(error.args) == 1 and isinstance(error.args[0], str)
    # str() of a KeyError is the repr of its message
    texts = (error.args[0] if plain else str(error), "".join(traceback.format_exception(error)))
    message, trace = (text.encode(errors="backslashreplace").decode() for text in texts)
    classes = [[cls.__module__, cls.__name__] for cls in type(error).__mro__]
    return Failure(classes=classes, message=message[:_LONGEST], traceback=trace[-_LONGEST:])


_LONGEST = 100_000  # characters


def rebuilt(failure: Failure, python: str) -> Exception:
    """The environment's error as the best known of its classes."""
    name, message = failure.name, failure.text
    # What is to be typed is to be typed there, but for this package's own commands.
    typed = name == MissingExtraError.__name__ or "python -m " in message
    if typed and "python -m vp_agent" not in message and python != sys.executable:
        message += f" (for {python}, where this environment runs)"
    raised: Exception | None = None
    for module, cls in failure.classes:
        known = _KNOWN.get((module, cls))
        if known is None:
            continue
        exact = [module, cls] == failure.classes[0]
        with contextlib.suppress(TypeError):  # a class that is not made of one message
            raised = known(message if exact else f"{name}: {message}")
            break
    if raised is None:
        raised = SimulatorError(f"{name}: {message}")
    raised.__cause__ = WorkerError(f"in a worker of {python}:\n{failure.traceback}")
    return raised
