"""Content hashes: read once, remembered, and never believed of a file that changed."""

import os
from pathlib import Path

import pytest
from dataset_damage import alter_in_place

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.train import contents
from vp_agent.train.contents import MEMO, content_files, content_hashes


@pytest.fixture
def root(tmp_path) -> Path:
    for name in ("data/chunk-000/file-000.parquet", "videos/left/chunk-000/file-000.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(5000))
    return tmp_path


def test_a_file_altered_in_place_at_its_old_time_has_another_hash(root):
    before = content_hashes(root, content_files(root))
    video = root / "videos/left/chunk-000/file-000.mp4"
    alter_in_place(video)
    after = content_hashes(root, content_files(root))
    assert {name for name in before if before[name] != after[name]} == {
        "videos/left/chunk-000/file-000.mp4"
    }


def test_what_was_read_is_not_read_again(root, monkeypatch):
    before, files = content_hashes(root, content_files(root)), content_files(root)
    monkeypatch.setattr(contents, "_hash", None)
    assert content_hashes(root, files) == before
    assert content_hashes(root, files[:1]).items() < before.items()


def test_a_touched_or_copied_file_keeps_its_hash(root):
    before = content_hashes(root, content_files(root))
    for path in content_files(root):
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(0, 0))
    assert content_hashes(root, content_files(root)) == before


@pytest.mark.parametrize("memo", ["{", "[1]", '{"data/chunk-000/file-000.parquet": 3}'])
def test_a_damaged_memory_is_not_believed(root, memo):
    before = content_hashes(root, content_files(root))
    (root / MEMO).write_text(memo)
    assert content_hashes(root, content_files(root)) == before


def test_a_folder_that_may_not_be_written_is_read_every_time(root, monkeypatch):
    def refuse(*_):
        raise PermissionError("read only")

    monkeypatch.setattr(contents, "write_json", refuse)
    before = content_hashes(root, content_files(root))
    assert content_hashes(root, content_files(root)) == before
    assert not (root / MEMO).exists()
