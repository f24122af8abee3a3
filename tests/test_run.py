"""Run folders: one writer, whole checkpoints, the same run or none; launches and recipes."""

import dataclasses
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from small import SMALL, small_model
from trainers import toy_settings

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.cli import main
from vp_agent.errors import ConfigError
from vp_agent.files import hash_tree, sha256
from vp_agent.folder import save_agent
from vp_agent.presets import PRESETS
from vp_agent.train.checkpoint import (
    CheckpointError,
    checkpoint_tensors,
    load_checkpoint,
    save_checkpoint,
)
from vp_agent.train.launch import check_launch
from vp_agent.train.recipes import RECIPES, with_recipe
from vp_agent.train.run import RunBusyError, open_run
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import train


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    return toy_settings(
        tmp_path_factory.mktemp("base"),
        small_model(SMALL.replace(action_stats=None)),
        stage="action",
        steps=3,
    )


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> TrainSettings:
    """A finished run with the checkpoints of three steps."""
    settings = replace(base, out=tmp_path_factory.mktemp("whole") / "run", keep=3)
    train(settings)
    return settings


@pytest.fixture
def run(whole, tmp_path) -> TrainSettings:
    shutil.copytree(whole.out, tmp_path / "run")
    return replace(whole, out=tmp_path / "run", resume=True)


def test_a_second_writer_is_refused_and_the_first_one_done_another_may(run):
    accelerator = Accelerator(cpu=True)
    refused = pytest.raises(RunBusyError, match="another process trains in")
    with open_run(run, accelerator), refused:
        train(run)
    train(run)


@pytest.mark.parametrize(
    "damage", ["trainer.safetensors", "agent/unet/config.json", "trainer.json"]
)
def test_a_broken_newest_checkpoint_is_passed_over_and_made_again(run, whole, capsys, damage):
    newest = run.out / "step-00000003"
    file = newest / damage
    file.write_bytes(file.read_bytes()[:-7])
    train(run)
    assert "step-00000003 is passed over" in capsys.readouterr().err
    assert hash_tree(newest) == hash_tree(whole.out / "step-00000003")
    assert (run.out / "latest").read_text() == "step-00000003"


def test_a_pointer_that_names_nothing_is_set_right(run):
    (run.out / "latest").write_text("")
    (run.out / ".step-00000004.tmp-x").mkdir()  # of a save that was killed
    train(run)
    assert (run.out / "latest").read_text() == "step-00000003"
    assert not list(run.out.glob(".step-*"))


def test_the_newest_checkpoints_and_milestones_are_kept(base, tmp_path):
    train(replace(base, out=tmp_path / "run", steps=6, keep=1, keep_every=2))
    kept = sorted(x.name for x in (tmp_path / "run").glob("step-*"))
    assert kept == ["step-00000002", "step-00000004", "step-00000006"]


def test_a_full_disk_leaves_the_last_checkpoint(run, whole):
    """A file size limit stands for the full disk: the same error at the same place."""
    shutil.rmtree(run.out / "step-00000003")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="step 3 could not be written"):
            train(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert hash_tree(run.out / "step-00000002") == hash_tree(whole.out / "step-00000002")
    assert not (run.out / "step-00000003").exists()
    train(run)
    assert hash_tree(run.out / "step-00000003") == hash_tree(whole.out / "step-00000003")


def test_another_number_of_processes_is_refused(run):
    config = json.loads((run.out / "config.json").read_text())
    (run.out / "config.json").write_text(json.dumps(config | {"processes": 2}))
    with pytest.raises(ConfigError, match="accelerate launch --num_processes 2"):
        train(run)


def test_a_run_whose_first_agent_changed_is_refused(run, tmp_path):
    save_agent(small_model(SMALL, seed=1), tmp_path / "other", card="")
    config = json.loads((run.out / "config.json").read_text())
    config["init"] = str(tmp_path / "other")
    (run.out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="init_fingerprint"):
        train(replace(run, init=tmp_path / "other"))


def test_a_run_from_before_processes_were_noted_goes_on(run, whole):
    config = json.loads((run.out / "config.json").read_text())
    for name in ("processes", "init_fingerprint", "accumulation", "betas", "eps", "lora_rank"):
        del config[name]
    (run.out / "config.json").write_text(json.dumps(config))
    shutil.rmtree(run.out / "step-00000003")
    for about in run.out.glob("step-*/trainer.json"):
        # As it was: the hash is of the weights alone.
        state = about.with_name("trainer.safetensors")
        save_file(load_file(state), state)
        step = int(about.parent.name[5:])
        about.write_text(json.dumps({"step": step, "sha256": sha256(state)}))
    train(run)
    assert (run.out / "step-00000003/trainer.safetensors").read_bytes() == (
        whole.out / "step-00000003/trainer.safetensors"
    ).read_bytes()


def test_the_scale_of_fp16_gradients_survives_a_checkpoint(tmp_path):
    model = small_model().requires_grad_(False)
    model.action_head.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.action_head.parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    tensors = checkpoint_tensors(model, optimizer, None)
    save_checkpoint(tmp_path / "step-1", 1, model, tensors, scaler)
    fresh = torch.amp.GradScaler("cpu")
    load_checkpoint(tmp_path / "step-1", model, optimizer, None, fresh)
    assert fresh.state_dict()["scale"] == 4096.0


def test_more_processes_than_gpus_are_refused_with_the_number_there_is():
    eight = {"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
    check_launch(eight, gpus=8, device="auto")
    with pytest.raises(ConfigError, match=r"8 processes .* has 2 GPUs; .*--num_processes 2"):
        check_launch(eight, gpus=2, device="auto")
    with pytest.raises(ConfigError, match="--device cpu"):
        check_launch(eight, gpus=0, device="auto")
    check_launch(eight, gpus=0, device="cpu")
    check_launch(eight | {"ACCELERATE_USE_CPU": "true"}, gpus=0, device="auto")


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="--device cpu"):
        check_launch({}, gpus=0, device="cuda")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_made_of_settings_and_presets_that_exist(name):
    recipe = RECIPES[name]
    fields = {field.name for field in dataclasses.fields(TrainSettings)}
    assert recipe.values.keys() | set(recipe.needs) <= fields
    assert recipe.values.get("preset") in {None, *PRESETS}
    needed = {"init": Path("before"), "tasks_with_actions": ("a task",), "steps": 9}
    given = {key: needed[key] for key in recipe.needs}
    values = {k: Path(v) if k == "init" else v for k, v in recipe.values.items()}
    TrainSettings(data=Path("data"), out=Path("out"), **values, **given)


@pytest.mark.parametrize(
    ("name", "stage", "steps"),
    [  # Table 5
        ("joint", "joint", 368_866),
        ("two-stage-video", "video", 368_866),
        ("two-stage-action", "action", 368_866),
        ("no-video-tuning", "none", 368_866),
        ("joint-horizon16", "joint", 368_866),
        ("joint-horizon0", "joint", 368_866),
        ("half-tasks-action", "action", 368_866),
        ("libero10-video", "video", 170_000),
        ("libero10-action", "action", 140_000),
        ("real-256x192", "joint", 331_500),
        ("real-448x320", "joint", 92_960),
    ],
)
def test_the_recipes_are_the_papers_rows(name, stage, steps):
    values = RECIPES[name].values
    assert (values["stage"], values["steps"]) == (stage, steps)
    assert (values["lr"], values["head_lr"], values["batch_size"] * 8) == (1e-5, 5e-5, 32)


def test_flags_of_the_user_win_over_the_recipes(capsys):
    flags = ["--recipe", "joint", "--data", "d", "--out", "o", "--show"]
    assert main(["train", *flags, "--lr=3e-5", "--mask-padding", "--batch-size", "2"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["lr"], shown["mask_padding"], shown["batch_size"]) == (3e-5, True, 2)
    assert (shown["head_lr"], shown["dropout_per_slot"]) == (5e-5, True)


def test_a_recipe_that_is_not_there_or_not_complete_is_refused(capsys):
    assert main(["train", "--recipe", "joints"]) == 2
    assert "did you mean 'joint'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="also needs --init, --tasks-with-actions"):
        with_recipe(["--recipe", "half-tasks-action"])
