"""HDF5 files of every kind as datasets: short episodes, masks, links, states, action meanings."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdf5_files import VIEW, env_args, picture, read_picture, write
from small import SMALL

from vp_agent.cli import main
from vp_agent.errors import ConfigError, DatasetError, UnknownNameError
from vp_agent.train import convert_hdf5 as module
from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5
from vp_agent.train.demonstrations import NAMES
from vp_agent.train.notes import ARM, read_notes

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("lerobot", "h5py")), reason="needs the extras"
)


def settings(*files: Path, **options: Any) -> ConvertDataSettings:
    out = options.pop("out", files[0].parent / "out")
    return ConvertDataSettings(files=files, out=out, views=VIEW, **options)


CONFIG = SMALL.replace(views=("left",))


def frames(root: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(episode, step) of every row, by its picture and by its action."""
    from vp_agent.train.dataset import Demonstrations

    data = Demonstrations(root, CONFIG, holdout=0.0)
    found = []
    for row in range(len(data)):
        image = data.pixels(np.array([row]))[0, 0, 0].numpy()
        episode, step = divmod(float(data.actions_NA[row, 0]), 0.1 - 1e-9)
        found.append((read_picture(image), (round(episode), round(step * 100))))
    return found


def learn(root: Path, names: tuple[str, ...]) -> None:
    """What training asks before it begins, for an agent with these names of its actions."""
    from vp_agent.train.dataset import Demonstrations
    from vp_agent.train.mixture import Mixture, learn_actions
    from vp_agent.train.settings import TrainSettings

    agent = CONFIG.replace(action_names=names, action_stats=None)
    if names and feature(root, "action")["names"] != list(names):
        with pytest.raises(DatasetError, match="has the actions"):
            Demonstrations(root, agent)
        agent_sees = CONFIG.replace(action_stats=None)
    else:
        agent_sees = agent
    data = Mixture([Demonstrations(root, agent_sees, holdout=0.0)])
    learn_actions(agent, data, TrainSettings(stage="action", data=(root,), init=root, out=root))


def feature(root: Path, name: str) -> Any:
    return json.loads((root / "meta/info.json").read_text())["features"][name]


def key(file: Any, name: str) -> Any:
    return file[f"data/{name}"]


@pytest.mark.parametrize(
    "lengths", [(1,), (1, 4, 1), (1, 4, 5), (4, 1), (1, 1, 1), (4, 1, 4), (2, 1, 1, 3)], ids=str
)
def test_episodes_of_one_step_are_written_right(tmp_path, lengths):
    convert_hdf5(settings(write(tmp_path / "a.hdf5", lengths)))
    expected = [(i, step) for i, steps in enumerate(lengths) for step in range(steps)]
    assert frames(tmp_path / "out") == [(x, x) for x in expected]
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["video_files_size_in_mb"] >= 1  # LeRobot refuses what its next writer could not use


@pytest.mark.parametrize("stored", [str, np.bytes_])
def test_liberos_pictures_are_turned_upright_whatever_the_text_is_stored_as(tmp_path, stored):
    says = {"macros_image_convention": stored("opengl")}
    convert_hdf5(settings(write(tmp_path / "a.hdf5", (2,), attributes=says, turned=True)))
    assert [by_picture for by_picture, _ in frames(tmp_path / "out")] == [(0, 0), (0, 1)]


def test_a_file_under_two_names_counts_once(tmp_path):
    file = write(tmp_path / "a.hdf5")
    (tmp_path / "soft.hdf5").symlink_to("a.hdf5")
    (tmp_path / "hard.hdf5").hardlink_to(file)
    (tmp_path / "folder").symlink_to(".")
    names = (file, tmp_path / "soft.hdf5", tmp_path / "hard.hdf5", tmp_path / "folder/a.hdf5", file)
    assert convert_hdf5(settings(*names)).episodes == 2


def test_a_demonstration_under_two_names_counts_once(tmp_path):
    import h5py

    def change(file):
        file["data/demo_7"] = h5py.SoftLink("/data/demo_0")
        file["data/demo_8"] = file["data/demo_1"]

    first = write(tmp_path / "a.hdf5", change=change)

    def link(file):
        file["data/demo_9"] = h5py.ExternalLink("a.hdf5", "/data/demo_1")

    summary = convert_hdf5(settings(first, write(tmp_path / "b.hdf5", (1,), change=link)))
    assert summary.episodes == 3
    assert len(summary.linked) == 3
    assert f"{first} demo_7 is {first} demo_0 by another name" in str(summary)


def masked(file: Any) -> None:
    file["mask/train"] = np.array([b"demo_2", b"demo_0"])
    file["mask/valid"] = np.array([b"demo_1"])
    file["mask/odd"] = np.array([b"demo_9"])


def test_a_mask_chooses_its_demonstrations(tmp_path):
    file = write(tmp_path / "a.hdf5", (1, 2, 3), change=masked)
    whole = convert_hdf5(settings(file, out=tmp_path / "whole"))
    assert whole.episodes == 3
    assert "--mask odd" in str(whole)
    assert convert_hdf5(settings(file, mask="train")).episodes == 2
    assert [by_action for _, by_action in frames(tmp_path / "out")] == [
        (0, 0), (2, 0), (2, 1), (2, 2),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match=r"no mask 'trains'; did you mean 'train'"):
        convert_hdf5(settings(file, mask="trains", out=tmp_path / "other"))
    with pytest.raises(DatasetError, match=r"mask/odd lists 'demo_9'"):
        convert_hdf5(settings(file, mask="odd", out=tmp_path / "other"))


ROBOMIMIC = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


@pytest.mark.parametrize(
    "state",
    [
        ROBOMIMIC,
        {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2},
        {"ee_states": 6, "gripper_states": 2},
    ],
    ids=str,
)
def test_the_state_of_robomimic_and_libero_is_that_of_the_environments(tmp_path, state):
    import h5py
    from scipy.spatial.transform import Rotation

    file = write(tmp_path / "a.hdf5", (3,), state=state)
    convert_hdf5(settings(file))
    from vp_agent.train.dataset_files import DatasetFiles

    data = DatasetFiles(tmp_path / "out")
    feature = data.info["features"]["observation.state"]
    assert tuple(feature["names"]) == NAMES["observation.state"]
    with h5py.File(file) as opened:
        parts = [np.asarray(opened[f"data/demo_0/obs/{name}"]) for name in state]
    if state is ROBOMIMIC:
        parts[1] = Rotation.from_quat(parts[1]).as_rotvec()
    stored = data.columns["observation.state"]
    assert np.abs(stored - np.concatenate(parts, axis=1)).max() < 1e-6  # float32 of about 1


def test_a_part_of_robomimics_state_is_none(tmp_path):
    file = write(tmp_path / "a.hdf5", (2,), state={"robot0_eef_pos": 3, "robot0_eef_quat": 4})
    convert_hdf5(settings(file))
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert "observation.state" not in info["features"]


@pytest.mark.parametrize(
    ("controller", "kind", "name"),
    [
        ({"type": "OSC_POSE", "control_delta": False}, "absolute_pose", "x"),
        (
            {
                "type": "BASIC",
                "body_parts": {"right": {"type": "OSC_POSE", "input_type": "absolute"}},
            },
            "absolute_pose",
            "x",
        ),
        ({"type": "JOINT_VELOCITY"}, "joint_velocity", "joint_velocity_1"),
    ],
)
def test_actions_that_mean_something_else_are_stored_and_not_trained_on(
    tmp_path, controller, kind, name
):
    env = env_args(controller_configs=controller)
    convert_hdf5(settings(write(tmp_path / "a.hdf5", (3,), env=env)))
    root = tmp_path / "out"
    (root / "meta/vp_agent.json").unlink()  # as LeRobot's own edits do
    assert read_notes(root).action["kind"] == kind
    for agents in ((), ARM):
        with pytest.raises(DatasetError, match=rf"of kind '{kind}', the agent's are a change"):
            learn(root, agents)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["features"]["action"]["names"][0] == name


def test_delta_actions_are_stored_and_trained_on(tmp_path):
    env = env_args(controller_configs={"type": "OSC_POSE", "control_delta": True})
    convert_hdf5(settings(write(tmp_path / "a.hdf5", (3,), env=env)))
    assert read_notes(tmp_path / "out").action == {"kind": "delta_pose", "controller": "OSC_POSE"}
    learn(tmp_path / "out", ())
    learn(tmp_path / "out", ARM)


def test_files_whose_actions_mean_different_things_are_no_dataset(tmp_path):
    one = write(tmp_path / "a.hdf5", env=env_args(controller_configs={"type": "OSC_POSE"}))
    env = env_args(controller_configs={"type": "OSC_POSE", "control_delta": False})
    with pytest.raises(DatasetError, match=r"action meaning .*absolute_pose.*of their own"):
        convert_hdf5(settings(one, write(tmp_path / "b.hdf5", env=env)))


def test_bad_demonstrations_are_left_out_and_named(tmp_path):
    def change(file):
        key(file, "demo_1")["actions"][0, 0] = np.nan
        del key(file, "demo_2")["obs"]

    file = write(tmp_path / "a.hdf5", (2, 2, 2, 3), change=change)
    with pytest.raises(DatasetError, match=r"a\.hdf5 demo_1: action 0 is not finite.*--skip-bad"):
        convert_hdf5(settings(file))
    summary = convert_hdf5(settings(file, skip_bad=True))
    assert summary.episodes == 2
    assert [what.split(":")[0].split(" has")[0] for what in summary.bad] == [
        f"{file} demo_1", f"{file} demo_2",
    ]  # fmt: skip
    assert [by_action for _, by_action in frames(tmp_path / "out")][-1] == (3, 2)


@pytest.fixture
def encoder_refuses_demo_1(monkeypatch):
    """PyAV's error for pictures of the second demonstration, as of a broken encoder."""
    from av.error import FFmpegError
    from lerobot.datasets import dataset_writer

    encode, calls = dataset_writer.encode_video_frames, []

    def refuse(imgs_dir: Path, *args: Any, **kwargs: Any) -> None:
        from PIL import Image

        first = np.asarray(Image.open(sorted(Path(imgs_dir).glob("*.png"))[0]))
        calls.append(Path(imgs_dir))
        if first[0, 0, 0] == picture(1, 0)[0, 0, 0]:
            raise FFmpegError(22, "Invalid argument", "tmp.mp4")
        encode(imgs_dir, *args, **kwargs)

    monkeypatch.setattr(dataset_writer, "encode_video_frames", refuse)
    return calls


@pytest.mark.parametrize("by", ["skip_bad", "skip"])
def test_a_demonstration_that_cannot_be_encoded_is_named_and_resume_passes_it(
    tmp_path, encoder_refuses_demo_1, monkeypatch, by
):
    monkeypatch.setattr(module, "SHARD_EPISODES", 1)
    file = write(tmp_path / "a.hdf5", (2, 2, 2))
    with pytest.raises(
        DatasetError, match=r"a\.hdf5 demo_1 cannot be written.*--resume --skip-bad"
    ):
        convert_hdf5(settings(file))
    (tmp_path / "skip.json").write_text('{"Lift": ["demo_1"]}')
    more = {"skip_bad": {"skip_bad": True}, "skip": {"skip": tmp_path / "skip.json"}}[by]
    written = len(encoder_refuses_demo_1)
    summary = convert_hdf5(settings(file, resume=True, **more))
    assert summary.episodes == 2
    assert len(summary.bad) == (by == "skip_bad")
    assert [by_action for _, by_action in frames(tmp_path / "out")] == [
        (0, 0), (0, 1), (2, 0), (2, 1),
    ]  # fmt: skip
    # the first shard was not written again
    assert len(encoder_refuses_demo_1) == written + 1 + (by == "skip_bad")


def test_a_full_disk_is_no_fault_of_a_demonstration(tmp_path, monkeypatch):
    from av.error import OSError as EncoderOSError
    from lerobot.datasets import dataset_writer

    def full(*_: Any, **__: Any) -> None:
        raise EncoderOSError(28, "No space left on device", "tmp.mp4")

    monkeypatch.setattr(dataset_writer, "encode_video_frames", full)
    with pytest.raises(OSError, match="No space left"):
        convert_hdf5(settings(write(tmp_path / "a.hdf5"), skip_bad=True))


def test_what_cannot_be_read_back_does_not_get_its_name(tmp_path, monkeypatch):
    from lerobot.datasets import dataset_writer

    concatenate = dataset_writer.concatenate_video_files
    monkeypatch.setattr(
        dataset_writer,
        "concatenate_video_files",
        lambda files, target, **options: concatenate(files[:1], target, **options),  # loses one
    )
    file = write(tmp_path / "a.hdf5", (3, 3))
    with pytest.raises(DatasetError, match=r"shard-00000 was written, but cannot be read back: "):
        convert_hdf5(settings(file))
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").glob("shard*"))


def test_the_command_takes_what_files_do_not_say(tmp_path, capsys):
    def change(file):
        del file["data"].attrs["env_args"]

    file = write(tmp_path / "a.hdf5", (2,), lang=None, change=change)
    command = [
        "data",
        "convert",
        str(file),
        "--out",
        str(tmp_path / "out"),
        "--views",
        *VIEW.popitem(),
    ]
    VIEW[command[-2]] = command[-1]
    flags = ["--control-hz", "20", "--images", "upright", "--instruction", "lift it"]
    assert main([*command, *flags, "--action-kind", "delta_pose"]) == 0
    assert "1 episodes, 2 frames" in capsys.readouterr().out
    assert read_notes(tmp_path / "out").action == {"kind": "delta_pose"}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ({"control_hz": 12.5}, "--control-hz is 12.5"),
        ({"control_hz": float("nan")}, "--control-hz is nan"),
        ({"control_hz": float("inf")}, "--control-hz is inf"),
        ({"action_kind": "delta_poses"}, "did you mean 'delta_pose'"),
        ({"views": {"a/b": "x"}}, "'a/b' is no name of a view"),
    ],
)
def test_a_flag_that_cannot_be_is_refused(tmp_path, flag, message):
    made = ConvertDataSettings(files=(tmp_path / "a.hdf5",), out=tmp_path / "out")
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        replace(made, **flag)
