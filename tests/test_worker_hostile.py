"""A hostile worker, or a hostile parent: a typed error in time, and no code is run."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from test_worker import TESTS

from vp_agent.envs.worker_messages import (
    PROTOCOL,
    PolicyFacts,
    check_action,
    check_started,
    check_stepped,
    read,
    read_made,
)
from vp_agent.envs.worker_process import Worker
from vp_agent.envs.worker_spaces import space_to_message
from vp_agent.errors import SimulatorError, UnknownNameError, WorkerError, WorkerTimeout

FUZZ = Path(__file__).parents[1] / "benchmarks/worker_fuzz.py"
DEADLINE_S = 0.5
SPACE = gym.spaces.Dict(
    {
        "agent_pos": gym.spaces.Box(-1, 1, (3,), np.float32),
        "task": gym.spaces.Text(60),
    }
)
OBSERVATION = {"agent_pos": np.zeros(3, np.float32), "task": "wait"}
_CHILD = """#!{python} -S
import os, socket, struct, sys, time
link = socket.socket(fileno=int(sys.argv[-1]))
def send(text):
    link.sendall(struct.pack("<4sIQ", b"vpaw", len(text), 0) + text.encode())
send('{{"protocol": {protocol}, "versions": {{}}}}')
{behaviour}
"""


@pytest.fixture
def child(tmp_path):
    """Makes a worker that does what a line of Python says, instead of what it should."""
    made = []

    def make(behaviour: str) -> Worker:
        program = tmp_path / "program"
        text = _CHILD.format(python=sys.executable, protocol=PROTOCOL, behaviour=behaviour)
        program.write_text(text)
        program.chmod(0o755)
        made.append(Worker(str(program), env={}, deadline_s=30))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()


def ask(worker: Worker, deadline_s: float = 30, **arguments: Any) -> Any:
    return worker.call("render", deadline_s=deadline_s, check=lambda drawn: drawn, **arguments)


def error_of(module: str, name: str, message: str) -> str:
    error = {"classes": [[module, name]], "message": message, "traceback": "somewhere"}
    answer = json.dumps({"warnings": [], "result": None, "error": error})
    return f"send({answer!r}); time.sleep(60)"


@pytest.mark.parametrize("name", ["exec", "eval", "SystemExit", "KeyboardInterrupt", "WorkerDied"])
def test_a_class_that_is_no_exception_of_the_list_is_only_a_name(child, tmp_path, name):
    module = "vp_agent.errors" if name == "WorkerDied" else "builtins"
    worker = child(error_of(module, name, f"open({str(tmp_path / 'ran')!r}, 'w')"))
    with pytest.raises(SimulatorError, match=f"^{name}: open") as caught:
        ask(worker)
    assert type(caught.value) is SimulatorError
    assert not (tmp_path / "ran").exists()
    assert worker.alive


def test_what_a_terminal_would_obey_is_only_shown(child):
    with pytest.raises(ValueError, match=r"^\\x1b\[2J gone$"):
        ask(child(error_of("builtins", "ValueError", "\x1b[2J gone")))


@pytest.mark.parametrize(
    "behaviour",
    [
        "while True: send('null')",
        "while True: time.sleep(0.01); send('null')",
        "link.sendall(struct.pack('<4sIQ', b'vpaw', 1 << 20, 0))\n"
        "while True: link.sendall(b' '); time.sleep(0.0002)",
    ],
    ids=["heartbeats without a pause", "heartbeats", "a message byte by byte"],
)
def test_who_always_sends_something_holds_nobody_past_the_deadline(child, behaviour):
    worker, start = child(behaviour), time.monotonic()
    with pytest.raises(WorkerTimeout, match=r"took longer than deadline_s=0.5"):
        ask(worker, DEADLINE_S)
    assert time.monotonic() - start < DEADLINE_S + 2
    assert not worker.alive


def test_who_closes_the_connection_and_lives_on_holds_nobody_past_the_deadline(child):
    worker, start = child("link.close(); time.sleep(60)"), time.monotonic()
    with pytest.raises(WorkerError, match="closed its connection during render"):
        ask(worker, DEADLINE_S)
    assert time.monotonic() - start < DEADLINE_S + 2


def test_a_line_without_an_end_fills_no_memory(child):
    worker = child("[os.write(1, b'x' * 65536) for _ in range(200)]; os._exit(3)")
    with pytest.raises(WorkerError, match=r"(?s)exited with code 3.*xxx") as caught:
        ask(worker)
    assert len(str(caught.value)) < 30_000


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 3000 + "]" * 3000,
        '{"":"tuple","items":' * 3000 + "[]" + "}" * 3000,
        '{"result": 1}',
        '{"warnings": [1], "result": null, "error": null}',
        '{"warnings": [], "result": null, "error": {"classes": 3, "message": 1}}',
        '{"warnings": [], "result": "\\ud800", "error": null}',
        "3",
    ],
    ids=["deep", "deep in tuples", "parts", "warnings", "error", "half a character", "number"],
)
def test_an_answer_of_another_form_ends_the_worker(child, answer):
    worker = child(f"send({answer!r}); time.sleep(60)")
    with pytest.raises(WorkerError, match="not a message of a worker"):
        ask(worker)
    assert not worker.alive


BOX = {"space": "Box", "low": np.float32(0), "high": np.float32(1), "dtype": "<f4"}
MADE = {
    "action_space": {**BOX, "shape": [7]},
    "observation_space": space_to_message(SPACE),
    "attributes": {"horizon": 6, "metadata": {}},
}


def made(**space: Any) -> dict[str, Any]:
    return {**MADE, "action_space": {**BOX, "shape": [7], **space}}


@pytest.mark.parametrize(
    "message",
    [
        made(shape=[100_000, 100_000]),  # 40 GB
        made(shape=[1 << 25]),
        made(shape=[-1]),
        made(shape=[2.0]),
        made(dtype="|O"),
        made(dtype="f4,f4"),
        made(low=np.float32(2)),
        made(low="0"),
        made(low=np.zeros(3, np.float32)),
        made(space="Discrete"),
        {**MADE, "observation_space": {"space": "Dict", "parts": [["a", BOX], ["a", BOX]]}},
        {**MADE, "observation_space": {"space": "Dict", "parts": 3}},
        {
            **MADE,
            "observation_space": {"space": "Dict", "parts": [["a", made(shape=[4096, 4096])]]},
        },
        {**MADE, "attributes": {"worker": 1}},
        {**MADE, "attributes": {"__class__": 1}},
        {**MADE, "attributes": {"horizon": float("nan")}},
        {**MADE, "attributes": {"metadata": 3}},
        {**MADE, "python": "/bin/sh"},
        [],
    ],
    ids=str,
)
def test_an_environment_of_another_form_is_refused(message):
    read_made(MADE)
    with pytest.raises(WorkerError):
        read_made(message)


GOOD = (OBSERVATION, 0.5, False, np.bool_(True), {"is_success": False, "chunk_steps": 2})


def step_with(place: int, value: Any) -> tuple[Any, ...]:
    return (*GOOD[:place], value, *GOOD[place + 1 :])


@pytest.mark.parametrize(
    "stepped",
    [
        None,
        GOOD[:4],
        list(GOOD),
        step_with(0, {**OBSERVATION, "agent_pos": np.zeros(4, np.float32)}),
        step_with(0, {**OBSERVATION, "agent_pos": np.zeros(3, np.complex64)}),
        step_with(0, {**OBSERVATION, "agent_pos": [0.0, 0.0, 0.0]}),
        step_with(0, {**OBSERVATION, "task": 3}),
        step_with(0, {"task": "wait"}),
        step_with(0, {**OBSERVATION, "more": 1}),
        step_with(1, "0.5"),
        step_with(1, np.zeros(2)),
        step_with(1, 1 + 2j),
        step_with(2, "False"),
        step_with(3, None),
        step_with(4, []),
        step_with(4, {"is_success": "no", "chunk_steps": 2}),
        step_with(4, {"chunk_steps": 0}),
        step_with(4, {"chunk_steps": 4}),
        step_with(4, {}),
    ],
    ids=str,
)
def test_a_step_of_another_form_is_refused(stepped):
    assert check_stepped(SPACE, GOOD, at_most=3) is GOOD
    with pytest.raises(WorkerError):
        check_stepped(SPACE, stepped, at_most=3)


def test_a_start_and_an_action_of_another_form_are_refused():
    start = (OBSERVATION, {}, {"instruction": "wait"})
    assert check_started(SPACE, start) is start
    for other in (start[:2], (OBSERVATION, {}, {"reset": 1}), (OBSERVATION, None, {}), (3, {}, {})):
        with pytest.raises(WorkerError):
            check_started(SPACE, other)
    check_action(7, np.zeros(7))
    for other in (np.zeros(6), np.zeros((1, 7)), np.zeros(7, complex), [0.0] * 7, None):
        with pytest.raises(WorkerError):
            check_action(7, other)


def test_a_policy_names_no_interpreter():
    facts = {"action_dim": 7, "device": "cpu", "gpu": "none", "torch": None, "facts": {}}
    read(PolicyFacts, {**facts, "env_kwargs": {"views": ["left"]}})
    for changes in ({"env_kwargs": {"python": "/bin/sh"}}, {"action_dim": True}, {"facts": 1}):
        with pytest.raises(WorkerError):
            read(PolicyFacts, {**facts, "env_kwargs": {}, **changes})


def test_a_worker_answers_hostile_requests_and_goes_on():
    worker = Worker("self", env=TESTS, deadline_s=60)
    for name in ("__init__", "_attributes", "env", "nothing"):
        with pytest.raises(WorkerError, match=f"call cannot be '{name}'"):
            worker.call(name, deadline_s=30, check=lambda given: given)
    for deadline_s in (0, -1.0, float("nan"), float("inf"), 1e9):
        request = {"call": "render", "deadline_s": deadline_s, "arguments": {}}
        worker._link.send(request)
        answer = worker._receive(time.monotonic() + 30, 30, "render")
        assert "deadline_s cannot be" in answer["error"]["message"]
    with pytest.raises(TypeError, match="unexpected keyword"):
        ask(worker, more=1)
    with pytest.raises(UnknownNameError, match="no kind of policy"):
        worker.call("load_policy", deadline_s=30, check=print, kind="/../os", path="x")
    env_id = "worker_envs:Noise-v0"
    assert worker.call("make", deadline_s=30, check=read_made, env_id=env_id, kwargs={})
    worker.close()


def fuzz(*flags: str) -> None:
    done = subprocess.run([sys.executable, str(FUZZ), *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hostile_messages_are_typed_errors():
    fuzz("--frames", "400", "--answers", "800", "--requests", "0", "--children", "0")


@pytest.mark.slow
def test_hostile_processes_are_typed_errors_in_time():
    fuzz("--frames", "2000", "--answers", "8000", "--requests", "30", "--children", "12")
