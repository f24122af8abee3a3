"""`vp-agent data check` names each kind of damage, and nothing in a dataset that has none."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dataset_damage import DAMAGE, DATA, other_fps
from lift_hdf5 import fly_lift, write_hdf5

from vp_agent.cli import main
from vp_agent.train.check import find_damage
from vp_agent.train.check_values import statistics
from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("robosuite", "lerobot", "h5py")),
        reason="needs the extras",
    ),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Four episodes of Lift, three views."""
    folder = tmp_path_factory.mktemp("sound")
    source = write_hdf5(folder / "lift.hdf5", fly_lift(episodes=4))
    convert_hdf5(ConvertDataSettings(files=(source,), out=folder / "lift"))
    return folder / "lift"


def test_nothing_is_found_in_a_sound_dataset(sound, capsys):
    assert find_damage(sound) == []
    assert main(["data", "check", str(sound)]) == 0
    assert capsys.readouterr().out == f"{sound}: 0 findings of 29 checks\n"


@pytest.mark.parametrize(
    ("damage", "check", "said"), DAMAGE, ids=lambda v: getattr(v, "__name__", "")
)
def test_damage_is_named_with_its_place_and_a_way_out(sound, tmp_path, damage, check, said):
    root = tmp_path / "lift"
    shutil.copytree(sound, root)
    damage(root)
    findings = find_damage(root)
    named = [f for f in findings if f.check == check and said in f"{f.where}: {f.what}"]
    assert named, "\n".join(map(str, findings)) or "nothing was found"
    assert all(f.fix for f in findings)


def test_the_command_says_each_kind_once_and_exits_with_1(sound, tmp_path, capsys):
    root = tmp_path / "lift"
    shutil.copytree(sound, root)
    other_fps(root)
    assert main(["data", "check", str(root), "--no-videos"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"timestamps: {root}/{DATA}, episode 0: frame 1 is at 0.0500 s")
    assert told[1] == "    correct fps in meta/info.json, or resample the episodes to a steady rate"
    assert told[2] == f"{root}: 1 findings of 18 checks"
    assert main(["data", "check", str(root), "--no-videos", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["check"] == "timestamps"


def test_a_folder_that_is_no_dataset_is_said_to_be_none(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "unreadable file" in capsys.readouterr().out


def test_statistics_of_many_rows_are_recomputed_exactly():
    """Sums of float32 drift: with 360,000 rows the mean of these by 2 permille."""
    rows = np.random.default_rng(0).uniform(0.99, 1, (360_000, 1)).astype(np.float32)
    exact = rows.astype(np.float64)
    stats = {name: [float(getattr(exact, name)())] for name in ("min", "max", "mean", "std")}
    files: Any = SimpleNamespace(
        root=Path("data"), vectors=["state"], stats={"state": stats}, columns={"state": rows}
    )
    assert list(statistics(files)) == []
