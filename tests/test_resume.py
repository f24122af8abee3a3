"""What --resume may go on from, what it refuses, and that it deletes no checkpoint in doubt."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_damage import alter_in_place
from safetensors.torch import load_file, save_file
from small import SMALL, small_model
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import AgentFolderError, ConfigError
from vp_agent.files import hash_tree, sha256, write_json
from vp_agent.folder import save_agent
from vp_agent.train.run import Run, data_fingerprints
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import train

KEY_MAP = {"action_names": ["x", "y", "z", "a", "b", "c", "hand"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> TrainSettings:
    """A finished run with the checkpoints of two steps."""
    folder = tmp_path_factory.mktemp("whole")
    save_agent(small_model(SMALL.replace(action_stats=None)), folder / "start", card="")
    (folder / "names.json").write_text(json.dumps(KEY_MAP))
    settings = TrainSettings(
        stage="action",
        data=write_toy_dataset(folder / "toy", size=32, episodes=3, steps=14),
        key_map=(str(folder / "names.json"),),
        init=folder / "start",
        out=folder / "run",
        steps=2,
        batch_size=2,
        holdout=0,
        save_every=1,
        log_every=1,
        threads=1,
        device="cpu",
    )
    train(settings)
    return replace(settings, resume=True)


@pytest.fixture
def run(whole, tmp_path) -> TrainSettings:
    shutil.copytree(whole.out, tmp_path / "run")
    return replace(whole, out=tmp_path / "run")


def _refuses(run: TrainSettings, error: type[Exception], match: str) -> None:
    before = hash_tree(run.out)
    with pytest.raises(error, match=match):
        train(run)
    assert hash_tree(run.out) == before


def test_without_a_whole_checkpoint_nothing_is_deleted(run):
    for folder in run.out.glob("step-*"):
        (folder / "trainer.json").write_text("{")
    _refuses(run, AgentFolderError, r"step-00000002: .*; step-00000001: .*rm -r .*/step-\*")


def test_a_stray_file_stops_a_resume_and_costs_no_checkpoint(run):
    (run.out / "step-00000002/agent/notes.txt").write_text("")
    _refuses(run, AgentFolderError, r"rm \S+/step-00000002/agent/notes.txt")


def test_a_checkpoint_that_cannot_be_read_now_is_kept(run):
    file = run.out / "step-00000002/trainer.json"
    file.unlink()
    file.mkdir()  # reading it is an error that says nothing about the file
    _refuses(run, AgentFolderError, "step-00000002 cannot be read")


def test_a_copy_beside_the_checkpoints_is_left_alone(run):
    shutil.copytree(run.out / "step-00000001", run.out / "step-00000001 copy")
    assert Run(folder=run.out).take_up() == run.out / "step-00000002"
    Run(folder=run.out).keep(run.out / "step-00000002", replace(run, keep=1))
    assert {x.name for x in run.out.glob("step-*")} == {"step-00000002", "step-00000001 copy"}


@pytest.fixture
def data(run, tmp_path) -> Path:
    """The run's dataset, copied to where the run now says that it was all along."""
    assert isinstance(run.data, Path)
    path = shutil.copytree(run.data, tmp_path / "toy")
    config = json.loads((run.out / "config.json").read_text())
    (run.out / "config.json").write_text(json.dumps(config | {"data": str(path)}))
    return path


def test_a_resume_with_copied_data_goes_on(run, data):
    train(replace(run, data=data))


def test_a_resume_with_other_data_under_the_same_name_is_refused(run, data):
    shutil.rmtree(data)
    write_toy_dataset(data, size=32, episodes=3, steps=14, seed=1)
    _refuses(replace(run, data=data), ConfigError, f"--resume: {data} or its key map has changed")


def test_a_resume_with_a_video_altered_in_place_is_refused(run, data):
    alter_in_place(sorted(data.glob("videos/**/*.mp4"))[0])
    _refuses(replace(run, data=data), ConfigError, f"--resume: {data} or its key map has changed")


def test_a_table_altered_in_place_changes_what_is_noted_of_the_data(run, data):
    run = replace(run, data=data)
    before = data_fingerprints(run)
    alter_in_place(next(data.glob("data/*/*.parquet")))
    assert data_fingerprints(run) != before


def test_a_run_whose_data_was_noted_by_size_goes_on(run):
    config = json.loads((run.out / "config.json").read_text())
    config["data_fingerprints"] = data_fingerprints(run, contents=False)
    (run.out / "config.json").write_text(json.dumps(config))
    train(run)


def test_a_resume_with_an_edited_key_map_is_refused(run, tmp_path):
    edited = tmp_path / "names.json"
    edited.write_text(json.dumps(KEY_MAP | {"control_hz": 20.0}))
    config = json.loads((run.out / "config.json").read_text())
    (run.out / "config.json").write_text(json.dumps(config | {"key_map": [str(edited)]}))
    _refuses(replace(run, key_map=(str(edited),)), ConfigError, "or its key map has changed")


def test_a_run_from_before_the_data_was_noted_goes_on(run):
    config = json.loads((run.out / "config.json").read_text())
    config.pop("data_fingerprints", None)
    (run.out / "config.json").write_text(json.dumps(config))
    train(run)


def _about(run: TrainSettings, **changes: object) -> None:
    path = run.out / "step-00000002/trainer.json"
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: x for name, x in about.items() if x is not ...}))


@pytest.mark.parametrize(
    "changes", [{"step": 1}, {"scaler": {"scale": 2.0}}, {"more": 1}, {"sha256": "0"}]
)
def test_an_altered_trainer_json_is_passed_over(run, capsys, changes):
    _about(run, **changes)
    assert Run(folder=run.out).latest() == run.out / "step-00000001"
    assert "step-00000002 is passed over: trainer." in capsys.readouterr().err


def test_a_checkpoint_without_a_hash_is_refused_and_kept(run):
    _about(run, sha256=...)
    _refuses(run, AgentFolderError, r"no sha256.*nothing was changed.*sha256sum \S+trainer.safe")


def test_a_checkpoint_under_another_steps_name_is_refused_and_kept(run):
    (run.out / "step-00000002").rename(run.out / "step-00000009")
    _refuses(run, AgentFolderError, "step-00000009 holds step 2; nothing was changed")


def test_a_checkpoint_whose_hash_covers_the_weights_alone_goes_on(run):
    for folder in run.out.glob("step-*"):  # as versions until 0.1 wrote them
        state = folder / "trainer.safetensors"
        save_file(load_file(state), state)
        step = int(folder.name.removeprefix("step-"))
        write_json(folder / "trainer.json", {"step": step, "scaler": None, "sha256": sha256(state)})
    assert Run(folder=run.out).latest() == run.out / "step-00000002"
    train(run)
