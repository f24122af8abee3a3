"""Start-up time: `import torch`, then the packaged agent until it can plan, and each verb's help.

    python benchmarks/startup.py [--repeats 3]

Every row is a new process. User CPU time is beside the wall time: on a machine that others use,
only CPU time is the package's own.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from typing import Any

_AGENT = """
import json, resource, time

def now():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime

marks = {"start": now()}
import torch
marks["import torch"] = now()
from vp_agent import VideoPolicyAgent
marks["from vp_agent import VideoPolicyAgent"] = now()
VideoPolicyAgent.from_pretrained("packaged:lift")
marks["from_pretrained('packaged:lift')"] = now()
names = list(marks)
print(json.dumps({
    name: [b - a for a, b in zip(marks[before], marks[name])]
    for before, name in zip(names, names[1:])
}))
"""


def agent() -> dict[str, list[float]]:
    """Wall and user seconds of each step, in one process."""
    command = [sys.executable, "-c", _AGENT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def help_of(verb: str) -> dict[str, Any]:
    """User seconds and largest memory of `vp-agent VERB --help`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    code = (
        "import resource, sys\nfrom vp_agent.cli import main\ntry: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *verb.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return {"user_s": used, "memory_mb": int(done.stderr.splitlines()[-1]) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    runs = [agent() for _ in range(repeats)]
    print("| step | wall s | user CPU s |\n|---|---|---|")
    for step in runs[0]:
        wall, user = (statistics.median(run[step][i] for run in runs) for i in (0, 1))
        print(f"| {step} | {wall:.2f} | {user:.2f} |")
    from vp_agent.verbs import DATA_VERBS, VERBS, Verb

    names = [name for name, verb in VERBS.items() if isinstance(verb, Verb)]
    names += [f"data {name}" for name in DATA_VERBS]
    print("\n| --help of | user CPU s | memory MB |\n|---|---|---|")
    for name in names:
        row = help_of(name)
        print(f"| {name} | {row['user_s']:.2f} | {row['memory_mb']:.0f} |")


if __name__ == "__main__":
    main()
