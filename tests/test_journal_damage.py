"""Damaged, changed and foreign lines of a journal: every verb names them, and believes none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journals import evaluation, flown, line, outcomes, sealed

from vp_agent.cli import main
from vp_agent.evaluation.journal import Journal, JournalError, read_journal
from vp_agent.evaluation.reading import read_evaluation, unsealed
from vp_agent.evaluation.record import EpisodeRecord, written
from vp_agent.typed import fit

DEEP = "[" * 100_000 + "]" * 100_000
VERBS: dict[str, Callable[[str, str], list[str]]] = {
    "report": lambda folder, other: ["report", folder],
    "compare": lambda folder, other: ["compare", other, folder],
    "merge": lambda folder, other: ["merge", other, folder, "--out", f"{other}-merged"],
    "audit": lambda folder, other: ["audit", folder],
    "eval": lambda folder, other: [
        *("eval", "--agent", "hold-still", "--env", "pilots:Reach-v0", "--episodes", "1"),
        *("--workers", "0", "--out", folder, "--resume"),
    ],
}


def changed(values: dict[str, Any], **changes: Any) -> str:
    """A line changed after it had been written."""
    text = sealed(values)
    seal = text[text.rindex(', "sha256"') :]
    return json.dumps({**values, **changes})[:-1] + seal


DAMAGE = {
    "a changed success": changed(line(episode=1, success=False), success=True),
    "no checksum": json.dumps(line(episode=1)) + "\n",
    "another checksum": sealed(line(episode=1)).replace('"sha256": "', '"sha256": "0'),
    "a success in words": sealed(line(episode=1, success="yes")),
    "a success as a number": sealed(line(episode=1, success=1)),
    "steps in words": sealed(line(episode=1, steps="40")),
    "steps that are true": sealed(line(episode=1, steps=True)),
    "negative steps": sealed(line(episode=1, steps=-1)),
    "an episode with a half": sealed({**line(), "episode": 1.5}),
    "a list for a task": sealed({**line(), "task": ["OpenDrawer"]}),
    "endless seconds": sealed(line(episode=1, wall_s=1e999)),
    "seconds that are no number": sealed(line(episode=1, seconds_per_plan=float("nan"))),
    "plans in words": sealed(line(episode=1, plan_s=["0.5"])),
    "a simulator in a list": sealed(line(episode=1, simulator=["robocasa"])),
    "an unknown field": sealed(line(episode=1, bonus=1)),
    "a film elsewhere": sealed(line(episode=1, video="../../etc/passwd")),
    "a film by its root": sealed(line(episode=1, video="/etc/passwd")),
    "an outcome and an error": sealed(line(episode=1, error="WorkerDied")),
    "an outcome without steps": sealed(line(episode=1, steps=None)),
    "another schema": sealed(line(episode=1, schema=4)),
    "a schema in words": sealed(line(episode=1, schema="3")),
    "a schema of a list": sealed(line(episode=1, schema=[3])),
    "an old schema after a new one": sealed(line(episode=1, schema=2)),
    "a line of a metrics file": '{"step": 20, "loss": 0.5}\n',
    "deep": f'{{"schema": 3, "scene": {DEEP}}}\n',
    "deep in a record": sealed(line(episode=1, scene=json.loads("[" * 40 + "]" * 40))),
    "a name twice": sealed(line(episode=1))[:-2] + ', "success": true}\n',
    "a list": "[1, 2]\n",
    "no JSON": '{"episode": \n',
    "bytes": "\x00\x01\n",
    "an empty line": "\n",
    "a long number": f'{{"schema": {"9" * 6000}}}\n',
}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An evaluation whose second line will be damaged, and a sound one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    lines = outcomes("OpenDrawer", "++-")
    return tuple(evaluation(tmp_path / name, lines) for name in ("a", "b"))  # type: ignore


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
def test_a_damaged_line_is_named_and_not_believed(
    folders: tuple[Path, Path], damage: str, last: bool
) -> None:
    journal = folders[0] / "journal.jsonl"
    first, _, third = journal.read_text().splitlines(keepends=True)
    journal.write_text(first + damage + ("" if last else third))
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2 "):
        read_evaluation(folders[0])
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2 "):
        Journal(journal)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "damage", ["a changed success", "deep", "steps in words", "a film elsewhere"]
)
def test_every_verb_names_the_file_and_the_line(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], verb: str, damage: str
) -> None:
    journal = folders[0] / "journal.jsonl"
    first, _, third = journal.read_text().splitlines(keepends=True)
    journal.write_text(first + DAMAGE[damage] + third)
    assert main(VERBS[verb](*map(str, folders))) == 2
    said = capsys.readouterr().err
    assert f"{journal}, line 2 " in said
    assert "Traceback" not in said


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    (record,) = flown("OpenDrawer", "+")
    whole = written(record)
    path = tmp_path / "journal.jsonl"
    for place in range(len(whole) - 1):
        other = bytearray(whole)
        other[place] ^= 1
        path.write_bytes(bytes(other))
        with pytest.raises(JournalError, match="line 1 "):
            read_journal(path)


def test_a_line_without_an_end_was_cut_short_and_is_left_out(tmp_path: Path) -> None:
    records, path = flown("OpenDrawer", "+-"), tmp_path / "journal.jsonl"
    whole = [written(record) for record in records]
    for length in range(len(whole[1])):
        path.write_bytes(whole[0] + whole[1][:length])
        assert read_journal(path) == records[:1]
    path.write_bytes(b"".join(whole).replace(b"\n", b"\r\n"))  # by way of another system
    assert read_journal(path) == records


def test_a_journal_of_schema_2_goes_on_in_schema_3(tmp_path: Path) -> None:
    path, (new, later) = tmp_path / "journal.jsonl", flown("OpenDrawer", "++")
    path.write_bytes(written(replace(new, schema=2)))
    with Journal(path, identity=new.identity) as journal:
        journal.copy(later)
    assert [record.schema for record in read_journal(path)] == [2, 3]
    assert unsealed(read_journal(path)).startswith("lines of journal schema 2 have no checksum")
    assert b'sha256": "' not in path.read_bytes().splitlines()[0].replace(b"video_sha256", b"")


def test_compare_says_once_that_old_lines_have_no_checksum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = evaluation(tmp_path / "old", outcomes("OpenDrawer", "++-", schema=2))
    new = evaluation(tmp_path / "new", outcomes("OpenDrawer", "++-"))
    assert main(["compare", str(old), str(new)]) == 0
    assert capsys.readouterr().out.count("have no checksum") == 1
    assert main(["compare", str(new), str(new)]) == 0
    assert "checksum" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "results",
    ['{"seeds": 3}', '{"scheduled": "5"}', '{"settings": []}', '{"versions": {"a": 1}}', DEEP],
    ids=lambda text: text[:20],
)
def test_a_damaged_results_file_is_named(folders: tuple[Path, Path], results: str) -> None:
    (folders[0] / "results.json").write_text(results)
    with pytest.raises(ValueError, match=r"results\.json (is damaged|holds no).*remove it"):
        read_evaluation(folders[0])


@pytest.mark.parametrize("schedule", ['{"a": 3}', '{"a": ["1"]}', '{"a": [true]}', DEEP, "[]"])
def test_a_damaged_schedule_is_named(folders: tuple[Path, Path], schedule: str) -> None:
    (folders[0] / "schedule.json").write_text(schedule)
    with pytest.raises(JournalError, match=r"schedule\.json (is damaged|holds no).*remove it"):
        read_evaluation(folders[0])


def test_odd_words_of_a_sound_journal_are_shown(tmp_path: Path) -> None:
    name = r"$\frac{ & <b>"  # neither mathematics nor HTML
    lines = [line(task=name, sampler={"x": [1]}), line(task="b", sampler={"x": [1]})]
    folder = evaluation(tmp_path, lines)
    (folder / "results.json").write_text('{"execute": 3, "sampler": "none", "agent": 7}')
    assert main(["report", str(folder)]) == 0
    assert json.loads((folder / "results.json").read_text())["agent"] == "c175780271633a8b"


def test_a_record_is_what_it_was(tmp_path: Path) -> None:
    record = fit(EpisodeRecord, line(scene=[1, [2, None]], sampler={"sigma": 1e-300}))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(written(record))
    assert read_journal(path) == [record]
