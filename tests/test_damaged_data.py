"""Damage that a dataset's own reader hides or words badly: found, named, with a way out."""

import shutil
from pathlib import Path

import pytest
from foreign_data import write_dataset
from small import SMALL, small_model
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import DatasetError
from vp_agent.train import decoding
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.latent_cache import LatentCache


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
