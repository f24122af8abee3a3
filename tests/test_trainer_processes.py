"""Trainings in processes that are killed, read-only folders, and two processes joined by gloo."""

import ctypes
import json
import os
import random
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from trainers import start_trainers, toy_settings

from vp_agent.files import hash_tree
from vp_agent.train.settings import TrainSettings

pytestmark = pytest.mark.slow  # processes of their own


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    return toy_settings(
        tmp_path_factory.mktemp("base"),
        small_model(SMALL.replace(action_stats=None)),
        stage="joint",
        steps=6,
    )


def end(trainers, log: Path, *, timeout_s: float = 120) -> tuple[list[int], str]:
    """Exit codes and everything printed."""
    for trainer in trainers:
        trainer.join(timeout_s)
        trainer.kill()
    text = "".join(x.read_text() for x in sorted(log.parent.glob(f"{log.name}.*")))
    return [trainer.exitcode for trainer in trainers], text


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(base, tmp_path, processes):
    rng = random.Random(processes)
    whole = replace(base, out=tmp_path / "whole")
    codes, text = end(start_trainers(whole, tmp_path / "a", processes=processes), tmp_path / "a")
    assert not any(codes), text
    killed = replace(base, out=tmp_path / "killed")
    for kill in range(4):
        resume = (killed.out / "config.json").is_file()
        trainers = start_trainers(
            replace(killed, resume=resume), tmp_path / "b", processes=processes
        )
        if kill < 3:  # inside the first save of this life, or after it
            before = set(killed.out.glob(".step-*"))
            while not set(killed.out.glob(".step-*.tmp-*")) - before:
                assert all(trainer.is_alive() for trainer in trainers)
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
            for trainer in rng.sample(trainers, processes):
                trainer.kill()
        codes, text = end(trainers, tmp_path / "b")
    assert not any(codes), text
    assert hash_tree(killed.out / "step-00000006") == hash_tree(whole.out / "step-00000006")


def test_two_processes_see_other_samples_than_one_and_count_them_all(base, tmp_path):
    losses, trained = [], []
    for processes in (1, 2):
        run = replace(base, out=tmp_path / f"{processes}", steps=2, accumulation=2)
        log = tmp_path / "log"
        codes, text = end(start_trainers(run, log, processes=processes), log)
        assert not any(codes), text
        losses.append(json.loads((run.out / "metrics.jsonl").read_text().splitlines()[0])["loss"])
        config = json.loads((run.out / "step-00000002/agent/config.json").read_text())
        trained.append(config["training"][0].split(" on ")[0])
    assert losses[0] != losses[1]
    assert trained == ["joint, 2 steps of 4", "joint, 2 steps of 8"]


def poison(rank: int) -> None:
    """In the process of `rank`, every loss is not a number from the third step on."""
    import vp_agent.train.stages as stages

    honest, calls = stages.policy_losses, []

    def poisoned(*args, **kwargs):
        losses = honest(*args, **kwargs)
        calls.append(1)
        broken = len(calls) >= 3 and os.environ["RANK"] == str(rank)
        return replace(losses, total=losses.total * float("nan")) if broken else losses

    stages.policy_losses = poisoned


def test_a_loss_that_is_not_a_number_on_one_process_stops_both(base, tmp_path):
    run = replace(base, out=tmp_path / "run")
    trainers = start_trainers(run, tmp_path / "log", processes=2, before=partial(poison, 1))
    codes, text = end(trainers, tmp_path / "log")
    assert codes == [1, 1]
    assert (
        text.count("NonFiniteLoss: step 3: gradient norm nan; process 1: loss nan, samples [") == 2
    )
    assert "process 0: loss" not in text
    assert (run.out / "latest").read_text() == "step-00000002"


def test_what_stops_the_first_process_stops_the_second(base, tmp_path):
    run = replace(base, out=tmp_path / "run")
    run.out.mkdir()
    (run.out / "something").touch()
    codes, text = end(start_trainers(run, tmp_path / "log", processes=2), tmp_path / "log")
    assert codes == [1, 1]
    assert "OutputExistsError" in text
    assert "OtherProcessError: process 0 stopped: OutputExistsError" in text


def obey_permissions() -> None:
    """Root may write everywhere; without its capabilities it may not."""
    if os.getuid() == 0:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0


def test_a_folder_that_may_not_be_written_keeps_its_checkpoint(base, tmp_path):
    run, log = replace(base, out=tmp_path / "run", steps=2), tmp_path / "log"
    codes, text = end(start_trainers(run, log), log)
    assert codes == [0], text
    wanted = hash_tree(run.out)
    (run.out / ".lock").chmod(0o444)
    run.out.chmod(0o555)
    more = replace(run, resume=True)
    codes, text = end(start_trainers(more, log, before=obey_permissions), log)
    run.out.chmod(0o755)
    assert codes == [1]
    assert f"PermissionError: [Errno 13] Permission denied: '{run.out}" in text
    assert hash_tree(run.out) == wanted
