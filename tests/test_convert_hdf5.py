"""HDF5 demonstrations as LeRobot datasets: what arrives, what a kill leaves, what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lift_hdf5 import VIEWS, drawn, fly_lift, write_hdf5

from vp_agent.cli import main
from vp_agent.errors import ConfigError, DatasetError, OutputExistsError, UnknownNameError
from vp_agent.files import hash_tree
from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5
from vp_agent.train.partial import BusyError, open_partial

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("robosuite", "lerobot", "h5py")),
    reason="needs the extras",
)
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def flown() -> list[Any]:
    return fly_lift(episodes=3)


@pytest.fixture(scope="module")
def files(flown, tmp_path_factory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("hdf5")
    put = write_hdf5(
        folder / "put.hdf5", [flown[2], flown[0]], task="PutCube", langs=["put it", "put it away"]
    )
    return write_hdf5(folder / "lift.hdf5", flown, base_mode={1: 1.0}), put


@pytest.fixture(scope="module")
def converted(files, tmp_path_factory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("converted") / "kitchen"
    return convert_hdf5(ConvertDataSettings(files=files, out=out)), out


def load(folder: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/x", root=folder, video_backend="pyav", return_uint8=True)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@slow
def test_every_frame_arrives_upright_with_its_action_and_instruction(flown, converted):
    dataset, row = load(converted[1]), 0
    told = ["lift the cube"] * 3 + ["put it", "put it away"]
    for episode, instruction in zip([*flown, flown[2], flown[0]], told, strict=True):
        for step in range(len(episode["action"])):
            item = dataset[row]
            assert item["task"] == instruction
            assert np.array_equal(item["action"], episode["action"][step])
            assert np.array_equal(
                item["observation.state"][7:10], episode["observation.state"][step, :3]
            )
            for view in VIEWS if step % 7 == 0 else ():
                image = item[f"observation.images.{view}"].permute(1, 2, 0).numpy()
                assert psnr(image, episode[f"observation.images.{view}"][step]) > 35
            row += 1
    assert row == len(dataset)
    assert dataset.fps == 20


@slow
def test_the_summary_counts_tasks_and_names_demonstrations_whose_base_moves(converted, files):
    summary, out = converted
    assert summary.tasks == {"Lift": 3, "PutCube": 2}
    assert summary.moving_base == (f"{files[0]} demo_1",)
    notes = json.loads((out / "meta/vp_agent.json").read_text())
    assert [fact["env"] for fact in notes["episodes"]] == ["Lift"] * 3 + ["PutCube"] * 2
    assert [fact["demo"] for fact in notes["episodes"][3:]] == ["demo_0", "demo_1"]
    assert load(out).meta.features["action"]["names"][6] == "gripper"


@slow
def test_robomimics_own_reader_gives_the_same_actions_and_images(files, converted):
    if find_spec("robomimic") is None:
        pytest.skip("robomimic is not installed: pip install --no-deps robomimic==0.3.0")
    from vp_agent.envs.rendering import choose_gl

    choose_gl()  # before robosuite, which robomimic imports, chooses for every later test
    obs_utils = import_module("robomimic.utils.obs_utils")
    sequences = import_module("robomimic.utils.dataset").SequenceDataset

    key = "robot0_agentview_left_image"
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"rgb": [key]}})
    source = sequences(
        str(files[0]), obs_keys=(key,), dataset_keys=("actions",), load_next_obs=False
    )
    dataset = load(converted[1])
    assert len(source) == sum(e < 3 for e in dataset.hf_dataset["episode_index"])
    for row in range(0, len(source), 11):
        theirs, ours = source[row], dataset[row]
        assert np.allclose(theirs["actions"][0, :7], ours["action"], atol=1e-6)
        image = ours["observation.images.left"].permute(1, 2, 0).numpy()
        assert psnr(image, theirs["obs"][key][0]) > 35


_RUN = """
import sys
from pathlib import Path
from vp_agent.train import convert_hdf5 as module
if __name__ == "__main__":
    module.SHARD_EPISODES = 2
    settings = module.ConvertDataSettings(files=(Path(sys.argv[1]),), out=Path(sys.argv[2]))
    module.convert_hdf5(settings)
"""


@slow
def test_a_killed_conversion_resumes_to_the_files_of_an_undisturbed_one(tmp_path, monkeypatch):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(20) for _ in range(9)])
    out, partial = tmp_path / "killed", tmp_path / "killed.partial"
    (tmp_path / "run.py").write_text(_RUN)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(tmp_path / "run.py"), str(source), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(partial.glob("shard-00001")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert not list(partial.glob("shard-00004"))
    finished = (partial / "shard-00000/meta/info.json").stat().st_mtime_ns
    monkeypatch.setattr("vp_agent.train.convert_hdf5.SHARD_EPISODES", 2)
    with pytest.raises(OutputExistsError, match="--resume"):
        convert_hdf5(ConvertDataSettings(files=(source,), out=out))
    with pytest.raises(ConfigError, match="action was 'arm' and is now 'full'"):
        convert_hdf5(ConvertDataSettings(files=(source,), out=out, action="full", resume=True))
    assert (partial / "shard-00000/meta/info.json").stat().st_mtime_ns == finished
    convert_hdf5(ConvertDataSettings(files=(source,), out=out, resume=True))
    whole = tmp_path / "whole"
    convert_hdf5(ConvertDataSettings(files=(source,), out=whole))
    killed_files, whole_files = hash_tree(out), hash_tree(whole)
    statistics = "meta/stats.json"  # LeRobot writes its keys in a set's order
    assert killed_files.pop(statistics)
    assert whole_files.pop(statistics)
    assert killed_files == whole_files
    assert json.loads((out / statistics).read_text()) == json.loads(
        (whole / statistics).read_text()
    )
    assert len(load(out)) == 180
    assert not partial.exists()


@slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """One episode of 157 MB of pixels adds less than 60 MB to what one of 2 MB needs."""
    code = """
import resource, sys
from pathlib import Path
from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5
view = {"left": "robot0_agentview_left_image"}
for name in ("small", "large"):
    source = Path(sys.argv[1]) / f"{name}.hdf5"
    convert_hdf5(ConvertDataSettings(files=(source,), out=source.with_suffix(""), views=view))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    small = drawn(10, size=256)
    small["observation.images.left"][:] = np.arange(256)[
        None, None, :, None
    ]  # noise encodes slowly
    write_hdf5(tmp_path / "small.hdf5", [small])
    large = {key: np.tile(a, (80, *[1] * (a.ndim - 1))) for key, a in small.items() if a.ndim}
    write_hdf5(tmp_path / "large.hdf5", [large | {"task": small["task"]}])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, run.stdout.split())
    assert after - before < 60_000  # kB


def test_a_skip_list_is_applied_by_the_name_of_the_task(tmp_path):
    episodes = [drawn(6) for _ in range(2)]
    first = write_hdf5(tmp_path / "a.hdf5", episodes, task="TurnOnStove")
    second = write_hdf5(tmp_path / "b.hdf5", episodes, task="TurnOffMicrowave")
    (tmp_path / "skip.json").write_text('{"TurnOnStove": ["demo_0"]}')
    settings = ConvertDataSettings(
        files=(first, second), out=tmp_path / "out", skip=tmp_path / "skip.json"
    )
    summary = convert_hdf5(settings)
    assert summary.tasks == {"TurnOnStove": 1, "TurnOffMicrowave": 2}
    assert summary.skipped == 1
    rows = load(tmp_path / "out")
    assert np.array_equal(rows[0]["action"], episodes[1]["action"][0])


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        ('{"TurnOnStov": ["demo_0"]}', "no file has the task 'TurnOnStov'; did you mean"),
        ('{"TurnOnStove": ["demo_7"]}', "TurnOnStove has no 'demo_7'"),
        ('{"TurnOnStove": ["demo_0"]}', "no demonstrations are left"),
        ("[1]", "expected"),
        ("{", "cannot be read"),
    ],
)
def test_a_skip_list_that_does_not_fit_is_refused(tmp_path, skip, message):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)], task="TurnOnStove")
    (tmp_path / "skip.json").write_text(skip)
    settings = {"files": (source,), "out": tmp_path / "out", "skip": tmp_path / "skip.json"}
    with pytest.raises((UnknownNameError, ConfigError, DatasetError), match=message):
        convert_hdf5(ConvertDataSettings(**settings))
    assert not list(tmp_path.glob("out*"))


def test_a_demonstration_that_is_left_out_is_not_looked_at(tmp_path):
    import h5py

    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6), drawn(6)])
    with h5py.File(source, "r+") as file:
        actions: Any = file["data/demo_1/actions"]
        actions[3, 2] = np.nan
        file.create_group("data/demo_extra")
    skip = tmp_path / "skip.json"
    skip.write_text('{"Lift": ["demo_1", "demo_extra"]}')
    summary = convert_hdf5(ConvertDataSettings(files=(source,), out=tmp_path / "out", skip=skip))
    assert (summary.episodes, summary.skipped) == (1, 2)


def test_a_second_resume_leaves_the_first_ones_work_alone(tmp_path):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)])
    settings = ConvertDataSettings(files=(source,), out=tmp_path / "out", resume=True)
    with open_partial(settings.out, settings.identity(), resume=False) as partial:
        (partial / ".shard-00000.tmp").mkdir()  # being written
        with pytest.raises(BusyError, match=r"another process writes .*out\.partial"):
            convert_hdf5(settings)
        assert (partial / ".shard-00000.tmp").is_dir()
    convert_hdf5(settings)
    assert not partial.exists()


def test_images_that_libero_stored_upside_down_are_turned(tmp_path):
    episode = drawn(6)
    libero = {
        "macros_image_convention": "opengl",
        "problem_info": json.dumps({"language_instruction": "open the drawer"}),
    }
    source = write_hdf5(tmp_path / "a.hdf5", [episode], langs=[""], attributes=libero, turned=True)
    convert_hdf5(ConvertDataSettings(files=(source,), out=tmp_path / "out"))
    item = load(tmp_path / "out")[0]
    image = item["observation.images.left"].permute(1, 2, 0).numpy()
    expected = episode["observation.images.left"][0]
    assert psnr(image, expected) > psnr(image, expected[::-1]) + 10
    assert item["task"] == "open the drawer"


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("LIVING_ROOM_SCENE2_pick_up_the_butter_demo.hdf5", {}),
        ("any.hdf5", {"bddl_file_name": "libero/libero_object/pick_up_the_butter.bddl"}),
    ],
)
def test_liberos_instructions_are_its_benchmarks(tmp_path, name, attributes):
    told = {"problem_info": json.dumps({"language_instruction": "Pick the butter"})}
    told["macros_image_convention"] = "opengl"
    source = write_hdf5(tmp_path / name, [drawn(6)], langs=[""], attributes=told | attributes)
    convert_hdf5(ConvertDataSettings(files=(source,), out=tmp_path / "out"))
    assert load(tmp_path / "out")[0]["task"] == "pick up the butter"


def test_a_part_of_the_state_is_no_state(tmp_path):
    import h5py

    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)])
    with h5py.File(source, "r+") as file:
        del file["data/demo_0/obs/robot0_base_pos"]
    convert_hdf5(ConvertDataSettings(files=(source,), out=tmp_path / "out"))
    assert "observation.state" not in load(tmp_path / "out").meta.features


def test_all_twelve_numbers_can_be_kept(tmp_path):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)], base_mode={0: 1.0})
    summary = convert_hdf5(
        ConvertDataSettings(files=(source,), out=tmp_path / "out", action="full")
    )
    assert summary.moving_base == ()
    dataset = load(tmp_path / "out")
    assert dataset[0]["action"].shape == (12,)
    assert dataset[0]["action"][11] == 1.0
    assert dataset.meta.features["action"]["names"][7:] == [
        "base_x", "base_y", "base_yaw", "torso", "base_mode",
    ]  # fmt: skip


def test_a_file_that_was_cut_off_is_one_line_and_exit_code_2(tmp_path, capsys):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)])
    source.write_bytes(source.read_bytes()[:3000])
    assert main(["data", "convert", str(source), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source} is no HDF5 file or is cut off")
    assert error.count("\n") == 1


def test_the_command_takes_views_in_pairs(tmp_path, capsys):
    source = write_hdf5(tmp_path / "a.hdf5", [drawn(6)])
    command = ["data", "convert", str(source), "--out", str(tmp_path / "out")]
    assert main([*command, "--views", "agent", "robot0_agentview_left_image"]) == 0
    assert "1 episodes, 6 frames" in capsys.readouterr().out
    assert load(tmp_path / "out").meta.video_keys == ["observation.images.agent"]
