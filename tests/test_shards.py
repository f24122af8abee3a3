"""Trainings whose weights are spread over two processes (FSDP2 on gloo), beside DDP's copies."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL, small_model, small_observation

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from test_trainer_processes import end, poison
from trainers import start_trainers, toy_settings

from vp_agent import VideoPolicyAgent
from vp_agent.errors import ConfigError
from vp_agent.files import hash_tree
from vp_agent.train.settings import TrainSettings
from vp_agent.train.shards import asks_for_shards

# What accelerate launch --use_fsdp --fsdp_version 2 sets, among other things.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    return toy_settings(
        tmp_path_factory.mktemp("base"),
        small_model(SMALL),
        stage="video",
        steps=3,
        batch_size=4,
        accumulation=2,
        lr=1e-3,
        head_lr=1e-3,
        eps=1e-3,  # with Adam's usual one the rounding of gradients near 0 becomes whole steps
        holdout=0.2,
        save_every=2,
        eval_every=2,  # so that a step follows an evaluation
    )


def count_shards() -> None:
    """Prints what share of the weights a process keeps, and whether transformers knows of it."""
    from transformers.integrations.fsdp import is_fsdp_enabled

    from vp_agent.train import trainer

    shard = trainer.shard

    def counted(policy: Any, accelerator: Any) -> None:
        before = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        shard(policy, accelerator)
        kept = sum(p.to_local().numel() for p in policy.parameters() if p.requires_grad)
        print(f"keeps {kept / before:.1f}, transformers knows: {is_fsdp_enabled()}")

    trainer.shard = counted


def run(
    settings: TrainSettings,
    launch: Mapping[str, str],
    *,
    before: Callable[[], object] = count_shards,
) -> tuple[list[int], str]:
    log = settings.out.with_name(f"{settings.out.name}.log")
    trainers = start_trainers(settings, log, processes=2, before=before, launch=launch)
    return end(trainers, log, timeout_s=400)  # thousands of collectives wait on busy cores


@pytest.fixture(scope="module")
def sharded(base, tmp_path_factory) -> TrainSettings:
    """A finished sharded run with checkpoints of steps 2 and 3."""
    settings = replace(base, out=tmp_path_factory.mktemp("sharded") / "run")
    codes, text = run(settings, FSDP2)
    assert codes == [0, 0], text
    assert text.count("keeps 0.5, transformers knows: False") == 2
    return settings


def assert_same_as_copies(sharded: TrainSettings, tmp_path: Path) -> None:
    copies = replace(sharded, out=tmp_path / "copies")
    codes, text = run(copies, {})
    assert codes == [0, 0], text
    assert "keeps" not in text
    last = f"step-{sharded.steps:08d}"
    files = sorted(x.relative_to(copies.out) for x in (copies.out / last).rglob("*.safetensors"))
    assert len(files) == 6
    for file in files:
        ours, theirs = load_file(sharded.out / file), load_file(copies.out / file)
        # Gradients of passes and processes, and their norm, are added up in another order: 1e-6
        # was seen. A step moves a weight by up to 1e-3.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    ours, theirs = (
        [json.loads(line) for line in (x.out / "metrics.jsonl").read_text().splitlines()]
        for x in (sharded, copies)
    )
    for a, b in zip(ours, theirs, strict=True):
        clock = {"samples_per_s", "loader_share", "eta_s"}
        wanted = {name: value for name, value in b.items() if name not in clock}
        # The gradient's norm differs most.
        assert {name: a[name] for name in wanted} == pytest.approx(wanted, rel=1e-3)


@pytest.mark.slow
def test_shards_end_with_the_weights_metrics_and_pictures_of_copies(sharded, tmp_path):
    assert_same_as_copies(sharded, tmp_path)
    assert "holdout_video" in (sharded.out / "metrics.jsonl").read_text()
    assert {x.suffix for x in (sharded.out / "samples").iterdir()} == {".png", ".mp4"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"stage": "action"},  # a frozen U-Net, left after its last tap
        {"stage": "joint", "lora_rank": 4, "gradient_checkpointing": True},
    ],
    ids=["action", "joint-lora"],
)
def test_shards_of_other_stages_do_too(base, tmp_path, settings):
    if "lora_rank" in settings:
        pytest.importorskip("peft", reason="needs the extra [lora]")
    settings = replace(base, **settings, steps=1, accumulation=1, holdout=0, out=tmp_path / "run")
    codes, text = run(settings, FSDP2)
    assert codes == [0, 0], text
    assert_same_as_copies(settings, tmp_path)


@pytest.mark.slow
def test_a_sharded_run_that_was_stopped_ends_with_the_same_bytes(sharded, tmp_path):
    stopped = replace(sharded, out=tmp_path / "run", resume=True)
    shutil.copytree(sharded.out, stopped.out)
    shutil.rmtree(stopped.out / "step-00000003")
    codes, text = run(stopped, FSDP2)
    assert codes == [0, 0], text
    assert "keeps 0.5" in text
    last = "step-00000003"
    assert hash_tree(stopped.out / last) == hash_tree(sharded.out / last)


@pytest.mark.slow
def test_a_sharded_checkpoint_is_an_agent_like_any_other(sharded):
    agent = VideoPolicyAgent.from_pretrained(sharded.out, device="cpu")
    assert agent.act(small_observation()).shape == (7,)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_a_sharded_run(base, tmp_path):
    settings = replace(base, save_every=1, holdout=0, out=tmp_path / "run")
    codes, text = run(settings, FSDP2, before=partial(poison, 1))
    assert codes == [1, 1]
    assert text.count("NonFiniteLoss: step 2: gradient norm nan; process 1: loss nan") == 2
    assert (settings.out / "latest").read_text() == "step-00000001"


@pytest.mark.parametrize(
    ("launch", "settings", "message"),
    [
        ({"FSDP_VERSION": "1"}, {}, "version 1 .*--use_fsdp --fsdp_version 2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "DeepSpeed .*--use_fsdp --fsdp_version 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "--fsdp_offload_params false"),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, {}, "--fsdp_reshard_after_forward true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "--gradient-checkpointing"),
        ({}, {"stage": "vae"}, "stage vae .*--multi_gpu"),
        ({}, {"mixed_precision": "fp16"}, "--mixed-precision bf16"),
    ],
)
def test_a_launch_of_shards_that_are_not_ours_is_refused(launch, settings, message):
    plain = TrainSettings(stage="video", data=Path("data"), out=Path("out"), preset="tiny-lift")
    assert not asks_for_shards({}, plain)
    assert asks_for_shards(FSDP2, plain)
    with pytest.raises(ConfigError, match=message):
        asks_for_shards(FSDP2 | launch, replace(plain, **settings))
