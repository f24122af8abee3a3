"""The latent cache: variants, and what is not used by mistake."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_damage import alter_in_place
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.config import ConditioningConfig
from vp_agent.errors import DatasetError
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.jitter import jitter_clip
from vp_agent.train.latent_cache import (
    LatentCache,
    Variants,
    encode_instructions,
    read_rows,
    shelves,
)
from vp_agent.train.settings import TrainSettings
from vp_agent.train.shelf import Shelf, fill
from vp_agent.train.windows import to_signed

FRESH = SMALL.replace(action_stats=None)
NOISY = FRESH.replace(conditioning=ConditioningConfig(image_noise=0.3, scale_latents=True))
JITTER = Variants(count=3, jitter=True)


@pytest.fixture
def settings(root, tmp_path):
    return TrainSettings(
        stage="video", data=root, init=tmp_path, out=tmp_path / "run", batch_size=64, holdout=0.25
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cache_key(model: VideoPolicy, data: Demonstrations) -> str:
    """Name of the plain latents' folder."""
    return shelves(model, data, Variants())[0][0].folder.name


def files(folder: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in folder.rglob("moments.npy")}


def test_jitter_changes_all_frames_of_a_clip_alike():
    image = torch.randint(0, 256, (1, 3, 8, 8), generator=seeded(), dtype=torch.uint8)
    clip = jitter_clip(image.expand(5, 3, 8, 8), generator=seeded(1))
    assert torch.equal(clip, clip[:1].expand_as(clip))
    assert not torch.equal(clip[:1], image)
    assert torch.equal(clip, jitter_clip(image.expand(5, 3, 8, 8), generator=seeded(1)))


def test_jitter_stays_within_the_published_strengths():
    grey = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    levels = [jitter_clip(grey, generator=seeded(s)).float().mean().item() for s in range(200)]
    # Contrast, saturation and hue leave a grey image as it is; brightness times 0.8 to 1.2.
    assert 79.5 <= min(levels) < 84
    assert 116 < max(levels) <= 120.5


def test_the_first_variant_is_plain_and_the_others_differ_by_view(root):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    plain, coloured = LatentCache(model, data), LatentCache(model, data, JITTER)
    assert np.array_equal(plain.moments_NVChw, coloured.moments_NVChw)
    first, second, third = coloured._targets
    for v in range(2):
        assert not np.allclose(first[:, v], second[:, v], atol=0.01)
        assert not np.allclose(second[:, v], third[:, v], atol=0.01)


def test_a_window_is_of_one_variant_and_the_step_draws_which(root, settings):
    settings = replace(settings, jitter=True, cache_variants=3)
    model, data = small_model(FRESH), Demonstrations(root, FRESH, holdout=0.25)
    batches = Batches(model, data, settings)
    arrays = [np.asarray(x, np.float32) for x in batches.caches[0]._targets]
    ids = np.array([0, 1, 2, 3, 15, 16, 17, 18] * 3)
    seen = set()
    batch = batches.load(ids, generator=seeded())
    for i, index in enumerate(ids):
        frames = data.frame_ids(np.array([index]))[0]
        window = batch.moments_BVTChw[i].transpose(0, 1).numpy()
        (variant,) = (k for k, x in enumerate(arrays) if np.array_equal(x[frames], window))
        assert np.array_equal(batch.condition_BVChw[i], arrays[variant][index])
        seen.add(variant)
    assert seen == {0, 1, 2}
    again = batches.load(ids, generator=seeded())
    assert torch.equal(again.moments_BVTChw, batch.moments_BVTChw)


@pytest.mark.parametrize("use_cache", [True, False])
def test_held_out_windows_are_never_recoloured(root, settings, use_cache):
    settings = replace(settings, jitter=True, cache=use_cache)
    model, data = small_model(FRESH), Demonstrations(root, FRESH, holdout=0.25)
    jittered = Batches(model, data, settings)
    plain = Batches(model, data, replace(settings, jitter=False))
    for name, same in (("holdout", True), ("train", False)):
        ids = data.split(name)[:8]
        a, b = (x.load(ids, generator=seeded()).moments_BVTChw for x in (jittered, plain))
        assert torch.equal(a, b) == same


def test_without_the_cache_every_window_has_colours_of_its_own(root, settings):
    settings = replace(settings, jitter=True, cache=False, stage="vae")
    batches = Batches(small_model(FRESH), Demonstrations(root, FRESH), settings)
    clips = batches.load(np.array([3, 3]), generator=seeded()).clips_BTCHW
    assert len(clips) == 4  # two windows of two views
    assert not torch.equal(clips[0], clips[2])


def test_noise_on_condition_images_is_drawn_by_frame_and_variant(root, settings):
    settings = replace(settings, cache_variants=2)
    model, data = small_model(NOISY), Demonstrations(root, NOISY)
    batches = Batches(model, data, settings)
    (target,), (one, two) = batches.caches[0]._targets, batches.caches[0]._conditions
    clean = model.encode_frames(to_signed(data.pixels(np.array([5]))[0, :, 0])).numpy()
    assert np.allclose(target[5], clean, rtol=2e-3, atol=2e-3)  # float16 on disk
    for noisy in (one, two):
        assert not np.allclose(noisy[5], clean, atol=0.01)
        assert not np.allclose(noisy[5] - target[5], noisy[6] - target[6], atol=0.01)
    assert not np.allclose(one[5], two[5], atol=0.01)
    batch = batches.load(np.array([5] * 16), generator=seeded())
    rows = {row.numpy().tobytes() for row in batch.condition_BVChw}
    assert rows == {np.asarray(x[5], np.float32).tobytes() for x in (one, two)}


def test_an_agent_with_two_encoders_keeps_latents_of_both(root, settings):
    config = FRESH.replace(condition_encoder=True)
    model, data = small_model(config), Demonstrations(root, config)
    ids = np.array([0, 20])
    cached, fresh = (
        Batches(model, data, replace(settings, cache=cache)).load(ids, generator=seeded())
        for cache in (True, False)
    )
    assert torch.allclose(cached.condition_BVChw, fresh.condition_BVChw, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(cached.condition_BVChw, cached.moments_BVTChw[:, :, 0], atol=0.01)


def test_instructions_are_encoded_once(root, monkeypatch):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    wanted = model.encode_text(["push", "pull"])
    first = encode_instructions(model, data, cache=True)
    monkeypatch.setattr(model, "encode_text", None)
    assert torch.equal(encode_instructions(model, data, cache=True), first)
    assert torch.equal(first, wanted)
    # Those of another text tower are not taken.
    other = encode_instructions(small_model(FRESH, seed=1), data, cache=True)
    assert not torch.allclose(other, wanted, atol=0.01)


def test_more_variants_are_added_to_those_that_are_there(root, monkeypatch):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    LatentCache(model, data, JITTER)
    before = files(root)
    LatentCache(model, data, Variants(count=4, jitter=True))
    after = files(root)
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_a_line_that_a_full_disk_cut_short_does_not_count(root):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    (shelf,), _ = shelves(model, data, Variants())
    fill(data, [shelf], rank=0, world=4)
    notes = shelf._filling / "done-0.txt"
    notes.write_text(notes.read_text() + "3 do")
    assert shelf.done() == {0}


def test_the_latents_of_another_vae_or_of_changed_videos_are_not_used(root, capsys):
    data = Demonstrations(root, FRESH)
    caches = [LatentCache(small_model(FRESH, seed=s), data) for s in (0, 1)]
    assert "is of another vae; encoding anew" in capsys.readouterr().out
    assert not np.allclose(*(cache.moments_NVChw for cache in caches), atol=0.01)
    next(root.rglob("data/**/*.parquet")).touch()
    LatentCache(small_model(FRESH), data)
    assert capsys.readouterr().out == ""  # the contents are what they were
    alter_in_place(next(root.rglob("data/**/*.parquet")))
    assert cache_key(small_model(FRESH), data) not in files(root)


def test_a_cache_that_is_not_what_its_name_says_is_refused(root):
    data, folder = Demonstrations(root, FRESH), root / "vp_cache"
    models = [small_model(FRESH, seed=s) for s in (0, 1)]
    LatentCache(models[0], data)
    ours, other = (folder / cache_key(model, data) for model in models)
    shutil.copytree(ours, other)
    with pytest.raises(DatasetError, match=f"{other.name} was made of another vae; .*rm -r"):
        LatentCache(models[1], data)


def test_a_damaged_cache_is_refused(root):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    LatentCache(model, data)
    path = root / "vp_cache" / cache_key(model, data) / "moments.npy"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError, match=r"is damaged .*rm -r"):
        LatentCache(model, data)
    np.save(path, np.zeros((3, 2, 8, 4, 4), np.float16))
    with pytest.raises(DatasetError, match=r"another shape"):
        LatentCache(model, data)


def test_a_table_of_episodes_that_changed_is_encoded_anew(root):
    """It says where in the videos an episode's frames lie."""
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    before = cache_key(model, data)
    (table,) = (root / "meta/episodes").rglob("*.parquet")
    alter_in_place(table)
    assert cache_key(model, data) != before


def test_an_old_cache_that_is_damaged_is_said_and_not_used(root, capsys):
    old = root / "vp_cache" / "0123456789abcdef" / "about.json"
    old.parent.mkdir(parents=True)
    old.touch()
    LatentCache(small_model(FRESH), Demonstrations(root, FRESH))
    assert f"{old.parent} is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("keep", [0, 90])
def test_damaged_instructions_name_the_file_to_delete(root, keep):
    model, data = small_model(FRESH), Demonstrations(root, FRESH)
    encode_instructions(model, data, cache=True)
    (path,) = (root / "vp_cache").glob("text-*.npy")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=rf"{path.name} is damaged .*rm "):
        encode_instructions(model, data, cache=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_reading_a_cache_does_not_fill_the_process(tmp_path):
    shape = (4000, 2, 8, 32, 32)  # 131 MB of zeros, which take no room on the disk
    shelf = Shelf(folder=tmp_path / "shelf", shape=shape, about={}, encode=lambda x, _: x)
    shelf.start()
    shelf.finish()
    array = shelf.open()

    def mapped_mb() -> float:
        status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
        return int(status["RssFile"].split()[0]) / 1024

    before = mapped_mb()
    for rows in np.split(np.arange(4000), 100):
        read_rows([array], rows)
    assert mapped_mb() - before < 20
