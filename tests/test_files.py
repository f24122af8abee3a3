"""Files and folders that appear whole: through links, under any umask, by many writers."""

import json
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from vp_agent.evaluation.film import Film
from vp_agent.files import atomic_dir, write_json, write_text


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def _modes(root: Path) -> set[int]:
    return {stat.S_IMODE(x.stat().st_mode) for x in root.rglob("*") if x.is_file()}


def _fill(target: Path, text: str = "x") -> None:
    with atomic_dir(target, replaces="one.txt") as tmp:
        (tmp / "deep").mkdir()
        (tmp / "one.txt").write_text(text)


def test_a_link_to_a_file_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results.json").symlink_to(tmp_path / "disk/results.json")  # to nothing yet
    for value in (1, 2):
        write_json(tmp_path / "results.json", value)
        assert (tmp_path / "results.json").is_symlink()
        assert json.loads((tmp_path / "disk/results.json").read_text()) == value
    assert [x.name for x in (tmp_path / "disk").iterdir()] == ["results.json"]


def test_a_link_to_a_folder_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "agent").symlink_to("disk/agent")  # relative, to nothing yet
    for text in ("1", "2"):
        _fill(tmp_path / "agent", text)
        assert (tmp_path / "agent").is_symlink()
        assert (tmp_path / "disk/agent/one.txt").read_text() == text
    assert [x.name for x in (tmp_path / "disk").iterdir()] == ["agent"]


def test_an_agent_is_saved_through_a_link(agent, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    agent.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/manifest.json").is_file()


def test_modes_follow_the_umask(umask, agent, tmp_path):
    agent.save_pretrained(tmp_path / "agent")
    write_json(tmp_path / "numbers.json", 1)
    assert _modes(tmp_path) == {0o640}
    folders = [tmp_path / "agent", *(x for x in (tmp_path / "agent").iterdir() if x.is_dir())]
    assert {stat.S_IMODE(x.stat().st_mode) for x in folders} == {0o750}


def test_what_is_replaced_keeps_its_mode(umask, tmp_path):
    write_text(tmp_path / "page.html", "old")
    (tmp_path / "page.html").chmod(0o664)
    write_text(tmp_path / "page.html", "new")
    _fill(tmp_path / "agent")
    (tmp_path / "agent").chmod(0o2775)
    _fill(tmp_path / "agent")
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o664
    assert stat.S_IMODE((tmp_path / "agent").stat().st_mode) == 0o2775


def test_a_device_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "hello")
    reader.join(5)
    assert got == ["hello"]
    assert (tmp_path / "pipe").is_fifo()


def test_many_writers_of_one_folder_leave_one_whole_folder(tmp_path):
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for _ in range(20):
                _fill(tmp_path / "agent", name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [x.name for x in tmp_path.iterdir()] == ["agent"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "numbers.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "numbers.json", object())
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "numbers.json", "\ud800")
    assert json.loads((tmp_path / "numbers.json").read_text()) == 1
    assert [x.name for x in tmp_path.iterdir()] == ["numbers.json"]


def test_a_film_is_written_through_a_link(umask, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "film.mp4").symlink_to(tmp_path / "disk/film.mp4")
    with Film(tmp_path / "film.mp4", fps=10) as film:
        film.add(np.zeros((32, 32, 3), np.uint8))
    assert (tmp_path / "film.mp4").is_symlink()
    assert _modes(tmp_path / "disk") == {0o640}
