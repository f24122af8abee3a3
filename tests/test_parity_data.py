"""Training samples agree with the published data pipeline's, from a real LeRobot dataset."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_formula import EPS, farthest, golden, numbers
from small import SMALL
from torch import Tensor

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.config import ActionStats, ConditioningConfig
from vp_agent.model import canvas
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.windows import fit_images, normalise, to_signed

GOLDEN = golden("data.npz")
STEPS, STARTS = 37, (0, 10, 36)
SCALED = 2 * 2 * EPS  # x / 127.5 - 1 of a byte: two operations on numbers of at most 2
CONFIG = SMALL.replace(
    views=("gripper", "left", "right"),
    frames_per_view=8,
    frame_stride=4,
    horizon=32,
    execute=16,
    resolution=(16, 16),
)


def image(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.floor((numbers(name, shape) + 0.5) * 256).astype(np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episode(tmp_path_factory.mktemp("golden") / "episode")


@pytest.fixture(scope="module")
def data(root: Path) -> Demonstrations:
    return Demonstrations(root, CONFIG, holdout=0, action_padding="zero")


def write_episode(root: Path) -> Path:
    """The golden episode with LeRobot's writer; images as files, because video loses bits."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features: dict = {
        f"observation.images.{view}": {
            "dtype": "image",
            "shape": (16, 16, 3),
            "names": ["height", "width", "channels"],
        }
        for view in CONFIG.views
    }
    features["action"] = {"dtype": "float32", "shape": (7,), "names": None}
    dataset = LeRobotDataset.create("golden/episode", 20, features, root=root, use_videos=False)
    actions = (2 * numbers("data.actions", (STEPS, 12)))[:, :7].astype(np.float32)
    images = {view: image(f"data.{view}", (STEPS, 16, 16, 3)) for view in CONFIG.views}
    for step in range(STEPS):
        frame = {f"observation.images.{view}": x[step] for view, x in images.items()}
        dataset.add_frame({**frame, "action": actions[step], "task": "an instruction"})
    dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


def test_the_action_range_agrees(data):
    # a choice among float32 actions below 1, theirs among float64: one rounding
    assert farthest(np.array([data.action_stats.min]), GOLDEN["min"]) <= EPS
    assert farthest(np.array([data.action_stats.max]), GOLDEN["max"]) <= EPS


@pytest.mark.parametrize("start", STARTS)
def test_the_canvas_agrees_also_past_the_episodes_end(data, start):
    slots = canvas.compose(to_signed(data.pixels(np.array([start]))))[0]
    assert farthest(slots, GOLDEN[f"s{start}_jpg"]) <= SCALED


@pytest.mark.parametrize("start", STARTS)
def test_each_view_is_conditioned_on_its_current_frame(data, start):
    current = to_signed(data.pixels(np.array([start])))[:, :, 0]
    slots = canvas.compose_condition(current, frames=8)[0]
    for slot, name in (
        (0, ""),
        (1, "_2"),
        (8, "_2"),
        (9, "_3"),
        (16, "_3"),
        (17, "_4"),
        (24, "_4"),
    ):
        assert farthest(slots[[slot]], GOLDEN[f"s{start}_cond_frames{name}"]) <= SCALED


@pytest.mark.parametrize("start", STARTS)
def test_normalised_actions_agree_zeros_past_the_end_included(data, start):
    stats = ActionStats(min=tuple(GOLDEN["min"][0]), max=tuple(GOLDEN["max"][0]))
    chunk = data.chunk(np.array([start]))
    # 2 (a - min) / (max - min) - 1 within [-1, 1], ranges above 1.8: four operations on numbers
    # of at most 2, here and there
    ours = normalise(chunk.actions_BKA, stats)[0]
    assert farthest(ours, GOLDEN[f"s{start}_pose"]) <= 4 * 2 * EPS
    assert int(chunk.action_is_pad_BK.sum()) == max(0, start + 32 - STEPS)


def test_the_ids_beside_the_images_agree():
    told = ConditioningConfig()
    assert set(GOLDEN["s0_fps_id"]) == {told.fps_id}
    assert set(GOLDEN["s0_motion_bucket_id"]) == {told.motion_bucket_id}


@pytest.mark.parametrize(
    ("name", "shape", "key"),
    [
        ("data.wide", (1, 48, 80, 3), "resize_wide_80x48_to_32x32"),
        ("data.tall", (1, 60, 40, 3), "resize_tall_40x60_to_32x24"),
    ],
)
def test_images_of_another_shape_are_cut_and_resized_the_same(name, shape, key):
    wanted = GOLDEN[key]
    images: Tensor = torch.from_numpy(image(name, shape)).movedim(-1, -3)
    fitted = fit_images(images, wanted.shape[-2:])
    # both resize 8-bit numbers to 8-bit numbers
    assert farthest(to_signed(fitted)[0], wanted) <= SCALED


def test_a_dataset_of_another_size_is_resized(root):
    pixels = Demonstrations(root, CONFIG.replace(resolution=(16, 32))).pixels(np.array([0]))
    assert pixels.shape == (1, 3, 8, 3, 16, 32)


def test_a_horizon_of_zero_shows_copies_of_the_current_frame(root, data):
    still = Demonstrations(root, CONFIG.replace(frame_stride=0)).pixels(np.array([10]))
    current = data.pixels(np.array([10]))[:, :, :1]
    assert torch.equal(still, current.expand_as(still))
