"""The journal: lines that survive kills, damage and company."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vp_agent.evaluation.journal import Journal, JournalError, read_journal, settled
from vp_agent.evaluation.record import EpisodeRecord, Flight, Identity, record_of, written

IDENTITY = Identity(agent="abc", suite="toys", sampler={"steps": 3})
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# Takes the lock of a claim, says so, and waits to be killed.
_CLAIMER = """
import sys, time
from pathlib import Path
from vp_agent.evaluation.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.schedule([("Reach", 7)], anew=True)
print(journal.claim(("Reach", 7)), flush=True)
time.sleep(60)
"""
# Many writers at once, each with its own lines.
_WRITER = """
import sys
from pathlib import Path
from vp_agent.evaluation.journal import Journal
from vp_agent.evaluation.record import Flight, Identity
with Journal(Path(sys.argv[1]), identity=Identity(agent="abc", suite="toys")) as journal:
    for number in range(50):
        about = {"env": "x", "episode": number, "seed": number, "instruction": "x" * 500}
        journal.append(Flight(task=sys.argv[2], success=None, **about))
"""


def line(episode: int, success: bool | None = True, **more: Any) -> Flight:
    outcome = {"steps": 9, "plans": 3, "seconds_per_plan": 0.5, "wall_s": 2.0}
    values: dict[str, Any] = {"env": "Reach-v0", **({} if success is None else outcome), **more}
    return Flight(task="Reach", episode=episode, seed=episode, success=success, **values)


def record(flight: Flight) -> EpisodeRecord:
    return record_of(flight, IDENTITY)


def test_it_gives_back_its_lines_with_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
    assert read_journal(path) == [record(line(1))]
    assert read_journal(path)[0].identity == IDENTITY


def test_a_line_cut_short_by_a_kill_is_dropped_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
        journal.append(line(2))
    path.write_bytes(path.read_bytes()[:-9])
    with Journal(path, identity=IDENTITY) as journal:
        assert [record.episode for record in journal.records] == [1]
        journal.append(line(3))
    assert [record.episode for record in read_journal(path)] == [1, 3]


def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = written(record(line(1)))
    path.write_bytes(whole + b'{"episode": \n' + whole)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        read_journal(path)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal(path, identity=IDENTITY)


def test_a_journal_of_another_agent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as journal:
        journal.append(line(1))
    with pytest.raises(JournalError, match=r"agent = 'abc'.*agent = 'xyz'"):
        Journal(path, identity=replace(IDENTITY, agent="xyz"))
    assert len(read_journal(path)) == 1


def test_an_outcome_settles_an_episode_and_an_error_does_not() -> None:
    flights = [line(2), line(1, None), line(1, False), line(0, None), line(0, None, error="late")]
    kept = [line(0, None, error="late"), line(1, False), line(2)]
    assert settled(map(record, flights)) == list(map(record, kept))


def test_a_line_of_schema_1_reads_as_an_episode_of_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    (old,) = (BENCHMARKS / "lift/journal.jsonl").read_text().splitlines()[:1]
    path.write_text(old + "\n")
    (read,) = read_journal(path)
    assert (read.schema, read.task, read.episode) == (1, "Robosuite-Lift-v0", read.seed)
    assert (read.suite, read.error) == ("env:Robosuite-Lift-v0", None)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("journal*.jsonl")), ids=lambda p: p.stem)
def test_journals_of_earlier_versions_are_read(path: Path) -> None:
    records = read_journal(path)
    assert len(records) == path.read_text().count("\n")
    assert {each.schema for each in records} <= {1, 2}


def test_a_claim_keeps_others_away_until_its_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    other = subprocess.Popen([sys.executable, "-c", _CLAIMER, path], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"True\n"
    with Journal(path) as journal:
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
    def flown(episode: int, success: bool | None = True, gl: str = "egl") -> Flight:
        return line(episode, success, simulator={"toys": "1"}, gl=gl)

    with Journal(tmp_path / "journal.jsonl", identity=IDENTITY) as journal:
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
    keys = {(record.task, record.episode) for record in read_journal(path)}
    assert keys == {(task, number) for task in "abc" for number in range(50)}
    assert len(read_journal(path)) == 150


def test_lines_of_another_process_are_read_on_refresh(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, identity=IDENTITY) as one, Journal(path, identity=IDENTITY) as two:
        one.append(line(1))
        assert [record.episode for record in two.refresh()] == [1]
        two.append(line(2))
        assert [record.episode for record in one.refresh()] == [1, 2]
        assert one.outcomes([("Reach", 2), ("Reach", 3)]) == [record(line(2))]
