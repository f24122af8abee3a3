"""Every named configuration makes a network; nothing in it is tied to one number of views."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import SMALL, small_model

from vp_agent.adapter_config import AdapterConfig
from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import AgentFolderError
from vp_agent.folder import load_agent, save_agent
from vp_agent.model.adapter import output_width
from vp_agent.model.video_policy import VideoPolicy, parameter_count
from vp_agent.presets import PRESETS, preset

# views, slots, (height, width), actions, action numbers, executed, steps to the last frame
SHAPES = {
    "svd-robocasa": (3, 25, (256, 256), 32, 7, 16, 28),
    "svd-robocasa-horizon16": (3, 25, (256, 256), 32, 7, 16, 14),
    "svd-robocasa-horizon0": (3, 25, (256, 256), 32, 7, 16, 0),
    "svd-libero10": (2, 25, (256, 256), 32, 7, 16, 44),
    "svd-real-256x192": (3, 25, (192, 256), 32, 8, 24, 28),
    "svd-real-448x320": (3, 25, (320, 448), 32, 8, 24, 28),
    "svd-real": (3, 25, (320, 448), 32, 8, 24, 28),
    "tiny-lift": (2, 9, (64, 64), 16, 7, 8, 12),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_papers_numbers(name):
    c = preset(name)
    reach = (c.frames_per_view - 1) * c.frame_stride
    ours = len(c.views), c.slots, c.resolution, c.horizon, c.action_dim, c.execute, reach
    assert ours == SHAPES[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    config = preset(name)
    assert VideoPolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("svd-robocasa", 6720),
        ("svd-libero10", 6720),
        ("svd-real-256x192", 5040),
        ("svd-real-448x320", 5040),
    ],
)
def test_a_preset_makes_the_full_network(name, condition):
    config = preset(name)
    with torch.device("meta"):
        model = VideoPolicy(config)
    assert parameter_count(model.unet) == 1_524_623_082
    first: Any = model.action_head.mid[0]
    assert first.film.in_features == 256 + condition
    if name == "svd-robocasa":
        assert parameter_count(model.adapter) == 205_812_616
        assert parameter_count(model.action_head) == 161_359_111


@pytest.mark.parametrize("views", [1, 2, 3, 4])
@pytest.mark.parametrize("grid", [None, (1, 2, 2)])
def test_one_to_four_views_go_through_the_network(views, grid):
    names = ("gripper", "left", "right", "agent")[:views]
    adapter = replace(SMALL.adapter, grid=grid)
    model = small_model(SMALL.replace(views=names, adapter=adapter))
    slots = 1 + 3 * views
    with torch.no_grad():
        video, actions = model(
            torch.randn(1, slots, 4, 4, 4),
            torch.randn(1, slots, 4, 4, 4),
            torch.randn(1, 1, 32),
            torch.zeros(1),
            torch.randn(1, 1, 8, 7),
        )
    assert video.shape == (1, slots, 4, 4, 4)
    assert actions.shape == (1, 1, 8, 7)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_large_preset_takes_other_numbers_of_views(views):
    config = preset("svd-real-448x320").replace(views=tuple("abcd"[:views]))
    with torch.device("meta"):
        model = VideoPolicy(config)
    assert len(model.adapter.views) == views


def test_a_head_goes_on_at_another_resolution(tmp_path):
    config = SMALL.replace(adapter=replace(SMALL.adapter, grid=(1, 2, 2)))
    save_agent(small_model(config), tmp_path / "small", card="")
    larger = load_agent(tmp_path / "small", resolution=(48, 64))
    assert larger.config.resolution == (48, 64)
    latents = torch.randn(2, 1, 7, 4, 6, 8)
    with torch.no_grad():
        _, actions = larger(
            latents[0], latents[1], torch.randn(1, 1, 32), torch.zeros(1), torch.randn(1, 1, 8, 7)
        )
    assert actions is not None
    assert actions.isfinite().all()


def test_without_a_grid_the_head_is_refused_at_another_resolution(tmp_path):
    save_agent(small_model(), tmp_path / "small", card="")
    with pytest.raises(AgentFolderError, match=r"action_head.*expected"):
        load_agent(tmp_path / "small", resolution=(48, 64))


def test_the_grid_of_the_real_robots_presets_changes_nothing_at_the_lower_resolution():
    config = preset("svd-real-256x192")
    size = {"frames": 8, "latent_hw": config.latent_shape[1:]}
    assert output_width(config.adapter, **size) == output_width(AdapterConfig(), **size) == 5040
