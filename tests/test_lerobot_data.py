"""What the LeRobot plug-in checks of the data that it is to train on, and what it learns of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_data import write_dataset, write_libero
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="the plug-in needs the extra [lerobot]")

from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

from vp_agent.config import ActionStats
from vp_agent.errors import DatasetError
from vp_agent.train.lerobot import VPAgentConfig
from vp_agent.train.lerobot.modeling_vp_agent import VPAgentPolicy

NAMES = ["x", "y", "z", "a", "b", "c", "hand"]
NARROW = ActionStats(min=(-1e-3,) * 7, max=(1e-3,) * 7)


def _meta(root: Path) -> LeRobotDatasetMetadata:
    return LeRobotDatasetMetadata("toy/square", root=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "named", action_names=NAMES)


def _policy(root: Path, *, stage="joint", stats=None, action_range="check", **changes):
    model = small_model(SMALL.replace(action_stats=stats, **changes))
    told: dict[str, Any] = {"stage": stage, "action_range": action_range}
    config = VPAgentConfig(preset="tiny-lift", device="cpu", **told)
    config.adopt(model.config)
    meta = _meta(root)
    return VPAgentPolicy(config, model=model, dataset_meta=meta, dataset_stats=meta.stats)


def test_the_policy_takes_the_names_of_the_actions_and_refuses_others(root):
    assert _policy(root).agent.config.action_names == tuple(NAMES)
    assert _policy(root, stage="video").agent.config.action_names == ()
    with pytest.raises(DatasetError, match=r"actions x, y, z, .*; the policy's are q, "):
        _policy(root, action_names=("q", *NAMES[1:]))


def test_actions_far_outside_the_agents_range_are_refused_unless_told_otherwise(root):
    with pytest.raises(DatasetError, match=r"toy/square: .* --policy\.action_range=keep"):
        _policy(root, stats=NARROW)
    with pytest.warns(UserWarning, match="in flight they are cut"):
        kept = _policy(root, stats=NARROW, action_range="keep")
    assert kept.agent.config.action_stats == NARROW
    learned = _policy(root, stats=NARROW, action_range="data").agent.config.action_stats
    assert learned == _policy(root).agent.config.action_stats
    assert _policy(root, stage="video", stats=NARROW).agent.config.action_stats == NARROW


def test_what_was_said_of_the_range_holds_for_one_run(root, tmp_path):
    with pytest.warns(UserWarning, match="in flight they are cut"):
        _policy(root, stats=NARROW, action_range="keep").save_pretrained(tmp_path)
    meta = _meta(root)
    again = VPAgentPolicy.from_pretrained(tmp_path, dataset_meta=meta, dataset_stats=meta.stats)
    assert again.config.action_range == "check"  # and yet the run goes on: it was checked
    assert again.agent.config.action_stats == NARROW


def test_images_that_lie_another_way_are_refused(tmp_path):
    libero = write_libero(tmp_path / "libero", action_names=NAMES)
    with pytest.raises(DatasetError, match=r"rot180.*flip_v.*--policy\.image_transform=rot180"):
        _policy(libero, control_hz=10.0)
    policy = _policy(libero, control_hz=10.0, image_transform="rot180")
    assert policy.agent.config.action_names[0] == "dx"  # by the key map


def test_our_own_notes_say_how_images_lie(tmp_path):
    root = write_dataset(tmp_path / "raw")
    (root / "meta/vp_agent.json").write_text(json.dumps({"env_kwargs": {"transform": "raw"}}))
    with pytest.raises(DatasetError, match=r"raw.*flip_v"):
        _policy(root)


def test_the_orientation_can_be_set_with_a_preset():
    config = VPAgentConfig(preset="tiny-lift", image_transform="rot180", device="cpu")
    assert config.video_policy.image_transform == "rot180"


def test_a_dimension_that_never_moves_is_named_with_its_dataset(tmp_path):
    root = write_dataset(tmp_path / "still", still=(3,))
    with pytest.raises(DatasetError, match="toy/square: action dimension 3 is constant"):
        _policy(root)


def test_the_text_is_encoded_in_full_precision_under_autocast(root):
    policy, text = _policy(root), "lift the cube"
    frames, cameras = SMALL.frames_per_view, SMALL.views
    batch = {f"observation.images.{view}": torch.rand(1, frames, 3, 32, 32) for view in cameras}
    batch |= {"task": [text], "action": torch.zeros(1, SMALL.horizon, 7)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = policy._read(batch, torch.Generator())
    assert np.array_equal(read.text_B1D, policy.model.encode_text([text]))
