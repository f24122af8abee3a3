"""Hostile workers: is every message a typed error, in time, and in little memory?

python benchmarks/worker_fuzz.py --frames 125000 --answers 125000
"""

import contextlib
import os
import random
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from worker_messages_hostile import CALLS, frame, hostile_answer, hostile_frame, hostile_request

from vp_agent.envs.worker import WorkerEnv
from vp_agent.envs.worker_messages import (
    PROTOCOL,
    Answer,
    PolicyFacts,
    check_action,
    check_lacking,
    check_started,
    check_stepped,
    read,
    read_made,
)
from vp_agent.envs.worker_process import Worker
from vp_agent.envs.worker_protocol import Link
from vp_agent.errors import VPAgentError, WorkerError

DEADLINE_S = 1.0
PATH = {"PYTHONPATH": str(Path(__file__).parent)}
SPACE = gym.spaces.Dict(
    {
        "pixels": gym.spaces.Dict({"left": gym.spaces.Box(0, 255, (4, 6, 3), np.uint8)}),
        "agent_pos": gym.spaces.Box(-1, 1, (3,), np.float32),
        "task": gym.spaces.Text(60),
    }
)
_CHILD = """#!{python} -S
import os, socket, struct, subprocess, sys, time
link = socket.socket(fileno=int(sys.argv[-1]))
def send(text, arrays=b""):
    link.sendall(struct.pack("<4sIQ", b"vpaw", len(text), len(arrays)) + text + arrays)
def hello():
    send(b'{{"protocol": {protocol}, "versions": {{}}}}')
{behaviour}
"""
_BEHAVIOURS = {
    "says nothing": "time.sleep(60)",
    "closes its connection and lives on": "link.close(); time.sleep(60)",
    "floods heartbeats": "hello()\nwhile True: send(b'null')",
    "floods heartbeats instead of a hello": "while True: send(b'null')",
    "beats every 10 ms": "hello()\nwhile True: time.sleep(0.01); send(b'null')",
    "sends a frame byte by byte": (
        "hello()\nlink.sendall(struct.pack('<4sIQ', b'vpaw', 1 << 20, 0))\n"
        "while True: link.sendall(b' '); time.sleep(0.0002)"
    ),
    "declares 128 MiB and sends them slowly": (
        "hello()\nlink.sendall(struct.pack('<4sIQ', b'vpaw', 4, 1 << 27) + b'null')\n"
        "while True: link.sendall(bytes(4096)); time.sleep(0.001)"
    ),
    "sends half a frame": "hello(); link.sendall(b'vpaw1'); time.sleep(60)",
    "reads nothing": "hello(); time.sleep(60)",
    "prints without an end": "hello()\nwhile True: os.write(1, b'x' * 65536)",
    "leaves a process that holds everything": (
        "hello(); subprocess.Popen(['sleep', '20'], pass_fds=[link.fileno()], "
        "start_new_session=True); os._exit(3)"
    ),
    "ignores signals": (
        "import signal\n[signal.signal(s, signal.SIG_IGN) for s in (10, 15)]\n"
        "hello(); time.sleep(60)"
    ),
}


@dataclass(frozen=True)
class Settings:
    """How many hostile messages of each kind."""

    frames: int = 2000
    """Bytes that may be no frame."""
    answers: int = 2000
    """Frames with wrong content, as answers to every kind of call."""
    requests: int = 500
    """The other direction: requests to a real worker."""
    children: int = 12
    """Processes that do not keep to the protocol, of twelve kinds by turns."""
    seed: int = 0
    """Of all that is random."""


class Puppet(Worker):
    """The parent's side of a worker, all of it but the process; a test holds the other end."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.python, self.pid = "puppet", os.getpid()
        self._link, self._log = Link(ours), SimpleNamespace(tail=lambda: "")  # type: ignore
        self._process: Any = SimpleNamespace(poll=lambda: 0, wait=lambda _: 0, returncode=0)
        self._heard, self._why = time.monotonic(), ""
        self._end = weakref.finalize(self, ours.close)


@dataclass
class Tally:
    """What came of the messages."""

    outcomes: Counter[str]
    raw: list[str]
    slowest_s: float = 0.0

    def take(self, call: Callable[[], Any]) -> None:
        """Counts how a call ends; raw is what is neither an error of ours nor the worker's own."""
        started = time.monotonic()
        try:
            call()
            self.outcomes["taken"] += 1
        except VPAgentError as error:
            self.outcomes[type(error).__name__] += 1
        except BaseException as error:
            if isinstance(error, Exception) and isinstance(error.__cause__, WorkerError):
                self.outcomes["an exception of the list"] += 1
            else:
                self.raw.append(f"{type(error).__name__}: {error!s:.200}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)


def answers(settings: Settings, make: Callable[[random.Random, str], bytes], count: int) -> Tally:
    """Hostile answers to calls, through the whole of the parent's side."""
    rng, tally = random.Random(settings.seed), Tally(Counter(), [])
    checks: dict[str, Callable[[Any], Any]] = {
        "make": read_made,
        "reset": partial(check_started, SPACE),
        "step": partial(check_stepped, SPACE),
        "step_chunk": partial(check_stepped, SPACE, at_most=1),
        "render": lambda drawn: drawn,
        "lacking": check_lacking,
        "act": partial(check_action, 7),
        "load_policy": partial(read, PolicyFacts),
    }
    for number in range(count):
        call = CALLS[number % len(CALLS)]
        puppet, data = Puppet(), make(rng, call)
        sender = threading.Thread(target=_send, args=(puppet.theirs, data))
        if len(data) < 50_000:
            sender.run()
        else:  # more than the connection holds
            sender.start()
        tally.take(partial(puppet.call, call, deadline_s=DEADLINE_S, check=checks[call]))
        puppet.kill()
        if sender.ident is not None:
            sender.join()
    return tally


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError), connection:
        connection.sendall(data)


def requests(settings: Settings) -> Tally:
    """Hostile requests to a real worker, which must answer each and then a good one."""
    rng, tally = random.Random(settings.seed), Tally(Counter(), [])
    good = {"env_id": "worker:Still-v0", "kwargs": {"resolution": 4}}
    worker = Worker("self", env=PATH, deadline_s=60)
    for _ in range(settings.requests):
        if not worker.alive:  # it ended itself after bytes that are no message
            worker = Worker("self", env=PATH, deadline_s=60)
            worker.call("make", deadline_s=60, check=read_made, **good)
        data = frame(hostile_request(rng), bytes(256))
        tally.take(partial(_answered, worker, data))
    if worker.alive:
        worker.call("make", deadline_s=60, check=read_made, **good)
    worker.close()
    return tally


def _answered(worker: Worker, data: bytes) -> None:
    worker._link._socket.sendall(data)
    answer = read(Answer, worker._receive(time.monotonic() + 20, 20, "a hostile request"))
    if answer.failure is not None:
        raise WorkerError(answer.failure.message)


def children(settings: Settings) -> tuple[Tally, dict[str, float]]:
    """Processes that do not keep to the protocol; seconds that each held the parent."""
    tally, held = Tally(Counter(), []), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(settings.children):
            name = list(_BEHAVIOURS)[number % len(_BEHAVIOURS)]
            program = Path(folder) / f"child-{number}"
            text = {"python": sys.executable, "protocol": PROTOCOL, "behaviour": _BEHAVIOURS[name]}
            program.write_text(_CHILD.format(**text))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            started = [time.monotonic()]
            tally.take(partial(_use, str(program), started))
            held[name] = max(held.get(name, 0), time.monotonic() - started[0])
    return tally, held


def _use(program: str, started: list[float]) -> None:
    if "hello()" in Path(program).read_text().split("def hello")[1].split("\n", 2)[2]:
        worker = Worker(program, env={}, deadline_s=20)  # Python itself takes a while
        started[0] = time.monotonic()
        kwargs = {"array": np.zeros(1 << 20)}  # more than the connection holds
        arguments = {"env_id": "x", "kwargs": kwargs}
        worker.call("make", deadline_s=DEADLINE_S, check=read_made, **arguments)
    else:
        WorkerEnv("x", python=program, deadline_s=DEADLINE_S)


def _told(name: str, tally: Tally) -> Tally:
    total = sum(tally.outcomes.values()) + len(tally.raw)
    told = ", ".join(f"{count:,} {kind}" for kind, count in tally.outcomes.most_common())
    row = f"| {name} | {total:,} | {len(tally.raw)} | {tally.slowest_s:.2f} s | {told} |"
    print(row, flush=True)
    return tally


def _largest_mib() -> float:
    """Largest memory of this process; `getrusage` would count that of who started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main(settings: Settings) -> int:
    """Prints Markdown; 1 if anything was raw, late, large or run."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a puppet's process is this one
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        print("| what | messages | raw errors | slowest | outcomes |\n|---|---|---|---|---|")
        tallies = [
            _told("bytes", answers(settings, lambda r, _: hostile_frame(r), settings.frames)),
            _told("wrong content", answers(settings, hostile_answer, settings.answers)),
        ]
        own_mib = _largest_mib()
        tallies.append(_told("requests to a worker", requests(settings)))
        tally, held = children(settings)
        tallies.append(_told("processes", tally))
        left = os.listdir(folder)
    late = {name: seconds for name, seconds in held.items() if seconds > DEADLINE_S + 2}
    print(f"\nfiles that code of a message made: {len(left)}; largest memory: {own_mib:.0f} MiB")
    longest = max(held.values(), default=0)
    print(f"calls of {DEADLINE_S:g} s held the parent for at most {longest:.2f} s")
    raw = [each for tally in tallies for each in tally.raw]
    print("\n".join(raw[:20]), *late.items(), sep="\n")
    return int(bool(raw or late or left or own_mib > 400))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
