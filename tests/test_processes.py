"""Processes end in order on a signal; workers end when what started them is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

_PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from vp_agent.processes import die_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=die_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert _lives(worker)
    os.kill(parent.pid, 9)
    parent.wait()
    deadline = time.monotonic() + 30
    while _lives(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _lives(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_verb_in_order_with_one_line_and_its_number(number):
    verb = """
import signal, sys, time
from vp_agent import cli
# as at a terminal, whatever started the tests
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
def run(arguments):
    try:
        print("running", flush=True)
        time.sleep(60)
    finally:
        print("closed")
cli._run = run
sys.exit(cli.main())
"""
    program = subprocess.Popen(
        [sys.executable, "-c", verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    program.send_signal(number)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 128 + number
    assert out == "closed\n"
    assert len(err.splitlines()) == 1
