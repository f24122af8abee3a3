"""The journal: lines that survive kills, damage and company."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vp_agent.evaluation.journal import Journal, JournalError, read_journal, settled

IDENTITY = {"schema": 2, "agent": "abc", "suite": "toys", "sampler": {"steps": 3}}
# Takes the lock of a claim, says so, and waits to be killed.
_CLAIMER = """
import sys, time
from pathlib import Path
from vp_agent.evaluation.journal import Journal
journal = Journal(Path(sys.argv[1]), identity={})
journal.schedule([("Reach", 7)], anew=True)
print(journal.claim(("Reach", 7)), flush=True)
time.sleep(60)
"""
# Many writers at once, each with its own lines.
_WRITER = """
import sys
from pathlib import Path
from vp_agent.evaluation.journal import Journal
with Journal(Path(sys.argv[1]), identity={"agent": "abc"}) as journal:
    for number in range(50):
        journal.append({"task": sys.argv[2], "episode": number, "success": True, "fill": "x" * 500})
"""


def line(episode: int, success: bool | None = True, **more: Any) -> dict[str, Any]:
    return {"task": "Reach", "episode": episode, "success": success, **more}


def test_it_gives_back_its_lines_with_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
    assert read_journal(path) == [{**IDENTITY, **line(1)}]


def test_a_line_cut_short_by_a_kill_is_dropped_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
        journal.append(line(2))
    path.write_bytes(path.read_bytes()[:-9])
    with Journal(path, identity=IDENTITY) as journal:
        assert [record["episode"] for record in journal.records] == [1]
        journal.append(line(3))
    assert [record["episode"] for record in read_journal(path)] == [1, 3]


def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = json.dumps({**IDENTITY, **line(1)})
    path.write_text(f'{whole}\n{{"episode": \n{whole}\n')
    with pytest.raises(JournalError, match="line 2 is damaged"):
        read_journal(path)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal(path, identity=IDENTITY)


def test_a_journal_of_another_agent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
    with pytest.raises(JournalError, match=r"agent = 'abc'.*agent = 'xyz'"):
        Journal(path, identity={**IDENTITY, "agent": "xyz"})
    assert len(read_journal(path)) == 1


def test_an_outcome_settles_an_episode_and_an_error_does_not() -> None:
    lines = [line(2), line(1, None), line(1, False), line(0, None), line(0, None, error="late")]
    assert settled(lines) == [line(0, None, error="late"), line(1, False), line(2)]


def test_a_line_of_schema_1_reads_as_an_episode_of_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"env": "Robosuite-Lift-v0", "seed": 200, "success": true}\n')
    (record,) = read_journal(path)
    assert (record["task"], record["episode"], record["error"]) == ("Robosuite-Lift-v0", 200, None)
    assert record["suite"] == "env:Robosuite-Lift-v0"


def test_a_claim_keeps_others_away_until_its_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    other = subprocess.Popen([sys.executable, "-c", _CLAIMER, path], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"True\n"
    with Journal(path, identity={}) as journal:
        assert not journal.claim(("Reach", 7))
        assert journal.claim(("Reach", 8))
        with pytest.raises(JournalError, match=r"another evaluator is at work .*--resume"):
            journal.schedule([("Reach", 9)], anew=True)
        assert journal.schedule([("Reach", 9)]) == {("Reach", 7), ("Reach", 9)}
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert journal.claim(("Reach", 7))
        assert journal.schedule([("Reach", 9)], anew=True) == {("Reach", 9)}


def test_what_another_simulator_flew_is_not_added(tmp_path: Path) -> None:
    def flown(episode: int, success: bool | None = True, gl: str = "egl") -> dict[str, Any]:
        return line(episode, success, env="Reach-v0", simulator={"toys": "1"}, gl=gl, standin=False)

    with Journal(tmp_path / "journal.jsonl", identity={}) as journal:
        journal.append(flown(1))
        journal.append(flown(2, None, gl="osmesa"))  # an error: its simulator did not start
        with pytest.raises(JournalError, match=r"Reach-v0 was flown with .*osmesa.*egl"):
            journal.append(flown(2, gl="osmesa"))
        journal.append(flown(2))
    assert len(read_journal(tmp_path / "journal.jsonl")) == 3


def test_writers_side_by_side_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, task]) for task in ("a", "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    keys = {(record["task"], record["episode"]) for record in read_journal(path)}
    assert keys == {(task, number) for task in "abc" for number in range(50)}
    assert len(read_journal(path)) == 150


def test_lines_of_another_process_are_read_on_refresh(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as one, Journal(path, identity=IDENTITY) as two:
        one.append(line(1))
        assert [record["episode"] for record in two.refresh()] == [1]
        two.append(line(2))
        assert [record["episode"] for record in one.refresh()] == [1, 2]
        assert one.outcomes([("Reach", 2), ("Reach", 3)]) == [{**IDENTITY, **line(2)}]
