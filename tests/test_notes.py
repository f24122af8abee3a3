"""Notes of a dataset (orientation, render quality, action meaning) outlive LeRobot's edits."""

import json
import shutil
from pathlib import Path

import pytest
from foreign_data import write_dataset
from small import SMALL

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import DatasetError
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.key_maps import ARM
from vp_agent.train.mixture import Mixture, learn_actions
from vp_agent.train.notes import Notes, read_notes, write_notes
from vp_agent.train.settings import TrainSettings

META = {
    "env_kwargs": {"transform": "raw", "render_quality": "fast"},
    "action": {"kind": "delta_pose", "controller": "OSC_POSE"},
    "episodes": [{"seed": 3, "transform": "raw"}],
}
SAID = Notes(transform="raw", render_quality="fast", action=META["action"])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp("notes") / "data", video=True, size=64)
    write_notes(root, META)
    return root


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


def edit_json(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_what_was_written_is_read(root):
    assert read_notes(root) == SAID
    assert json.loads((root / "meta/vp_agent.json").read_text()) == META


def test_the_notes_outlive_their_file(root):
    (root / "meta/vp_agent.json").unlink()
    assert read_notes(root) == SAID


def test_a_dataset_from_elsewhere_says_nothing(tmp_path):
    assert read_notes(write_dataset(tmp_path / "data")) == Notes()


def test_the_notes_outlive_lerobots_delete_split_and_merge(root, tmp_path):
    from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets, split_dataset
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset("foreign/data", root=root)
    delete_episodes(data, [0], output_dir=tmp_path / "less", repo_id="foreign/less")
    halves = split_dataset(data, {"a": [0], "b": [1]}, output_dir=tmp_path / "halves")
    merge_datasets([*halves.values()], "foreign/whole", output_dir=tmp_path / "whole")
    for folder in ("less", "halves/a", "halves/b", "whole"):
        assert not (tmp_path / folder / "meta/vp_agent.json").exists()
        assert read_notes(tmp_path / folder) == SAID


def test_places_that_contradict_each_other_are_refused(root):
    edit_json(root / "meta/vp_agent.json", lambda x: x.pop("episodes"))
    edit_json(root / "meta/vp_agent.json", lambda x: x["env_kwargs"].update(transform="flip_v"))
    with pytest.raises(DatasetError, match=r"gripper says .* 'raw', .*vp_agent\.json says 'flip_v"):
        read_notes(root)


def test_views_that_lie_otherwise_than_others_are_refused(root):
    (root / "meta/vp_agent.json").unlink()

    def turn(info):
        info["features"]["observation.images.left"]["info"]["vp_agent"]["transform"] = "rot180"

    edit_json(root / "meta/info.json", turn)
    with pytest.raises(DatasetError, match=r"images\.left says that the image orientation"):
        read_notes(root)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"env_kwargs": {"transform": "flipv"}}, "did you mean 'flip_v'"),
        ({"env_kwargs": [1]}, "'env_kwargs' is"),
        ({"action": {"kind": "velocity"}}, "kind of the action is 'velocity'"),
        ({"action": {"scale": 1.0}}, "kind of the action is 'missing'"),
        ([], "an object is expected"),
        ({"episodes": [{"transform": "raw"}, {"transform": "flip_v"}]}, "lie otherwise than other"),
    ],
)
def test_notes_that_nobody_can_read_are_neither_written_nor_read(root, meta, words):
    with pytest.raises(DatasetError, match=words):
        write_notes(root, meta)
    assert read_notes(root) == SAID
    (root / "meta/vp_agent.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match=words):
        read_notes(root)


def learned(*roots: Path, names: tuple[str, ...] = ()):
    config = SMALL.replace(action_stats=None, action_names=names, image_transform="raw")
    data = Mixture([Demonstrations(root, config, holdout=0) for root in roots])
    settings = TrainSettings(stage="action", data=roots, init=roots[0], out=roots[0] / "run")
    return learn_actions(config, data, settings)


def noted(root: Path, folder: Path, **action) -> Path:
    """A copy whose actions are said to mean this."""
    copy = Path(shutil.copytree(root, folder))
    write_notes(copy, {**META, "action": action})
    return copy


def test_actions_of_another_kind_are_not_learned_as_a_change_of_the_pose(root, tmp_path):
    assert learned(root).action_stats is not None
    velocity = noted(root, tmp_path / "velocity", kind="joint_velocity")
    for names in ((), ARM):
        with pytest.raises(
            DatasetError, match="of kind 'joint_velocity', the agent's are a change"
        ):
            learned(velocity, names=names)
    own = tuple(f"joint{i}" for i in range(7))
    assert learned(velocity, names=own).action_names == own


def test_actions_of_two_meanings_are_not_mixed(root, tmp_path):
    small = noted(root, tmp_path / "small", kind="delta_pose", scale=0.01)
    large = noted(root, tmp_path / "large", kind="delta_pose", scale=0.05)
    with pytest.raises(DatasetError, match=r"small says that the meaning of the actions is"):
        learned(root, large, small)
    assert learned(root, large).action_stats is not None  # one says less
    assert learned(root, write_dataset(tmp_path / "silent")).action_stats is not None
