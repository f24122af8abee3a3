"""`vp-agent data stats` and `show`, and `check` where that needs no simulator."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_data import write_dataset
from PIL import Image
from toy_data import write_toy_dataset

from vp_agent.cli import main
from vp_agent.errors import ConfigError
from vp_agent.train.check import find_damage
from vp_agent.train.dataset_stats import Share, dataset_stats
from vp_agent.train.show import ShowSettings, show

pytest.importorskip("lerobot", reason="needs the extra")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy") / "square", episodes=5)


def test_stats_count_and_range_what_was_written(toy, capsys):
    stats = dataset_stats(toy)
    assert (stats.episodes, stats.frames, stats.hours) == (5, 120, 120 / 20 / 3600)
    assert stats.tasks == {"move the square": Share(episodes=5, frames=120)}
    assert stats.views == {"gripper": (64, 64), "left": (64, 64)}
    assert len(stats.ranges["action"]) == 7
    assert -1 <= stats.ranges["action"]["0"].min < -0.8
    assert main(["data", "stats", str(toy)]) == 0
    assert "5       120  move the square" in capsys.readouterr().out
    assert main(["data", "stats", str(toy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranges"]["action"]["6"]["max"] <= 1


def test_the_sheet_shows_first_middle_and_last_frame_of_every_view(toy, tmp_path, capsys):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    out = tmp_path / "sheet.png"
    command = ["data", "show", str(toy), "--out", str(out), "--episodes", "2", "--width", "64"]
    assert main(command) == 0
    sheet = np.asarray(Image.open(out))
    dataset: Any = LeRobotDataset("x", root=toy, video_backend="pyav", return_uint8=True)
    height = sheet.shape[0] // 2
    for line, first in enumerate((0, 4 * 24)):  # evenly spread: the first and the last episode
        for v, view in enumerate(("gripper", "left")):
            for i, step in enumerate((0, 12, 23)):
                left, top = 6 + v * (3 * 64 + 6) + i * 64, line * height + 38
                shown = sheet[top : top + 64, left : left + 64]
                true = dataset[first + step][f"observation.images.{view}"].permute(1, 2, 0).numpy()
                assert np.array_equal(shown, true)
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("total_frames", "total_frames is missing, the tables have"),
        ("video_path", "no 'video_path'"),
    ],
)
def test_check_reports_what_info_json_lacks(toy, name, words, tmp_path, capsys):
    root = Path(shutil.copytree(toy, tmp_path / "toy"))
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    del info[name]
    path.write_text(json.dumps(info))
    findings = find_damage(root)
    assert any(words in finding.what and finding.where == str(path) for finding in findings)
    code = main(["data", "show", str(root), "--out", str(tmp_path / "sheet.png")])
    assert code == 2
    assert words in capsys.readouterr().err


def cut_videos(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        path.write_bytes(path.read_bytes()[:300])


def lost_videos(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        path.unlink()


@pytest.mark.parametrize("damage", [cut_videos, lost_videos])
def test_a_sheet_of_damaged_videos_is_refused_by_the_file(toy, tmp_path, damage, capsys):
    root = Path(shutil.copytree(toy, tmp_path / "toy"))
    damage(root)
    assert main(["data", "show", str(root), "--out", str(tmp_path / "sheet.png")]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"\.mp4: (is missing|cannot be read|it was cut short|it holds no video)", error
    )
    assert "vp-agent data check" in error


def test_a_sheet_makes_no_folder_that_nobody_asked_for(toy, tmp_path, capsys):
    out = tmp_path / "shets/sheet.png"
    assert main(["data", "show", str(toy), "--out", str(out)]) == 2
    assert f"mkdir -p {out.parent}" in capsys.readouterr().err
    assert not out.parent.exists()


def test_a_sheet_is_a_picture(toy, tmp_path):
    with pytest.raises(ConfigError, match="sheet is no picture"):
        ShowSettings(root=toy, out=tmp_path / "sheet")


def test_episodes_without_numbers_are_not_called_the_same(tmp_path):
    root = write_dataset(tmp_path / "silent", action=None)
    assert find_damage(root) == []


def test_views_kept_as_images_are_shown(tmp_path):
    root = write_dataset(tmp_path / "images")
    out = tmp_path / "sheet.png"
    assert main(["data", "show", str(root), "--out", str(out), "--width", "32"]) == 0
    sheet = np.asarray(Image.open(out))
    # The writer's frames grow brighter by one: first, middle and last of the first view.
    corners = [int(sheet[38 + 31, 6 + 32 * i + 31, 0]) for i in range(3)]
    assert corners == [60, 66, 71]


def test_a_dataset_without_views_is_refused_in_words(tmp_path, capsys):
    root = write_dataset(tmp_path / "images")
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    for name in [name for name in info["features"] if "images" in name]:
        del info["features"][name]
    path.write_text(json.dumps(info))
    assert main(["data", "show", str(root), "--out", str(tmp_path / "sheet.png")]) == 2
    assert "has no images to show" in capsys.readouterr().err


def test_a_sheet_makes_no_folders(toy, tmp_path):
    with pytest.raises(ConfigError, match="is no folder"):
        show(ShowSettings(root=toy, out=tmp_path / "new/sheet.png"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("verb", [["check"], ["stats"], ["show", "--out", "sheet.png"]])
def test_what_is_no_dataset_is_said_to_be_none(tmp_path, capsys, verb):
    (tmp_path / "demo.hdf5").touch()
    (tmp_path / "several/one/meta").mkdir(parents=True)
    (tmp_path / "several/one/meta/info.json").touch()
    for name, words in (
        ("nothing", "nothing is there"),
        ("demo.hdf5", "vp-agent data convert"),
        (".", "no meta/info.json"),
        ("several", f"give one: {tmp_path / 'several/one'}"),
    ):
        assert main(["data", verb[0], str(tmp_path / name), *verb[1:]]) == 2
        said = capsys.readouterr().err
        assert "is not a LeRobot dataset" in said
        assert words in said
