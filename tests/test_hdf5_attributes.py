"""Attributes of HDF5 files: bytes are text; null, lists, empty and arrays are read or refused."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdf5_files import VIEW, env_args, write

from vp_agent.errors import DatasetError
from vp_agent.train.hdf5 import Demo, read_demos
from vp_agent.train.hdf5_facts import Told
from vp_agent.train.hdf5_listing import list_demos

pytestmark = pytest.mark.skipif(find_spec("h5py") is None, reason="needs the extra")
LIBERO = {
    "macros_image_convention": "opengl",
    "bddl_file_name": "libero/libero_goal/open_the_top_drawer.bddl",
    "problem_info": json.dumps({"language_instruction": "Open it"}),
}


def empty() -> Any:
    import h5py

    return h5py.Empty("S10")


def array(text: str) -> np.ndarray:
    return np.array([text.encode()])


def read(file: Path, **told: Any) -> list[Demo]:
    """The demonstrations of a file, or its first error."""
    names = list_demos(file).names
    found = list(read_demos(file, views=VIEW, names=names, told=Told(**told)))
    for demo in found:
        if isinstance(demo, DatasetError):
            raise demo
    return [demo for demo in found if isinstance(demo, Demo)]


def set_lang(file: Any, value: Any) -> None:
    for demo in file["data"].values():
        demo.attrs["ep_meta"] = value


@pytest.mark.parametrize("stored", [str, np.bytes_, array, lambda text: [text]])
def test_every_attribute_reads_the_same_in_every_way_to_store_text(tmp_path, stored):
    def change(file):
        file["data"].attrs["env_args"] = stored(json.dumps(env_args(control_freq=15)))
        file["data"].attrs.update({name: stored(value) for name, value in LIBERO.items()})
        set_lang(file, stored(json.dumps({"lang": ""})))

    (demo, _) = read(write(tmp_path / "a.hdf5", change=change))
    assert demo.facts.upside_down
    assert demo.facts.control_hz == 15
    assert demo.instruction == "open the top drawer"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("env_args", 3.5, r"data: env_args is float '3.5', expected text"),
        ("env_args", np.array([b"a", b"b"]), r"data: env_args is an array of 2"),
        ("env_args", b"\xff{}", r"data: env_args is no UTF-8"),
        ("env_args", "[1]", r"data: env_args is list .*expected a JSON object"),
        ("env_args", "[" * 100_000, r"data: env_args is no JSON"),
        ("env_args", '{"env_name": 3}', r"env_args env_name is int"),
        ("env_args", '{"env_name": "L", "env_kwargs": [1]}', r"env_kwargs is list"),
        ("env_args", empty, r"no 'env_args'.*--control-hz 20 --images"),
        ("env_args", "null", r"no 'env_args'.*--control-hz"),
        ("macros_image_convention", "opengll", r"macros_image_convention .*did you mean 'opengl'"),
        ("macros_image_convention", 1, r"macros_image_convention is int"),
        ("problem_info", "{", r"problem_info is no JSON"),
    ],
)
def test_an_attribute_of_a_file_that_cannot_be_read_is_named(tmp_path, name, value, message):
    value = value() if callable(value) else value
    file = write(tmp_path / "a.hdf5", attributes={name: value})
    with pytest.raises(DatasetError, match=rf"a\.hdf5.*{message}"):
        read(file)


def _on_the_file(file: Any, env: dict[str, Any]) -> None:
    file.attrs["macros_image_convention"] = "opengl"


def _in_env_args(file: Any, env: dict[str, Any]) -> None:
    file["data"].attrs["env_args"] = json.dumps({**env, "macros_image_convention": "opengl"})


def _in_env_kwargs(file: Any, env: dict[str, Any]) -> None:
    env["env_kwargs"]["macros_image_convention"] = "opengl"
    file["data"].attrs["env_args"] = json.dumps(env)


@pytest.mark.parametrize("say", [_on_the_file, _in_env_args, _in_env_kwargs])
def test_orientation_is_read_wherever_a_writer_put_it(tmp_path, say):
    file = write(tmp_path / "a.hdf5", change=lambda file: say(file, env_args()))
    assert read(file)[0].facts.upside_down

    def contradict(opened):
        opened["data"].attrs["macros_image_convention"] = "opencv"
        say(opened, env_args())

    with pytest.raises(DatasetError, match=r"convention is 'opencv' and 'opengl'.*--images"):
        read(write(tmp_path / "b.hdf5", change=contradict))


@pytest.mark.parametrize("name", ["problem_info", "bddl_file_name"])
def test_a_libero_file_that_does_not_say_how_its_images_lie_is_refused(tmp_path, name):
    file = write(tmp_path / "a.hdf5", attributes={name: LIBERO[name]})
    with pytest.raises(DatasetError, match=r"a\.hdf5 data .*how its images lie.*--images"):
        read(file)
    assert read(file, upside_down=True)[0].facts.upside_down


@pytest.mark.parametrize(
    "env",
    [
        {"env_kwargs": {"control_freq": 20, "controller": "JOINT_VELOCITY"}},
        {"env_kwargs": {"control_freq": 20, "controller_config": {"type": "JOINT_VELOCITY"}}},
        {"env_kwargs": {"control_freq": 20}, "controller_configs": {"type": "JOINT_VELOCITY"}},
    ],
)
def test_a_controller_is_read_wherever_a_writer_put_it(tmp_path, env):
    (demo, *_) = read(write(tmp_path / "a.hdf5", env={"env_name": "Lift", **env}))
    assert demo.facts.action["kind"] == "joint_velocity"


@pytest.mark.parametrize("rate", [10**400, 1e9, -1, "20Hz"])
def test_a_rate_of_no_arm_is_refused(tmp_path, rate):
    file = write(tmp_path / "a.hdf5", env=env_args(control_freq=rate))
    with pytest.raises(DatasetError, match=r"a\.hdf5 data: control_freq is .*steps of a second"):
        read(file)


@pytest.mark.parametrize("value", [empty, lambda: "", lambda: np.array([], "S1")])
def test_an_empty_attribute_says_nothing(tmp_path, value):
    def change(file):
        for name in ("macros_image_convention", "problem_info", "bddl_file_name"):
            file["data"].attrs[name] = value()
        set_lang(file, value())

    file = write(tmp_path / "a.hdf5", change=change)
    assert not read(file, instruction="do it")[0].facts.upside_down
    with pytest.raises(DatasetError, match=r"demo_0 has no instruction.*--instruction"):
        read(file)


@pytest.mark.parametrize(
    ("lang", "read_as"),
    [(["lift it"], "lift it"), ("  Lift it.\n", "lift it"), (None, "told"), ([], "told")],
)
def test_an_instruction_may_be_a_list_of_one(tmp_path, lang, read_as):
    file = write(tmp_path / "a.hdf5", lang=lang)
    assert read(file, instruction="told")[0].instruction == read_as


@pytest.mark.parametrize("lang", [["a", "b"], 3, {"en": "lift"}, "\ud800", [3], "."])
def test_an_instruction_that_is_no_text_is_refused_with_its_demonstration(tmp_path, lang):
    with pytest.raises(DatasetError, match=r"a\.hdf5 demo_0.*(lang|instruction)"):
        read(write(tmp_path / "a.hdf5", lang=lang))


def test_one_of_several_instructions_is_chosen_by_the_flag(tmp_path):
    file = write(tmp_path / "a.hdf5", lang=["lift", "raise"])
    assert read(file, instruction="lift")[0].instruction == "lift"


@pytest.mark.parametrize("rate", [12.5, 29.97, 0.4, 20.000001, "12.5"])
def test_a_rate_that_lerobot_would_round_is_refused(tmp_path, rate):
    file = write(tmp_path / "a.hdf5", env=env_args(control_freq=rate))
    with pytest.raises(DatasetError, match=r"a\.hdf5 data: control_freq is .*whole frames"):
        read(file)


@pytest.mark.parametrize("rate", [0, -20, float("nan"), float("inf"), True, [20], "fast", {}])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    file = write(tmp_path / "a.hdf5", env=env_args(control_freq=rate))
    with pytest.raises(DatasetError, match=r"a\.hdf5 data: control_freq is .*expected the steps"):
        read(file)


@pytest.mark.parametrize("rate", [15, 15.0, "15"])
def test_a_whole_rate_is_kept(tmp_path, rate):
    file = write(tmp_path / "a.hdf5", env=env_args(control_freq=rate))
    assert read(file)[0].facts.control_hz == 15


@pytest.mark.parametrize(
    "env",
    [{"env_name": "Lift"}, {"env_name": "Lift", "env_kwargs": None}, env_args(control_freq=None)],
)
def test_a_rate_that_the_file_does_not_say_is_the_flags(tmp_path, env):
    file = write(tmp_path / "a.hdf5", env=env)
    assert read(file, control_hz=10)[0].facts.control_hz == 10
    with pytest.raises(DatasetError, match=r"no control_freq.*--control-hz"):
        read(file)


def test_a_flag_that_contradicts_the_file_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="control_freq is 20, --control-hz says 10"):
        read(write(tmp_path / "a.hdf5"), control_hz=10)


def test_a_file_without_env_args_is_read_with_flags(tmp_path):
    def change(file):
        del file["data"].attrs["env_args"]

    file = write(tmp_path / "open_drawer.hdf5", change=change)
    with pytest.raises(DatasetError, match=r"no 'env_args'.*--images"):
        read(file, control_hz=20)
    demo = read(file, control_hz=20, upside_down=True)[0]
    assert (demo.facts.task, demo.facts.control_hz, demo.facts.upside_down) == (
        "open_drawer", 20, True,
    )  # fmt: skip
    assert demo.facts.action == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: _replace(file, "data/demo_0", 3), "demo_0 is no group"),
        (lambda file: _replace(file, "data/demo_0/obs", 3), "demo_0 has no images"),
        (
            lambda file: _replace(file, "data/demo_0/actions", b"text"),
            "demo_0 has actions of shape",
        ),
        (lambda file: _replace(file, "data/demo_0/actions", np.full((3, 7), 1e300)), "not finite"),
        (
            lambda file: _replace(file, "data/demo_0/actions", np.ones((3, 7), complex)),
            "complex128",
        ),
        (lambda file: _replace(file, "data", 3), "no group 'data'"),
    ],
)
def test_parts_of_another_kind_are_refused_by_name(tmp_path, change, message):
    with pytest.raises(DatasetError, match=rf"a\.hdf5.*{message}"):
        read(write(tmp_path / "a.hdf5", change=change))


def _replace(file: Any, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


@pytest.mark.parametrize("made", ["a group", "nothing"])
def test_a_mask_that_is_no_list_is_refused(tmp_path, made):
    def change(file):
        if made == "a group":
            file.create_group("mask/train")
        else:
            file.create_dataset("mask/train", data=empty())

    file = write(tmp_path / "a.hdf5", change=change)
    with pytest.raises(DatasetError, match=r"a\.hdf5: mask/train is no list of demonstrations"):
        list_demos(file, mask="train")
