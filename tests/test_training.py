"""Training: the dataset adapter, the losses, the stages, checkpoints and resume."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from typing import Any

import av
import numpy as np
import pytest
import torch
from small import SMALL, small_model
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import ConfigError, DatasetError, OutputExistsError
from vp_agent.files import hash_tree
from vp_agent.folder import load_agent, save_agent
from vp_agent.train.batches import Batch, Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.latent_cache import Variants, shelves
from vp_agent.train.losses import masked_mean, policy_losses
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import NonFiniteLoss, train
from vp_agent.train.windows import normalise, to_signed

VIDEO_ONLY = SMALL.replace(action_stats=None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_dataset(tmp_path_factory.mktemp("data") / "toy", size=32, steps=14)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "start"
    save_agent(small_model(VIDEO_ONLY), folder, card="")
    return folder


@pytest.fixture
def settings(root, start, tmp_path):
    return TrainSettings(
        stage="joint",
        data=root,
        init=start,
        out=tmp_path / "run",
        steps=4,
        batch_size=2,
        lr=1e-3,
        head_lr=1e-3,
        holdout=0.34,
        save_every=2,
        eval_every=4,
        log_every=1,
        threads=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def data(root):
    return Demonstrations(root, SMALL, holdout=0.34)


def test_a_window_holds_strided_frames_and_the_next_actions(data):
    ids = np.array([15])  # the second episode's second step
    assert data.frame_ids(ids).tolist() == [[15, 17, 19]]
    chunk = data.chunk(ids)
    assert np.array_equal(chunk.actions_BKA[0].numpy(), data.actions_NA[15:23])
    assert not chunk.action_is_pad_BK.any()
    assert not chunk.frame_is_pad_BT.any()


def test_past_the_episodes_end_the_last_entry_repeats_and_is_masked(data):
    ids = np.array([12])  # two steps before the end of the first episode
    assert data.frame_ids(ids).tolist() == [[12, 12, 12]]
    chunk = data.chunk(ids)
    assert chunk.frame_is_pad_BT.tolist() == [[False, True, True]]
    assert chunk.action_is_pad_BK[0].tolist() == [False] * 2 + [True] * 6
    assert np.array_equal(chunk.actions_BKA[0, 2].numpy(), data.actions_NA[13])


def test_windows_agree_with_lerobots_own_delta_timestamps(data):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [k / 20 for k in range(8)]}
    theirs: Any = LeRobotDataset("toy/square", root=data.root, delta_timestamps=deltas)[12]
    assert torch.equal(theirs["action"], data.chunk(np.array([12])).actions_BKA[0])
    assert torch.equal(theirs["action_is_pad"], data.chunk(np.array([12])).action_is_pad_BK[0])


def test_a_whole_episode_decodes_to_the_same_pixels_as_its_windows(data):
    episode = data.episode_pixels(1)
    window = data.pixels(np.array([14]))[0]
    assert torch.equal(episode[:, [0, 2, 4]], window)


def test_cached_latents_equal_freshly_encoded_ones(data, settings):
    model = small_model()
    cached = Batches(model, data, settings)
    fresh = Batches(model, data, replace(settings, cache=False))
    generator = torch.Generator().manual_seed(0)
    a, b = (x.load(np.array([3, 12]), generator=generator) for x in (cached, fresh))
    # float16 on disk
    assert torch.allclose(a.moments_BVTChw, b.moments_BVTChw, rtol=2e-3, atol=2e-3)
    assert torch.allclose(a.condition_BVChw, b.condition_BVChw, rtol=2e-3, atol=2e-3)


def test_another_vae_gets_another_cache(data, settings):
    names = {shelves(small_model(seed=s), data, Variants())[0][0].folder for s in (0, 1)}
    assert len(names) == 2


def test_normalised_actions_span_minus_one_to_one(data):
    actions = normalise(torch.from_numpy(data.actions_NA), data.action_stats)
    assert torch.allclose(actions.amin(0), torch.tensor(-1.0))
    assert torch.allclose(actions.amax(0), torch.tensor(1.0))


def test_masked_rows_do_not_count():
    error = torch.tensor([[[1.0, 1.0], [9.0, 9.0]]])
    assert masked_mean(error, torch.tensor([[True, False]])) == 1
    assert masked_mean(error, torch.tensor([[False, False]])) == 0


def _batch(data, ids):
    chunk = data.chunk(np.array(ids))
    generator = torch.Generator().manual_seed(1)
    moments = torch.randn(len(ids), 2, 3, 8, 4, 4, generator=generator)
    return Batch(
        chunk=chunk,
        text_B1D=torch.randn(len(ids), 1, 32, generator=generator),
        has_actions_B=torch.ones(len(ids), dtype=torch.bool),
        moments_BVTChw=moments,
        condition_BVChw=moments[:, :, 0],
    )


def test_what_is_padding_is_in_neither_loss(data):
    model, batch = small_model(), _batch(data, [12])

    def losses(**masks):
        with torch.no_grad():
            return policy_losses(
                model,
                replace(batch, chunk=replace(batch.chunk, **masks)),
                generator=torch.Generator().manual_seed(0),
                with_actions=True,
            )

    nothing_real = losses(
        frame_is_pad_BT=torch.ones(1, 3, dtype=torch.bool),
        action_is_pad_BK=torch.ones(1, 8, dtype=torch.bool),
    )
    assert nothing_real.video == 0
    assert nothing_real.action == 0
    # One real action: its own error, whatever the seven padded ones are.
    one = ~torch.eye(8, dtype=torch.bool)[:1]
    everything = losses(action_is_pad_BK=torch.zeros(1, 8, dtype=torch.bool))
    single = [losses(action_is_pad_BK=one.roll(k, 1)).action for k in range(8)]
    assert torch.allclose(torch.stack(single).mean(), everything.action)


def test_the_total_weighs_the_streams_by_their_rows(data):
    model, batch = small_model(), _batch(data, [0, 1])
    with torch.no_grad():
        losses = policy_losses(
            model, batch, generator=torch.Generator().manual_seed(0), with_actions=True
        )
    wanted = (7 * losses.video + 8 * losses.action) / 15  # 7 slots, 8 actions
    assert torch.allclose(losses.total, wanted)


@pytest.mark.parametrize(
    ("stage", "moves"),
    [
        ("vae", {"vae"}),
        ("video", {"unet"}),
        ("action", {"adapter", "action_head"}),
        ("joint", {"unet", "adapter", "action_head"}),
        ("none", {"adapter", "action_head"}),
    ],
)
def test_a_stage_trains_its_parts_and_nothing_else(settings, start, stage, moves):
    before = load_agent(start)
    after = load_agent(train(replace(settings, stage=stage)) / "agent")
    changed = set()
    for name, tensor in before.state_dict().items():
        if not torch.equal(tensor, after.state_dict()[name]):
            changed.add(name.split(".")[0])
    assert changed == moves
    assert (after.config.action_stats is not None) == (stage in ("action", "joint", "none"))


def test_training_lowers_the_held_out_losses_and_shows_what_is_imagined(settings):
    train(replace(settings, steps=40, batch_size=8, eval_every=20, save_every=40))
    lines = [json.loads(x) for x in (settings.out / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if "holdout_video" in line]
    # The same windows and the same noise every time, so these compare.
    assert held_out[-1]["holdout_video"] < held_out[0]["holdout_video"]
    assert held_out[-1]["holdout_action"] < held_out[0]["holdout_action"]
    assert {"psnr_last_left", "psnr_copy_left", "action_mae"} <= held_out[-1].keys()
    assert (settings.out / "samples" / "step-00000040.png").is_file()
    with av.open(str(settings.out / "samples" / "step-00000040.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert [x.shape[1] for x in frames] == [2 * 2 * 32] * 3  # views, true and imagined, width


def test_a_resumed_run_ends_with_the_same_bits(settings, tmp_path):
    whole = train(settings)
    halves = replace(settings, out=tmp_path / "halves")
    stopped = replace(halves, steps=4)
    run = subprocess.Popen(
        [sys.executable, "-c", _KILLED, *_flags(stopped)], stdout=subprocess.PIPE, text=True
    )
    latest = stopped.out / "latest"
    deadline = time.monotonic() + 240
    while not latest.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert latest.read_text().startswith("step-")
    resumed = train(replace(stopped, resume=True))
    assert (resumed / "trainer.safetensors").read_bytes() == (
        whole / "trainer.safetensors"
    ).read_bytes()
    a, b = (hash_tree(x / "agent" / "unet") for x in (whole, resumed))
    assert a == b


_KILLED = """
import sys, time
from vp_agent.train.run import Run
keep = Run.keep
def keep_then_wait(*args, **kwargs):
    keep(*args, **kwargs)
    time.sleep(600)  # killed here, after the first checkpoint
Run.keep = keep_then_wait
from vp_agent.cli import main
main(sys.argv[1:])
"""


def _flags(settings: TrainSettings) -> list[str]:
    names = ("stage", "data", "init", "out", "steps", "batch_size", "lr", "head_lr", "holdout")
    names += ("save_every", "eval_every", "log_every", "threads", "device")
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(settings, name))) for name in names]
    return ["train", *(word for pair in pairs for word in pair)]


def test_training_does_not_see_torchs_default_dtype_and_device(settings, tmp_path):
    hashes = []
    for dtype, device, out in ((torch.float32, "cpu", "plain"), (torch.float64, "meta", "odd")):
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                last = train(replace(settings, out=tmp_path / out, steps=2, eval_every=2))
        finally:
            torch.set_default_dtype(torch.float32)
        state = (last / "trainer.safetensors").read_bytes()
        hashes.append((hash_tree(last / "agent"), sha256(state).hexdigest()))
    assert hashes[0] == hashes[1]


def test_only_the_first_episodes_have_labels(settings, data):
    batches = Batches(small_model(), data, replace(settings, stage="action", action_episodes=2))
    assert set(data.episode_N[batches.train_ids]) == {0, 1}
    joint = Batches(small_model(), data, replace(settings, action_episodes=2))
    # Episodes 0 and 1 have labels, 2 and 3 have not, 4 and 5 are held out and keep theirs.
    batch = joint.load(np.array([0, 30, 60]), generator=torch.Generator())
    assert batch.has_actions_B.tolist() == [True, False, True]


def test_a_loss_that_is_not_a_number_stops_before_the_step(settings, monkeypatch):
    import vp_agent.train.stages as stages

    def poisoned(*args, **kwargs):
        losses = policy_losses(*args, **kwargs)
        return replace(losses, total=losses.total * float("nan"))

    monkeypatch.setattr(stages, "policy_losses", poisoned)
    with pytest.raises(NonFiniteLoss, match=r"step 1: .*samples \["):
        train(settings)


def test_an_existing_run_needs_resume_and_the_same_settings(settings):
    train(replace(settings, steps=2, eval_every=2))
    with pytest.raises(OutputExistsError, match="--resume"):
        train(settings)
    with pytest.raises(ConfigError, match="batch_size"):
        train(replace(settings, steps=2, batch_size=3, resume=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": ("gripper", "lefft")}, "did you mean 'left'"),
        ({"control_hz": 30.0}, "20 fps"),
        ({"action_dim": 8, "action_stats": None}, "7-D actions"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(root, changes, words):
    with pytest.raises(DatasetError, match=words):
        Demonstrations(root, SMALL.replace(**changes))


def test_a_dataset_that_was_rendered_otherwise_is_refused(root, tmp_path):
    import shutil

    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "meta/vp_agent.json").write_text('{"env_kwargs": {"render_quality": "full"}}')
    with pytest.raises(DatasetError, match="recorded with render_quality="):
        Demonstrations(copy, SMALL)


def test_no_dataset_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(DatasetError, match="vp-agent collect"):
        Demonstrations(tmp_path, SMALL)


def test_signed_pixels_span_minus_one_to_one():
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
