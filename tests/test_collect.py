"""Collections: what is in the dataset, and what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vp_agent  # noqa: F401
from vp_agent.envs.experts import expert_for
from vp_agent.errors import ConfigError, OutputExistsError, UnknownNameError
from vp_agent.train import collect as collect_module
from vp_agent.train.action_meaning import OURS
from vp_agent.train.collect import CollectSettings, _simulate, collect, episode_file
from vp_agent.train.demonstrations import Episode, demonstrate, write_dataset
from vp_agent.train.notes import read_notes

# not importorskip: robosuite must not be imported before MUJOCO_GL is chosen
pytestmark = pytest.mark.skipif(
    find_spec("robosuite") is None or find_spec("lerobot") is None, reason="needs the extra"
)

FIELDS = {
    "env": "Robosuite-Lift-v0",
    "episodes": 3,
    "views": ("gripper", "left"),
    "resolution": (64, 64),
    "render_quality": "fast",
    "seed": 40,
    "noise": 0.2,
    "hold_steps": 2,
}
_RUN = """
import json, sys
from pathlib import Path
from vp_agent.train.collect import CollectSettings, collect
if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    fields["out"] = Path(fields["out"])
    for name in ("views", "resolution"):
        fields[name] = tuple(fields[name])
    collect(CollectSettings(**fields))
"""


def settings(out: Path, **changes: Any) -> CollectSettings:
    return CollectSettings(**{**FIELDS, "out": out, **changes})


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("collect") / "lift"
    return collect(settings(out, workers=1))


def test_lerobots_writer_has_nothing_to_say_of_decoders(tmp_path, caplog):
    frame: dict[str, Any] = {"action": np.zeros(7, np.float32)}
    frame["observation.images.left"] = np.zeros((64, 64, 3), np.uint8)
    episode = Episode(task="t", frames=[frame] * 3, facts={})
    names = {"action": [str(i) for i in range(7)]}
    write_dataset(tmp_path / "x", name="x", episodes=[episode], names=names, meta={})
    assert "torchcodec" not in caplog.text


def load(folder: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/lift", root=folder, video_backend="pyav", return_uint8=True)


def contents(folder: Path) -> dict[str, np.ndarray]:
    """Everything a user of the dataset can read, frame by frame."""
    dataset = load(folder)
    frames = [dataset[i] for i in range(len(dataset))]
    keys = [key for key in frames[0] if key != "task"]
    return {key: np.stack([np.asarray(frame[key]) for frame in frames]) for key in keys}


@pytest.mark.slow
def test_dataset_loads_in_lerobot_and_says_how_it_was_made(collected):
    dataset = load(collected.out)
    meta = json.loads((collected.out / "meta/vp_agent.json").read_text())
    assert dataset.num_episodes == 3
    assert len(dataset) == collected.frames == sum(e["steps"] for e in meta["episodes"])
    assert dataset.fps == 20
    assert dataset[0]["task"] == "lift the cube"
    assert dataset[0]["observation.images.left"].shape == (3, 64, 64)
    assert meta["env"] == "Robosuite-Lift-v0"
    assert meta["env_kwargs"] == {
        "views": ["gripper", "left"],
        "resolution": [64, 64],
        "render_quality": "fast",
        "horizon": 200,
    }
    assert read_notes(collected.out).action == OURS  # what the next conversion is compared with
    assert meta["success_rate"] == 3 / collected.tried
    assert {"robosuite", "mujoco", "lerobot"} <= meta["versions"].keys()
    for episode in meta["episodes"]:
        assert 0.2 / 5 <= episode["noise_std"] <= 0.2
        assert len(episode["half_sizes"]["cube"]) == 3
        assert episode["seed"] >= 40


@pytest.mark.slow
def test_labels_are_the_experts_and_the_noise_is_in_what_was_executed(collected):
    rows = contents(collected.out)
    difference = rows["executed_action"] - rows["action"]
    assert np.abs(rows["executed_action"]).max() <= 1
    assert difference[:, :6].std() > 0.02
    assert np.all(difference[:, 6] == 0)
    assert set(np.unique(rows["action"][:, 6])) == {-1.0, 1.0}


def test_disturbed_demonstrations_begin_where_the_arm_was_driven_and_still_succeed():
    import gymnasium as gym

    cheap: dict[str, Any] = {"views": ("left",), "resolution": (16, 16), "render_quality": "fast"}
    env = gym.make("Robosuite-Lift-v0", terminate_on_success=False, **cheap)
    expert = expert_for("Lift")
    for seed in (40, 41):
        plain, again, disturbed = (
            demonstrate(env, expert, seed=seed, noise=0.0, hold_steps=0, disturb=share)
            for share in (0.0, 0.0, 1.0)
        )
        assert plain is not None
        assert again is not None
        assert disturbed is not None  # None would be a failure
        assert np.array_equal(plain["action"], again["action"])
        facts, pushed = json.loads(str(plain["facts"])), json.loads(str(disturbed["facts"]))
        assert (facts["disturbed"], pushed["disturbed"]) == (False, True)
        assert facts["half_sizes"] == pushed["half_sizes"]  # the same scene
        moved = disturbed["observation.state"][0] - plain["observation.state"][0]
        assert np.linalg.norm(moved[:3]) > 0.02
    env.close()


@pytest.mark.slow
def test_replaying_the_executed_actions_gives_the_recorded_states_and_images(collected):
    import gymnasium as gym

    rows = contents(collected.out)
    meta = json.loads((collected.out / "meta/vp_agent.json").read_text())
    kwargs = meta["env_kwargs"]
    env = gym.make(meta["env"], terminate_on_success=False, **kwargs)
    observation, _ = env.reset(seed=meta["episodes"][0]["seed"])
    worst = 99.0
    for step in range(meta["episodes"][0]["steps"]):
        assert np.array_equal(observation["agent_pos"], rows["observation.state"][step])
        decoded = rows["observation.images.left"][step].transpose(1, 2, 0).astype(float)
        error = np.mean((decoded - observation["pixels"]["left"]) ** 2)
        worst = min(worst, 10 * np.log10(255**2 / max(error, 1e-9)))
        observation, *_ = env.step(rows["executed_action"][step])
    env.close()
    assert worst > 38  # dB; the codec must not blur what a 64 x 64 policy looks at


@pytest.mark.slow
def test_a_killed_collection_resumes_to_the_dataset_of_an_undisturbed_one(collected, tmp_path):
    out = tmp_path / "lift"
    partial = tmp_path / "lift.partial"
    fields = {**FIELDS, "out": str(out), "workers": 2}
    command = [sys.executable, "-W", "ignore", str(tmp_path / "run.py"), json.dumps(fields)]
    (tmp_path / "run.py").write_text(_RUN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(partial.glob("*.npz")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    with pytest.raises(OutputExistsError, match="--resume"):
        collect(settings(out))
    with pytest.raises(ConfigError, match=r"noise was 0\.2 and is now 0\.1"):
        collect(settings(out, noise=0.1, resume=True))
    summary = collect(settings(out, resume=True))
    assert not partial.exists()
    assert replace(summary, out=collected.out, seconds=0) == replace(collected, seconds=0)
    expected, resumed = contents(collected.out), contents(out)
    assert expected.keys() == resumed.keys()
    for key in expected:
        assert np.array_equal(expected[key], resumed[key]), key


def test_a_resume_flies_the_seeds_that_were_running_too(tmp_path, monkeypatch):
    """They may lie before successes that are there."""
    for seed in (1, 2, 3):
        episode_file(tmp_path, seed).touch()
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers, *_args, **_kwargs):
            super().__init__(workers)

    monkeypatch.setattr(collect_module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(collect_module, "_run_seed", lambda *args: asked.append(args[-1]) or True)
    outcomes = _simulate(settings(tmp_path / "out", episodes=3, seed=0), tmp_path)
    assert asked == [0]
    assert sorted(outcomes) == [0, 1, 2, 3]


def test_an_existing_output_is_never_touched(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(OutputExistsError, match="exists"):
        collect(settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_unknown_environment_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'Robosuite-Lift-v0'"):
        collect(settings(tmp_path / "out", env="Robosuite-Lfit-v0"))
    with pytest.raises(UnknownNameError, match="no scripted expert"):
        collect(settings(tmp_path / "out", env="Robosuite-PickPlaceCan-v0"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_unknown_view_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'gripper'"):
        collect(settings(tmp_path / "out", views=("griper",), workers=1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        *({"episodes": 0}, {"workers": 0}, {"noise": -0.1}, {"noise": float("nan")}, {"views": ()}),
        *({"disturb": -0.1}, {"disturb": 1.1}, {"disturb": float("nan")}),
    ],
    ids=str,
)
def test_a_bad_setting_is_refused(change, tmp_path):
    with pytest.raises(ConfigError, match=next(iter(change))):
        settings(tmp_path / "out", **change)


@pytest.mark.slow
def test_each_demonstration_of_a_tabletop_dataset_has_its_own_instruction(tmp_path):
    asked = ("push the left cube forward", "lift the middle cube")
    summary = collect(
        settings(
            tmp_path / "table", env="Tabletop-All-v0", episodes=2, workers=1, instructions=asked
        )
    )
    dataset = load(summary.out)
    tasks = {dataset[i]["task"] for i in range(len(dataset))}
    meta = json.loads((summary.out / "meta/vp_agent.json").read_text())
    assert tasks == set(asked)
    assert meta["instructions"] == list(asked)
    assert "instruction" not in meta["env_kwargs"]  # an agent trained on it is asked for any
    facts = [(e["motion"], e["named"], e["approached"]) for e in meta["episodes"]]
    assert facts == [("Push", "left", "left"), ("Lift", "middle", "middle")]
    assert set(meta["episodes"][0]["objects"]) == {"left", "middle", "right", "bin"}


@pytest.mark.parametrize(
    ("env", "instructions", "error", "words"),
    [
        ("Robosuite-Lift-v0", ("lift the left cube",), ConfigError, "Tabletop-All-v0"),
        ("Tabletop-Lift-v0", ("push the left cube forward",), UnknownNameError, "Tabletop-Push"),
        ("Tabletop-All-v0", ("lift the lfet cube",), UnknownNameError, "lift the left cube"),
    ],
)
def test_an_instruction_that_the_environment_does_not_know_is_refused_before_anything_is_written(
    tmp_path, env, instructions, error, words
):
    with pytest.raises(error, match=words):
        collect(settings(tmp_path / "out", env=env, instructions=instructions))
    assert not list(tmp_path.iterdir())
