"""Damage that a dataset's own reader hides or words badly: found, named, with a way out."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from foreign_data import write_dataset
from small import SMALL, small_model
from toy_data import write_toy_dataset
from trainers import toy_settings

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import DatasetError
from vp_agent.train import decoding
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.latent_cache import LatentCache
from vp_agent.train.trainer import train


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("damaged") / "data")


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


@pytest.fixture
def filmed(tmp_path) -> Path:
    return write_toy_dataset(tmp_path / "filmed", episodes=3)


def hit_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)


def test_a_video_damaged_in_the_middle_is_refused_before_it_is_encoded(filmed):
    path = sorted(filmed.rglob("*.mp4"))[0]
    hit_the_middle(path)
    data = Demonstrations(filmed, SMALL)  # its last frame is whole
    with pytest.raises(DatasetError, match=r"\.mp4 is damaged: frame \d+ cannot be decoded"):
        LatentCache(small_model(), data)
    assert not list(filmed.glob("vp_cache/*/moments.npy"))


def test_videos_are_looked_at_once(filmed, monkeypatch):
    decoded, decode = [], decoding.strict_frames
    monkeypatch.setattr(decoding, "strict_frames", lambda x: decoded.append(x) or decode(x))
    data = Demonstrations(filmed, SMALL)
    for rank in (0, 1):
        decoding.check_decoding(data, rank=rank, world=2)
    assert sorted(decoded) == sorted(filmed.rglob("*.mp4"))
    decoding.check_decoding(data)
    assert len(decoded) == 2
    hit_the_middle(decoded[0])
    with pytest.raises(DatasetError, match="is damaged"):
        decoding.check_decoding(data)


def mixed_widths(root: Path) -> None:
    import pandas as pd

    (path,) = root.rglob("data/*/*.parquet")
    table = pd.read_parquet(path)
    table["action"] = [a[:6] if row == 3 else a for row, a in enumerate(table["action"])]
    table.to_parquet(path)


def narrow_rows(root: Path) -> None:
    import pandas as pd

    (path,) = root.rglob("data/*/*.parquet")
    table = pd.read_parquet(path)
    table["action"] = [action[:6] for action in table["action"]]
    table.to_parquet(path)


def lost(name: str):
    return lambda root: (root / name).unlink()


def cut(name: str):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:40])


def scribbled(name: str):
    return lambda root: (root / name).write_text("{")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (mixed_widths, r"file-000\.parquet: action has rows of \[6, 7\] numbers"),
        (narrow_rows, r"file-000\.parquet: action has rows of 6 numbers, .*info\.json says 7"),
        (lost("meta/tasks.parquet"), r"meta/tasks\.parquet: is missing"),
        (cut("meta/tasks.parquet"), r"meta/tasks\.parquet: cannot be read"),
        (cut("meta/stats.json"), r"meta/stats\.json: cannot be read"),
        (scribbled("meta/vp_agent.json"), r"meta/vp_agent\.json: cannot be read"),
        (scribbled("meta/modality.json"), r"meta/modality\.json: cannot be read"),
    ],
)
def test_the_damaged_file_is_named_with_what_to_do(root, damage, words):
    damage(root)
    with pytest.raises(DatasetError, match=rf"{words}.*copy the dataset again"):
        Demonstrations(root, SMALL)


@pytest.fixture
def recorded(tmp_path) -> Path:
    return write_dataset(tmp_path / "recorded", video=True, size=64)


def one(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


@pytest.mark.parametrize(
    ("pattern", "keep"), [("*.mp4", 0.6), ("*.mp4", 0.0), ("data/*/*.parquet", 0.7)]
)
def test_a_file_that_was_cut_short_is_named_before_training(recorded, tmp_path, pattern, keep):
    path = one(recorded, pattern)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    settings = toy_settings(tmp_path, small_model(), stage="joint")
    settings = replace(settings, data=recorded, out=tmp_path / "run", cache=False)
    with pytest.raises(DatasetError, match=f"{path.name}.*copy the dataset again") as refused:
        train(settings)
    assert str(path) in str(refused.value)
    assert not settings.out.exists()


@pytest.mark.parametrize("pattern", ["*.mp4", "data/*/*.parquet", "meta/episodes/*/*.parquet"])
def test_a_file_that_is_missing_is_named(recorded, pattern):
    path = one(recorded, pattern)
    path.unlink()
    with pytest.raises(DatasetError, match="copy the dataset again") as refused:
        Demonstrations(recorded, SMALL)
    assert path.name in str(refused.value) or "meta/episodes" in str(refused.value)


def test_a_damaged_page_of_a_parquet_file_is_refused(recorded):
    path = one(recorded, "data/*/*.parquet")
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)  # the first pages; the footer stays whole
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="recorded"):
        Demonstrations(recorded, SMALL)


def test_a_frame_that_cannot_be_decoded_names_its_file(recorded):
    data = Demonstrations(recorded, SMALL)
    for path in recorded.rglob("*.mp4"):
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DatasetError, match=r"frame 5 \(episode 0, in videos/.*\.mp4.*decoded"):
        data.pixels(np.array([5]))
