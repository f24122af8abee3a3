"""Every error a user can meet: what was expected, what came, what to type next."""

import difflib
import importlib
import reprlib
from collections.abc import Iterable
from types import ModuleType


class VPAgentError(Exception):
    """Root of the errors this package raises on purpose."""


class ConfigError(VPAgentError, ValueError):
    """A configuration value or field that does not fit."""


class ObservationError(VPAgentError, ValueError):
    """An observation that misses a part or has a malformed one."""


class ActionError(VPAgentError, ValueError):
    """An action of wrong shape or with non-finite numbers."""


class DatasetError(VPAgentError, ValueError):
    """A dataset that does not fit the policy or is damaged."""


class AgentFolderError(VPAgentError, ValueError):
    """An agent folder or checkpoint that is incomplete, altered or of another shape."""

    def __str__(self) -> str:
        # Names in a foreign file may hold anything, and libraries' words have many lines.
        return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in super().__str__())


class AgentConfigError(AgentFolderError, ConfigError):
    """An agent folder whose config.json does not fit, or of which no network can be built."""


class PlanError(VPAgentError, ArithmeticError):
    """A plan with numbers that are not finite; none of its actions was executed."""


class OutputExistsError(VPAgentError, FileExistsError):
    """An output folder that already holds something."""


class UnknownNameError(VPAgentError, KeyError):
    """A name (task, preset, environment id) that is not in its list."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the repr


class MissingExtraError(VPAgentError, ImportError):
    """An optional package that is not installed."""


class SimulatorError(VPAgentError, RuntimeError):
    """A simulator or its renderer that cannot run here."""


class WorkerError(SimulatorError):
    """A worker process, or what it was given or sent, that does not do."""


class WorkerRefused(WorkerError):
    """An interpreter that cannot run a worker."""


class WorkerDied(WorkerError):
    """A worker process that ended by itself: a crash, an exit, a kill."""


class WorkerTimeout(WorkerError):
    """A worker process that did not answer within its deadline, and was killed."""


def require(condition: bool, message: str) -> None:
    """Raises a `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def short(value: object) -> str:
    """`value` for a message: one line, not long, and of things that raise in `repr`, too."""
    return " ".join(reprlib.repr(value).split())


def closest(name: str, known: Iterable[object]) -> str:
    """`; did you mean 'X'?` if one of `known` is similar to `name`, else an empty string."""
    words = [word for word in known if isinstance(word, str)]
    match = difflib.get_close_matches(name, words, n=1, cutoff=0.4)
    return f"; did you mean {match[0]!r}?" if match else ""


def need(module: str, *, extra: str) -> ModuleType:
    """Imports an optional package, or says which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} cannot be imported ({error}); install it: pip install 'vp-agent[{extra}]'"
        ) from error
