"""Signals hit a worker at random moments: is each a typed error in time, and the next reset right?

python benchmarks/worker_crashes.py --injections 200
"""

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from vp_agent.envs.worker import WorkerEnv
from vp_agent.errors import WorkerDied, WorkerTimeout

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGSTOP)
DEADLINE_S = 10.0


@dataclass(frozen=True)
class Settings:
    """What to do."""

    injections: int = 200
    """How many signals, of five kinds by turns."""
    seed: int = 0
    """Of the moments."""


def main(settings: Settings) -> None:
    """Prints one Markdown table row for each kind of signal."""
    rng = random.Random(settings.seed)
    env = WorkerEnv(
        "worker:Still-v0",
        env={"PYTHONPATH": str(Path(__file__).parent)},
        deadline_s=DEADLINE_S,
        kwargs={"resolution": 256},
    )
    action = np.zeros(7, np.float32)
    expected = env.reset(seed=7)[0]["pixels"]["left"].tobytes()
    outcomes: dict[signal.Signals, Counter[str]] = {kind: Counter() for kind in SIGNALS}
    slowest_s, repeated, pids = 0.0, 0, []
    for injection in range(settings.injections):
        kind = SIGNALS[injection % len(SIGNALS)]
        assert env.worker is not None
        pids.append(env.worker.pid)
        threading.Timer(rng.uniform(0, 0.3), os.kill, [pids[-1], kind]).start()
        called = time.monotonic()
        try:
            for step in itertools.count():
                called = time.monotonic()
                if step % 10:
                    env.step(action)
                else:
                    env.reset(seed=step)
        except (WorkerDied, WorkerTimeout) as error:
            outcomes[kind][type(error).__name__] += 1
        slowest_s = max(slowest_s, time.monotonic() - called)
        repeated += env.reset(seed=7)[0]["pixels"]["left"].tobytes() == expected
    env.close()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for kind, counter in outcomes.items():
        print(f"| {kind.name} | {', '.join(f'{n} {name}' for name, n in counter.items())} |")
    print(
        f"slowest error {slowest_s:.1f} s after its call (deadline {DEADLINE_S:g} s); {repeated} "
        f"of {settings.injections} next resets as before; processes left: {len(left)}"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
