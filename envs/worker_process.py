"""The parent's side of a worker: starts the process, calls it, and is sure to end it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import vp_agent
from vp_agent.envs.worker_errors import rebuilt
from vp_agent.envs.worker_messages import PROTOCOL, Answer, Hello, check_nothing, printable, read
from vp_agent.envs.worker_protocol import HEARTBEAT_S, Link
from vp_agent.errors import WorkerDied, WorkerError, WorkerRefused, WorkerTimeout

# Loads this very vp_agent, and only it: its folder may be a site-packages of another Python.
_BOOTSTRAP = """
import sys
if sys.version_info < (3, 10):
    sys.exit("vp_agent needs Python 3.10 or later, and this is " + sys.version.split()[0])
sys.path = [folder for folder in sys.path if folder]
try:
    import gymnasium, numpy
except ImportError as error:
    sys.exit("%s; install it: %s -m pip install gymnasium numpy" % (error, sys.executable))
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location(
    "vp_agent", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]]
)
sys.modules["vp_agent"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["vp_agent"])
from vp_agent.envs.worker_child import main
main(int(sys.argv[2]))
"""
_LOG_LINES, _LOG_BYTES = 20, 1024  # a line may be endless
_CLOSE_S = 5.0  # for the environment's own close()
_EXIT_S = 0.5  # for a process whose connection is closed to end, past the call's deadline
_POLL_S = 0.5  # how often a silent worker is looked at
_SILENT_S = 2.5 * HEARTBEAT_S
_TRACEBACK_S = 0.5  # for a worker that hangs to write where


Result = TypeVar("Result")


class Worker:
    """One child process with an environment in it; after an error that ended it, `alive` is False.

    Attributes:
        python: its interpreter.
        versions: of vp_agent, Python, Gymnasium and NumPy in it.
    """

    def __init__(self, python: str, *, env: Mapping[str, str], deadline_s: float) -> None:
        """Starts it.

        Raises:
            WorkerRefused: the interpreter does not run, or not this vp_agent.
            WorkerDied: a signal ended it while it started.
        """
        self.python = sys.executable if python == "self" else python
        if shutil.which(self.python) is None:
            raise WorkerRefused(
                f"there is no program {self.python!r}; python= is the path of an interpreter, such "
                "as '/path/to/venv/bin/python', or 'self'"
            )
        deadline = time.monotonic() + deadline_s
        ours, theirs = socket.socketpair()
        package = str(Path(vp_agent.__file__).parent)
        with theirs:
            try:
                process = subprocess.Popen(
                    [self.python, "-c", _BOOTSTRAP, package, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,  # a prompt of a simulator fails at once
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=_environment(self.python, env),
                    start_new_session=True,  # Ctrl-C is for the parent, a kill for the group
                )
            except OSError as error:
                ours.close()
                raise WorkerRefused(f"{self.python} cannot be started: {error}") from error
        self.pid = process.pid
        self._process, self._link = process, Link(ours)
        self._log = _Log(process)
        self._heard, self._why = time.monotonic(), ""
        # also if this object is forgotten, and at exit
        self._end = weakref.finalize(self, _kill, process, self._link, os.getpid())
        try:
            hello = self._receive(deadline, deadline_s, "start")
            protocol = hello.get("protocol") if isinstance(hello, dict) else None
            if type(protocol) is int and protocol != PROTOCOL:
                raise WorkerError(
                    f"it speaks protocol {protocol} and not {PROTOCOL}: vp_agent was changed while "
                    "this process was running; start the command again"
                )
            self.versions: dict[str, str] = read(Hello, hello).versions
        except WorkerTimeout:
            raise
        except WorkerError as error:
            self.kill()
            if isinstance(error, WorkerDied) and (self._process.returncode or 0) < 0:
                raise  # by a signal: says nothing of the interpreter, and another try may work
            raise WorkerRefused(
                f"{self.python} cannot run environments of vp_agent {vp_agent.__version__}: {error}"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether calls are still possible."""
        return self._end.alive

    def call(
        self, name: str, *, deadline_s: float, check: Callable[[Any], Result], **arguments: Any
    ) -> Result:
        """What `check` makes of the worker's answer; it raises `WorkerError` if that is none.

        Raises:
            WorkerDied: it ended by itself.
            WorkerTimeout: no answer within `deadline_s`, whatever else it sent; it was killed.
            WorkerError: what it sent is no answer; it was killed.
            Exception: what the environment raised, as the same class with the same message, if it
                is a class of Python, Gymnasium or this package.
        """
        if not self.alive:
            raise WorkerDied(f"there is no worker for {name}: {self._why or 'it was ended'}")
        deadline = time.monotonic() + deadline_s
        request = {"call": name, "deadline_s": deadline_s, "arguments": arguments}
        try:
            with contextlib.suppress(ConnectionError):  # dead; `_receive` will say of what
                self._link.send(request, deadline=deadline)
            message = self._receive(deadline, deadline_s, name)
            answer: Answer = self._understood(partial(read, Answer), message)
        except WorkerError:
            raise
        except TimeoutError:
            raise self._timeout(deadline_s, name) from None
        except BaseException:  # such as Ctrl-C: the answer would be taken for that of the next call
            self.kill()
            raise
        for warned in answer.warnings:
            warnings.warn(warned, stacklevel=2)
        if (failure := answer.failure) is not None:
            raise rebuilt(failure, self.python)
        return self._understood(check, answer.result)

    def kill(self) -> None:
        """Ends the process and all it started, now."""
        self._end()

    def close(self) -> None:
        """Lets the environment close itself; kills what does not."""
        if self.alive:
            with contextlib.suppress(Exception):
                self.call("close", deadline_s=_CLOSE_S, check=check_nothing)
                self._process.wait(_CLOSE_S)
        self.kill()

    def _understood(self, check: Callable[[Any], Result], sent: Any) -> Result:
        try:
            return check(sent)
        except WorkerError as error:
            self.kill()
            self._why = f"{error} (from a worker of {self.python}, which was killed)"
            raise WorkerError(self._why) from error

    def _receive(self, deadline: float, deadline_s: float, what: str) -> Any:
        self._heard = time.monotonic()
        while True:
            try:
                if time.monotonic() >= deadline:  # even if heartbeats keep coming
                    raise TimeoutError
                soon = min(deadline, time.monotonic() + _POLL_S)
                if not self._link.has_message(soon):
                    if self._process.poll() is not None:
                        raise EOFError  # something it started keeps its end of the connection open
                    continue
                message = self._link.receive(deadline=deadline)
            except (EOFError, ConnectionError):
                raise self._died(what, deadline) from None
            except TimeoutError:
                raise self._timeout(deadline_s, what) from None
            except WorkerError:  # where the next message would begin is unknown
                self.kill()
                raise
            self._heard = time.monotonic()
            if message is not None:  # else it was a heartbeat
                return message

    def _died(self, what: str, deadline: float) -> WorkerDied:
        left_s = deadline - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(min(_CLOSE_S, max(_EXIT_S, left_s)))
        code = self._process.poll()
        self.kill()
        if code is None:
            how = "closed its connection"
        elif code >= 0:
            how = f"exited with code {code}"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
            how += " (out of memory?)" if -code == signal.SIGKILL else ""
        where = f"(process {self.pid}, {self.python}){self._log.tail()}"
        self._why = f"the worker {how} during {what} {where}"
        return WorkerDied(self._why)

    def _timeout(self, deadline_s: float, what: str) -> WorkerTimeout:
        silent_s = time.monotonic() - self._heard
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)  # it writes its traceback to the log
        time.sleep(_TRACEBACK_S)
        self.kill()
        state = (
            f"silent for {silent_s:.0f} s, so stopped, importing or deep in C code"
            if silent_s > _SILENT_S
            else "alive, so slow or in an endless loop"
        )
        self._why = (
            f"{what} took longer than deadline_s={deadline_s:g}; the worker was {state}, and was "
            f"killed (process {self.pid}, {self.python}); if it only needs more time, give more: "
            f"deadline_s={10 * deadline_s:g} in vp-agent.toml or for gym.make{self._log.tail()}"
        )
        return WorkerTimeout(self._why)


class _Log:
    """The last lines of what a process writes to stdout and stderr."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        with stream:
            while line := stream.readline(_LOG_BYTES):
                self._lines.append(printable(line.decode(errors="replace").rstrip()))

    def tail(self) -> str:
        """For the end of a message; call it after the process has ended."""
        self._thread.join(1)  # what a grandchild writes may never end
        lines = list(self._lines)
        return ". Its last words:\n  " + "\n  ".join(lines) if lines else ", without a word"


def _environment(python: str, extra: Mapping[str, str]) -> dict[str, str]:
    environment = dict(os.environ)
    if python != sys.executable:  # these name packages of this interpreter, not of that one
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(name, None)
    for name in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):  # several workers share the cores
        environment.setdefault(name, "1")
    # no worker starts a worker; what it writes must be here when it crashes
    return {**environment, "VP_AGENT_CONFIG": "", "PYTHONUNBUFFERED": "1", **extra}


def _kill(process: subprocess.Popen, link: Link, owner: int) -> None:
    if os.getpid() != owner:  # a fork of the parent has a copy of this object
        return
    link.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
