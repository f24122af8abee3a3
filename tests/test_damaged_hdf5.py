"""Damaged HDF5 demonstrations are refused before anything is written."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from lift_hdf5 import drawn, write_hdf5

from vp_agent.errors import DatasetError
from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("lerobot", "h5py")), reason="needs the extras"
)


def _without_instruction(file):
    file["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": " "})


def _without_camera(file):
    del file["data/demo_1/obs/robot0_eye_in_hand_image"]


def _with_nan(file):
    file["data/demo_1/actions"][3, 2] = np.nan


def _with_eight_numbers(file):
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = np.zeros((6, 8))


def _with_fewer_images(file):
    key = "data/demo_1/obs/robot0_eye_in_hand_image"
    images = file[key][:4]
    del file[key]
    file[key] = images


def _of_another_size(file):
    key = "data/demo_1/obs/robot0_eye_in_hand_image"
    images = file[key][:, ::2, ::2]
    del file[key]
    file[key] = images


def _as_floats(file):
    key = "data/demo_1/obs/robot0_eye_in_hand_image"
    images = file[key][()] / 255
    del file[key]
    file[key] = images


def _without_meta(file):
    del file["data"].attrs["env_args"]


def _without_actions(file):
    del file["data/demo_1/actions"]


def _with_broken_meta(file):
    file["data"].attrs["env_args"] = '{"env_name": "Li'


def _with_a_group_of_another_kind(file):
    file["data"].create_group("demo_extra")


def _with_a_short_state(file):
    key = "data/demo_1/obs/robot0_gripper_qpos"
    state = file[key][:4]
    del file[key]
    file[key] = state


def _with_nan_in_the_state(file):
    file["data/demo_1/obs/robot0_gripper_qpos"][2, 1] = np.nan


def _with_bit_rot(file):
    images = file["data/demo_1/obs/robot0_agentview_left_image"]
    chunk = images.id.get_chunk_info(0)
    name = file.filename
    file.flush()
    with open(name, "r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\xa5" * 16)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_instruction, r"demo_1 has no instruction .* --instruction"),
        (_without_camera, r"demo_1 has no images obs/robot0_eye_in_hand_image.*--views"),
        (_with_nan, r"demo_1: action 3 is not finite.*--skip"),
        (_with_eight_numbers, r"demo_1 has actions of shape \(6, 8\)"),
        (_with_fewer_images, r"demo_1: 4 images in obs/robot0_eye_in_hand_image, 6 actions"),
        (_of_another_size, r"demo_1 has image_shapes .* datasets of their own"),
        (_as_floats, r"demo_1: obs/robot0_eye_in_hand_image is float64"),
        (_without_meta, "not in robomimic's layout"),
        (_without_actions, r"demo_1 has no 'actions'.*--skip"),
        (_with_broken_meta, r"a\.hdf5 data: env_args is no JSON.*download"),
        (_with_a_group_of_another_kind, r"data/demo_extra is no demonstration.*--skip"),
        (_with_a_short_state, r"obs/robot0_gripper_qpos has shape \(4, 2\).*\(6, \.\.\.\)"),
        (_with_nan_in_the_state, r"obs/robot0_gripper_qpos of step 2 is not finite.*--skip"),
        (_with_bit_rot, r"demo_1 is damaged .*download the file again"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_written(tmp_path, damage, message):
    import h5py

    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6), drawn(6)])
    with h5py.File(source, "r+") as file:
        damage(file)
    with pytest.raises(DatasetError, match=message):
        convert_hdf5(ConvertDataSettings(files=(source,), out=tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))
