"""The latent cache, made by many processes, killed and gone on with."""

import json
import random
import shutil
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from foreign_data import write_dataset
from small import small_model
from test_cache import FRESH, JITTER, files
from torch import distributed
from trainers import FORKSERVER

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import ConfigError
from vp_agent.folder import save_agent
from vp_agent.train.batches import Batches
from vp_agent.train.caching import CacheSettings, cache
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.latent_cache import (
    LatentCache,
    Variants,
    shelves,
)
from vp_agent.train.settings import TrainSettings
from vp_agent.train.shelf import fill


def test_processes_share_the_episodes_and_agree_with_one(root):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    alone = LatentCache(model, data, JITTER)
    wanted = files(root)
    shutil.rmtree(root / "vp_cache")
    targets, _ = shelves(model, data, JITTER)
    fill(data, targets, rank=1, world=2)
    assert targets[0].done() == {1, 3}
    assert not files(root).keys() & wanted.keys()  # nothing has its name yet
    fill(data, targets, rank=0, world=2)
    assert files(root) == wanted
    assert np.array_equal(LatentCache(model, data).moments_NVChw, alone.moments_NVChw)


def test_the_share_of_a_dead_process_is_done_by_the_others(root):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    LatentCache(model, data, rank=1, world=3)
    alone = LatentCache(model, data).moments_NVChw
    assert len(files(root)) == 1
    assert (np.abs(np.asarray(alone, np.float32)).sum(axis=(1, 2, 3, 4)) > 0).all()


def test_an_interrupted_cache_goes_on_with_the_rest(root, monkeypatch):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    LatentCache(model, data)
    wanted = files(root)
    shutil.rmtree(root / "vp_cache")
    decoded, read = [], data.episode_pixels

    def until_the_third(episode):
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(episode)
        return read(episode)

    monkeypatch.setattr(data, "episode_pixels", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        LatentCache(model, data)
    monkeypatch.setattr(data, "episode_pixels", lambda e: decoded.append(e) or read(e))
    LatentCache(model, data)
    assert decoded == [0, 1, 2, 3]
    assert files(root) == wanted


def test_the_command_encodes_ahead_what_training_reads(root, tmp_path, capsys, monkeypatch):
    save_agent(small_model(FRESH), tmp_path / "agent", card="")
    settings = CacheSettings(data=root, init=tmp_path / "agent", jitter=True, cache_variants=2)
    assert cache(replace(settings, rank=0, world=2)) == []
    assert "2 of 4 episodes" in capsys.readouterr().out
    assert len(cache(replace(settings, rank=1, world=2))) == 2
    data = Demonstrations(root, FRESH)
    monkeypatch.setattr(data, "episode_pixels", None)  # nothing is left to encode
    LatentCache(small_model(FRESH), data, Variants(count=2, jitter=True))
    with pytest.raises(ConfigError, match="--rank"):
        replace(settings, rank=2, world=2)


def _one_of_a_run(rank: int, root: Path, settings: TrainSettings, meeting: Path) -> None:
    where = f"file://{meeting}"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    data = Demonstrations(root, FRESH)
    decoded, read = [], data.episode_pixels
    data.episode_pixels = lambda episode: decoded.append(episode) or read(episode)
    batches = Batches(small_model(FRESH), data, settings)
    np.save(meeting.with_name(f"seen-{rank}.npy"), batches.caches[0].moments_NVChw)
    meeting.with_name(f"decoded-{rank}").write_text(str(decoded))


def test_the_processes_of_a_run_make_one_cache_together(root, tmp_path):
    settings = TrainSettings(
        stage="video", data=root, init=tmp_path, out=tmp_path / "run", batch_size=64, holdout=0.25
    )
    arguments = (root, settings, tmp_path / "meeting")
    both = [FORKSERVER.Process(target=_one_of_a_run, args=(rank, *arguments)) for rank in (0, 1)]
    for child in both:
        child.start()
    for child in both:
        child.join(60)
    assert [child.exitcode for child in both] == [0, 0]
    decoded = [json.loads((tmp_path / f"decoded-{rank}").read_text()) for rank in (0, 1)]
    # Whoever is done with its own helps the other.
    assert {episode for episodes in decoded for episode in episodes} == {0, 1, 2, 3}
    assert [episodes[:1] for episodes in decoded if episodes] in ([[0], [1]], [[0]], [[1]])
    alone = LatentCache(small_model(FRESH), Demonstrations(root, FRESH)).moments_NVChw
    for rank in (0, 1):
        assert np.array_equal(np.load(tmp_path / f"seen-{rank}.npy"), alone)


@pytest.mark.slow
# What is written is a closure over the model, which only a fork can take along; its children do no
# more than read, encode and write, and a deadlock would meet the deadline.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_killed_processes_that_go_on_end_with_the_same_bytes(tmp_path):
    root = write_dataset(tmp_path / "data", episodes_per_task=40, steps=8)
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    LatentCache(model, data, JITTER)
    wanted = files(root)
    shutil.rmtree(root / "vp_cache")
    targets, _ = shelves(model, data, JITTER)
    moments, kills = random.Random(0), 0
    deadline = time.monotonic() + 120

    def written() -> int:  # episodes of all copies
        return sum(40 if target.is_whole else len(target.done()) for target in targets)

    while (begun := written()) < 40 * len(targets):
        # forked: importing everything anew would take longer than all the kills together
        both = [
            get_context("fork").Process(target=fill, args=(data, targets), kwargs=share)
            for share in ({"rank": 0, "world": 2}, {"rank": 1, "world": 2})
        ]
        for child in both:
            child.start()
        # By what is written, not by the clock: a machine may be fast or busy.
        enough = min(begun + moments.randrange(2, 32), 40 * len(targets))
        while written() < enough:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        for child in both:
            child.kill()  # SIGKILL
            child.join()
        kills += 1
    fill(data, targets)  # whoever was killed before it could give a folder its name
    assert files(root) == wanted
    assert kills >= 5
