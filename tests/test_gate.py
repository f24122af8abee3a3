"""The gate: each corruption of a dataset is refused, or read right, by whoever opens one."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from dataset_corruptions import READ, READ_BY_KEY, REFUSED
from small import SMALL, small_model
from telling_data import misaligned, write_telling
from trainers import toy_settings

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import DatasetError
from vp_agent.train import gate
from vp_agent.train.check import TABLE_CHECKS, find_damage
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.dataset_files import DatasetFiles
from vp_agent.train.dataset_stats import dataset_stats
from vp_agent.train.lerobot.training_data import open_theirs
from vp_agent.train.mixture import open_mixture
from vp_agent.train.recordings import recordings
from vp_agent.train.show import ShowSettings, show

CONFIG = SMALL.replace(frame_stride=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_telling(tmp_path_factory.mktemp("telling") / "data")


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


def by_demonstrations(root: Path) -> None:
    Demonstrations(root, CONFIG)


def by_a_mixture(root: Path) -> None:
    settings = toy_settings(root.parent, small_model(), stage="joint")
    open_mixture(settings.__class__(**{**vars(settings), "data": root}), CONFIG)


def by_stats(root: Path) -> None:
    dataset_stats(root)


def by_show(root: Path) -> None:
    show(ShowSettings(root=root, out=root.parent / "sheet.png"))


def by_the_plug_in(root: Path) -> None:
    open_theirs(SimpleNamespace(root=root, repo_id="telling/data"))


OURS = [by_demonstrations, by_stats, by_show]
OPENERS = [*OURS, by_the_plug_in]


@pytest.mark.parametrize("name", REFUSED)
def test_a_corruption_is_refused_by_everybody_and_named_by_the_check(root, name):
    REFUSED[name](root)
    for opener in OPENERS:
        with pytest.raises(DatasetError) as refused:
            opener(root)
        assert str(root) in str(refused.value)
    assert find_damage(root, videos=False)


@pytest.mark.parametrize("name", READ_BY_KEY)
def test_what_lerobot_looks_up_by_place_is_read_by_key_and_refused_to_lerobot(root, name):
    READ_BY_KEY[name](root)
    data = Demonstrations(root, CONFIG)
    assert misaligned(data) == []
    assert data.dataset[25]["task"] == data.tasks[data.task_N[25]] == "push the button"
    assert find_damage(root, videos=False) == []
    assert dataset_stats(root).tasks["push the button"].frames == 8
    with pytest.raises(DatasetError, match=r"tasks\.parquet: LeRobot looks instructions up by"):
        by_the_plug_in(root)


@pytest.mark.parametrize("name", READ)
def test_what_is_unusual_and_right_is_read_right_by_everybody(root, name):
    READ[name](root)
    assert misaligned(Demonstrations(root, CONFIG)) == []
    assert find_damage(root, videos=False) == []
    for opener in OPENERS:
        opener(root)


def test_images_that_are_no_videos_are_of_their_rows(tmp_path):
    root = write_telling(tmp_path / "images", video=False)
    assert misaligned(Demonstrations(root, CONFIG)) == []


def test_every_row_is_proven_over_a_whole_window(root):
    data = Demonstrations(root, CONFIG)
    for episode in range(4):
        first = data.files.rows_of(episode)
        whole = data.episode_pixels(episode)
        assert whole.shape[1] == len(first)
        assert (whole[:, :3] == data.pixels(first[:1])[0]).all()


def test_a_mixture_opens_its_parts_through_the_gate(root):
    REFUSED["clips a frame late"](root)
    with pytest.raises(DatasetError, match=r"its clip begins at 0\.050000 s"):
        by_a_mixture(root)


def test_the_check_has_every_check_of_the_gate():
    assert gate.GATE_CHECKS.items() <= TABLE_CHECKS.items()


def test_nobody_reads_a_dataset_past_the_gate():
    """`DatasetFiles` is made by the gate; by the check, which wants all findings; by the plug-in,
    which passes the gate with what LeRobot has opened.
    """
    folder = Path(gate.__file__).parent
    makers = {x.name for x in folder.rglob("*.py") if "DatasetFiles(" in x.read_text()}
    assert makers == {"gate.py", "check.py", "training_data.py"}


def test_recordings_are_of_the_episodes_numbers_not_of_their_places(root):
    REFUSED["a gap in the episodes, index kept"](root)
    files = DatasetFiles(root)
    numbers = files.episodes.index.tolist()
    assert numbers != list(range(len(numbers)))
    assert sorted(recordings(files, ["action"])) == numbers
