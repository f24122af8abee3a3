"""Datasets of several origins, seen through their key maps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_data import ARM_FIRST, BASE_FIRST, write_dataset, write_libero, write_robocasa365
from small import SMALL

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")
from pyarrow import parquet

from vp_agent.errors import ConfigError, DatasetError
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.key_maps import ARM

ROBOCASA = SMALL.replace(views=("gripper", "left", "right"))
LIBERO = SMALL.replace(views=("agent", "gripper"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def own(folder):
    return write_dataset(folder / "own", tasks=("lift the cube", "open the door"))


@pytest.fixture(scope="module")
def libero(folder):
    return write_libero(folder / "libero")


@pytest.fixture(scope="module")
def robocasa(folder):
    return write_robocasa365(folder / "robocasa")


def actions_on_disk(root: Path) -> np.ndarray:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in sorted(root.rglob("data/**/*.parquet"))]
    return np.concatenate([np.stack(table["action"].to_numpy()) for table in tables])


# the written base moves at random, and is complained of
moving_base = pytest.mark.filterwarnings(
    "ignore:.*(base_motion|control_mode) changes in:UserWarning"
)


@moving_base
@pytest.mark.parametrize("places", [BASE_FIRST, ARM_FIRST])
def test_robocasas_arm_is_found_by_name_wherever_it_lies(tmp_path, places):
    root = write_robocasa365(tmp_path / "casa", places=places)
    data = Demonstrations(root, ROBOCASA)
    start = places["end_effector_position"][0]
    wanted = actions_on_disk(root)[:, start : start + 7].astype(np.float32)
    assert np.array_equal(data.actions_NA, wanted)
    assert data.actions_NA.dtype == np.float32
    assert data.layout.action_names == ARM
    assert data.states_NS.shape == (24, 16)


@moving_base
def test_robocasas_cameras_have_our_names(robocasa):
    data = Demonstrations(robocasa, ROBOCASA)
    assert data.layout.key_map == "robocasa365"
    # The writer's cameras are left, right, hand, each brighter than the one before.
    brightness = data.pixels(np.array([0]))[0, :, 0, 0, -1, -1]
    assert brightness.tolist() == [140, 60, 100]


def test_robocasas_actions_without_modality_json_are_refused(robocasa, tmp_path):
    copy = shutil.copytree(robocasa, tmp_path / "copy")
    (copy / "meta" / "modality.json").unlink()
    with pytest.raises(DatasetError, match=r"no action 'end_effector_position'.*modality\.json"):
        Demonstrations(copy, ROBOCASA)


@moving_base  # of the two warnings one is matched
def test_episodes_that_drive_the_base_are_named(tmp_path):
    root = write_robocasa365(tmp_path / "casa", still=())
    with pytest.warns(UserWarning, match=r"base_motion changes in 2 of 2 episodes \(0, 1"):
        Demonstrations(root, ROBOCASA)


def test_a_modality_json_of_another_dataset_is_refused(robocasa, tmp_path):
    copy = shutil.copytree(robocasa, tmp_path / "copy")
    path = copy / "meta" / "modality.json"
    modality = json.loads(path.read_text())
    modality["action"]["gripper_close"] |= {"start": 12, "end": 13}
    path.write_text(json.dumps(modality))
    with pytest.raises(DatasetError, match=r"action\[12:13\], which is not there"):
        Demonstrations(copy, ROBOCASA)


def test_liberos_frames_are_twenty_a_second_whatever_the_label_says(libero):
    data = Demonstrations(libero, LIBERO)
    assert (data.layout.key_map, data.fps) == ("libero", 10)
    # Stride 2: every second frame; the writer's frames grow brighter by one.
    agent, gripper = data.pixels(np.array([0]))[0, :, :, 0, -1, 0]
    assert gripper.tolist() == [100, 102, 104]
    assert agent.tolist() == [60, 62, 64]


@pytest.mark.parametrize("other", [{"fps": 30}, {"robot": "so101"}, {"action": (6, "float32")}])
def test_cameras_named_image_and_image2_alone_are_not_libero(tmp_path, other):
    root = write_libero(tmp_path / "mine", **other)
    with pytest.raises(DatasetError, match=r"no view 'agent' .*image, image2.*--key-map"):
        Demonstrations(root, LIBERO)
    config = SMALL.replace(
        views=("image", "image2"), control_hz=float(other.get("fps", 10)),
        action_dim=other.get("action", (7,))[0], action_stats=None,
    )  # fmt: skip
    data = Demonstrations(root, config)
    assert (data.layout.key_map, data.flips) == ("own", ())


def test_liberos_key_map_is_not_for_another_rate(tmp_path):
    root = write_libero(tmp_path / "mine", fps=30)
    with pytest.raises(DatasetError, match=r"has 30 fps; .* labelled 10 or 20.*--key-map"):
        Demonstrations(root, LIBERO, key_map="libero")


def test_images_that_lie_otherwise_are_turned_as_the_policy_wants_them(libero):
    """The writer's square is top left; rot180 is the upright image mirrored left to right."""

    def square(transform):
        data = Demonstrations(libero, LIBERO.replace(image_transform=transform))
        red = data.pixels(np.array([0]))[0, 0, 0, 0] == 250
        rows, columns = (("top", "bottom"), ("left", "right"))
        return [(r, c) for i, r in enumerate(rows) for j, c in enumerate(columns)
                if red[16 * i : 16 * (i + 1), 16 * j : 16 * (j + 1)].all()]  # fmt: skip

    assert square("rot180") == [("top", "left")]
    assert square("flip_v") == [("top", "right")]
    assert square("raw") == [("bottom", "right")]


def test_our_own_notes_say_how_images_lie(own, tmp_path):
    copy = shutil.copytree(own, tmp_path / "copy")
    (copy / "meta" / "vp_agent.json").write_text('{"env_kwargs": {"transform": "raw"}}')
    upright = Demonstrations(own, SMALL).pixels(np.array([3]))
    assert torch.equal(Demonstrations(copy, SMALL).pixels(np.array([3])), upright.flip(-2))


def test_the_episodes_say_how_images_lie_if_the_environment_does_not(own, tmp_path):
    copy = shutil.copytree(own, tmp_path / "copy")
    notes = copy / "meta" / "vp_agent.json"
    episodes = [{"seed": 0, "transform": "raw"}, {"seed": 1, "transform": "raw"}]
    notes.write_text(json.dumps({"env_kwargs": {}, "episodes": episodes}))
    upright = Demonstrations(own, SMALL).pixels(np.array([3]))
    assert torch.equal(Demonstrations(copy, SMALL).pixels(np.array([3])), upright.flip(-2))
    episodes[1]["transform"] = "flip_v"
    notes.write_text(json.dumps({"env_kwargs": {}, "episodes": episodes}))
    with pytest.raises(DatasetError, match=r"lie otherwise than others \(flip_v, raw\)"):
        _ = Demonstrations(copy, SMALL).flips


def test_a_modality_json_whose_parts_are_all_controlled_warns_of_nothing(own, tmp_path, recwarn):
    copy = shutil.copytree(own, tmp_path / "copy")
    parts = {"arm": {"start": 0, "end": 6}, "hand": {"start": 6, "end": 7}}
    (copy / "meta" / "modality.json").write_text(json.dumps({"action": parts}))
    assert Demonstrations(copy, SMALL).layout.left_out == {}
    assert not [warning for warning in recwarn if "control" in str(warning.message)]


def test_misspelt_actions_of_a_key_map_are_refused(own, tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"action": ["acton"]}')
    with pytest.raises(DatasetError, match=r"no action 'acton'; did you mean 'action'"):
        Demonstrations(own, SMALL, key_map=str(path))
    silent = write_dataset(tmp_path / "silent")
    for file in ("info", "stats"):
        words = (silent / f"meta/{file}.json").read_text()
        (silent / f"meta/{file}.json").write_text(words.replace('"action"', '"acts"'))
    (table,) = silent.glob("data/*/*.parquet")
    rows = parquet.read_table(table)
    names = ["acts" if name == "action" else name for name in rows.column_names]
    parquet.write_table(rows.rename_columns(names), table)
    with pytest.raises(DatasetError, match=r"no action 'acton'; did you mean 'acts'"):
        Demonstrations(silent, SMALL, key_map=str(path))


def test_names_with_their_places_are_understood(own, tmp_path):
    copy = shutil.copytree(own, tmp_path / "copy")
    info = json.loads((copy / "meta/info.json").read_text())
    places = {name: place for place, name in reversed([*enumerate(ARM)])}
    info["features"]["action"]["names"] = places
    (copy / "meta/info.json").write_text(json.dumps(info))
    assert Demonstrations(copy, SMALL).layout.action_names == ARM


def test_a_wrong_key_map_lists_what_is_there(own):
    with pytest.raises(DatasetError, match=r"no view 'gripper' .*image2.*views: gripper, left"):
        Demonstrations(own, SMALL, key_map="libero")
    with pytest.raises(ConfigError, match="did you mean 'robocasa365'"):
        Demonstrations(own, SMALL, key_map="robocasa")


def test_a_key_map_of_ones_own_is_a_json_file(own, tmp_path):
    path = tmp_path / "map.json"
    views = {"wrist": "observation.images.gripper"}
    path.write_text(json.dumps({"views": views, "control_hz": 30.0, "action_names": list(ARM)}))
    config = SMALL.replace(views=("wrist", "left"), control_hz=30.0)
    data = Demonstrations(own, config, key_map=str(path))
    ours = Demonstrations(own, SMALL)
    assert torch.equal(data.pixels(np.array([1])), ours.pixels(np.array([1])))
    assert data.layout.action_names == ARM
    path.write_text('{"veiws": {}}')
    with pytest.raises(ConfigError, match="veiws"):
        Demonstrations(own, config, key_map=str(path))


def test_a_dataset_of_the_hub_is_looked_up_by_lerobot(own, tmp_path, monkeypatch):
    import lerobot.datasets.dataset_metadata as metadata

    monkeypatch.setattr(metadata, "HF_LEROBOT_HOME", tmp_path)
    shutil.copytree(own, tmp_path / "somebody" / "cubes")
    data = Demonstrations(Path("somebody/cubes"), SMALL)
    assert (data.name, data.root) == ("somebody/cubes", tmp_path / "somebody" / "cubes")


def test_a_dataset_that_the_hub_does_not_give_is_named(tmp_path, monkeypatch):
    import lerobot.datasets.dataset_metadata as metadata

    def no_network(*_args, **_kwargs):
        raise ConnectionError("no route to the Hub")

    monkeypatch.setattr(metadata, "HF_LEROBOT_HOME", tmp_path)
    monkeypatch.setattr(metadata, "get_safe_version", no_network)
    with pytest.raises(DatasetError, match=r"somebody/cubes .*no route.*hf download"):
        Demonstrations(Path("somebody/cubes"), SMALL)


def test_an_old_dataset_names_lerobots_converter(own, tmp_path):
    copy = shutil.copytree(own, tmp_path / "old")
    info = json.loads((copy / "meta/info.json").read_text())
    (copy / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(DatasetError, match=r"version v2\.1, not v3.*convert_dataset_v21_to_v30"):
        Demonstrations(copy, SMALL)


@pytest.mark.parametrize(("stride", "reach"), [(0, 0), (2, 14), (4, 28)])
def test_the_videos_horizon_is_free_of_the_actions(tmp_path_factory, stride, reach):
    """Paper figure 3: eight frames over 0, 16 or 32 steps, and 32 actions in any case."""
    root = write_dataset(tmp_path_factory.mktemp("long") / "data", steps=40, episodes_per_task=1)
    wide = SMALL.replace(frames_per_view=8, frame_stride=stride, horizon=32)
    data = Demonstrations(root, wide)
    ids = np.array([0, 20])
    assert data.frame_ids(ids)[0].tolist() == list(range(0, reach + 1, stride or 1)) * (
        1 if stride else 8
    )
    chunk = data.chunk(ids)
    assert chunk.actions_BKA.shape == (2, 32, 7)
    assert chunk.action_is_pad_BK.sum(1).tolist() == [0, 12]
    # A frame is padding only where the video reaches past the end, not where the actions do.
    past = sum(20 + t * stride > 39 for t in range(8))
    assert chunk.frame_is_pad_BT.sum(1).tolist() == [0, past]
    brightness = data.pixels(ids)[0, 0, :, 0, -1, 0] - 60
    assert brightness.tolist() == data.frame_ids(ids)[0].tolist()
