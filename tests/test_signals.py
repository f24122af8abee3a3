"""Signals end a training after a checkpoint, from which it goes on bit for bit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from trainers import start_trainers, toy_settings

from vp_agent.files import hash_tree
from vp_agent.train.interruption import Interruption, TrainingStopped
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import train


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    start = small_model(SMALL.replace(action_stats=None))
    folder = tmp_path_factory.mktemp("base")
    return toy_settings(folder, start, stage="action", steps=4, save_every=4, eval_every=4)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> TrainSettings:
    settings = replace(base, out=tmp_path_factory.mktemp("whole") / "run")
    train(settings)
    return settings


def signal_in_step(monkeypatch, step: int, number: int) -> None:
    """This process gets the signal in the middle of that step's pass."""
    import vp_agent.train.stages as stages

    honest, passes = stages.policy_losses, []

    def losses(*args, **kwargs):
        passes.append(1)
        if len(passes) == step:
            os.kill(os.getpid(), number)
        return honest(*args, **kwargs)

    monkeypatch.setattr(stages, "policy_losses", losses)


@pytest.fixture
def heard():
    """Signals as at a terminal; what runs in the background of a script ignores some of them."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.usefixtures("heard")
def test_a_signal_saves_the_step_and_the_resume_is_bit_identical(
    base, whole, tmp_path, monkeypatch, capfd, number
):
    run, before = replace(base, out=tmp_path / "run"), signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 2, number)
        with pytest.raises(TrainingStopped) as stopped:
            train(run)
    assert stopped.value.code == 128 + number
    assert [x.name for x in run.out.glob("step-*")] == ["step-00000002"]
    said = f"{number.name}: step 2 is saved in {run.out}/step-00000002; go on with --resume"
    assert said in capfd.readouterr().err
    assert signal.getsignal(number) == before
    train(replace(run, resume=True))
    assert hash_tree(run.out / "step-00000004") == hash_tree(whole.out / "step-00000004")


def test_a_signal_in_the_last_step_changes_nothing(base, whole, tmp_path, monkeypatch):
    signal_in_step(monkeypatch, 4, signal.SIGTERM)
    last = train(replace(base, out=tmp_path / "run"))
    assert hash_tree(last) == hash_tree(whole.out / "step-00000004")


def test_a_second_signal_ends_at_once():
    twice = """
import os, signal, time
from vp_agent.train.interruption import Interruption
with Interruption() as interruption:
    interruption.listen()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", twice], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGTERM
    assert ended.stderr.strip().startswith("SIGTERM: finishing this step and saving it")


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            interruption.listen()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_two_processes_stop_after_the_same_step_when_one_gets_the_signal(base, tmp_path):
    long = replace(base, steps=12, save_every=100, eval_every=100)
    whole, run = replace(long, out=tmp_path / "whole"), replace(long, out=tmp_path / "run")
    end(start_trainers(whole, tmp_path / "a", processes=2))
    trainers = start_trainers(run, tmp_path / "b", processes=2)
    metrics = run.out / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text().count("grad_norm") >= 2):
        assert all(trainer.is_alive() for trainer in trainers), (tmp_path / "b.0").read_text()
        time.sleep(0.01)
    os.kill(trainers[1].pid, signal.SIGTERM)  # the second only
    assert end(trainers) == [128 + signal.SIGTERM] * 2, Path(tmp_path / "b.1").read_text()
    saved = [x.name for x in run.out.glob("step-*")]
    assert len(saved) == 1
    assert saved != ["step-00000012"]
    assert end(start_trainers(replace(run, resume=True), tmp_path / "b", processes=2)) == [0, 0]
    assert hash_tree(run.out / "step-00000012") == hash_tree(whole.out / "step-00000012")


def end(trainers) -> list[int]:
    for trainer in trainers:
        trainer.join(180)
        trainer.kill()
    return [trainer.exitcode for trainer in trainers]
