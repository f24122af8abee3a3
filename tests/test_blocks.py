"""Images are encoded in blocks, so that an encoder's memory does not grow with their number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL, small_model
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.train import latent_cache
from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.settings import TrainSettings


@pytest.mark.parametrize("cache", [True, False])
def test_no_more_images_than_a_block_are_encoded_at_once(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(latent_cache, "PIXELS_AT_ONCE", 3 * 32 * 32)
    root = write_toy_dataset(tmp_path / "toy", size=32, episodes=2, steps=8)
    model, counts = small_model(), []

    def counted(encode):
        def count(images):
            counts.append(len(images))
            return encode(images)

        return count

    monkeypatch.setattr(model, "encode_frames", counted(model.encode_frames))
    monkeypatch.setattr(model, "encode_condition", counted(model.encode_condition))
    settings = TrainSettings(
        stage="video", data=root, init=root, out=Path("none"), batch_size=2, cache=cache
    )
    batches = Batches(model, Demonstrations(root, SMALL), settings)
    batch = batches.load(np.array([0, 1]), generator=torch.Generator())
    assert len(batch.moments_BVTChw) == 2
    assert max(counts) == 3
