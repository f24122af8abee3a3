"""`vp-agent convert`: every tensor arrives, nothing else runs, and bad input is named."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_formula import manifest
from published import (
    CONDITION_VAE,
    NARROW,
    PAPER,
    STATS,
    published_shapes,
    published_state,
    save_checkpoint,
    without_heads,
)
from small import SMALL

from vp_agent import VideoPolicyAgent
from vp_agent.checkpoints.convert import clip_vocabulary, convert, read_action_stats
from vp_agent.checkpoints.extract import extract
from vp_agent.checkpoints.keys import convert as rename
from vp_agent.checkpoints.keys import part_and_key
from vp_agent.checkpoints.settings import ConvertSettings
from vp_agent.errors import (
    AgentFolderError,
    ConfigError,
    DatasetError,
    MissingExtraError,
    OutputExistsError,
)
from vp_agent.files import write_json
from vp_agent.folder import load_agent
from vp_agent.model.video_policy import blank_policy, init_heads
from vp_agent.presets import PRESETS


@pytest.fixture(scope="module", autouse=True)
def _narrow_preset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "narrow", lambda: NARROW)
        yield


@pytest.fixture(scope="module")
def state():
    return published_state(NARROW)


@pytest.fixture(scope="module")
def stage2(state, tmp_path_factory):
    return save_checkpoint(state, tmp_path_factory.mktemp("released") / "stage_2.ckpt")


@pytest.fixture(scope="module")
def stats(tmp_path_factory):
    path = tmp_path_factory.mktemp("stats") / "stats.json"
    write_json(path, {"min": STATS.min, "max": STATS.max})
    return path


@pytest.fixture
def _in_process(monkeypatch):
    """Spares the imports of a second process, where the test is about something else."""
    monkeypatch.setattr("vp_agent.checkpoints.convert._extract_elsewhere", extract)


in_process = pytest.mark.usefixtures("_in_process")


def settings_of(checkpoint, tmp_path, **more):
    return ConvertSettings(checkpoint=checkpoint, out=tmp_path / "agent", preset="narrow", **more)


def observation():
    rng = np.random.default_rng(0)
    pixels = {view: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for view in NARROW.views}
    return {"pixels": pixels, "agent_pos": np.zeros(8, np.float32), "task": "open the drawer"}


def test_the_names_are_a_bijection_with_the_published_layout_at_full_size():
    layout = {name: tuple(shape) for name, (shape, _) in manifest("checkpoint_layout.json").items()}
    ours = {name: shape for name, shape in published_shapes(PAPER).items() if part_and_key(name)}
    assert {name: layout[name] for name in ours} == ours
    unused = layout.keys() - ours.keys()
    assert len(unused) == 138 + 2 + 1  # the condition VAE's decoder, its post_quant_conv, the scale
    keys = [key for part in rename(_meta(layout)).values() for key in part]
    blank = blank_policy(PAPER.replace(condition_encoder=True))
    own_only = 2  # quant_conv of the target VAE
    assert len(keys) == sum(len(part.state_dict()) for part in blank.children()) - own_only


def _meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.slow
def test_a_stage_2_checkpoint_becomes_an_agent_that_acts(state, stage2, stats, tmp_path):
    convert(settings_of(stage2, tmp_path, action_stats=stats))
    model = load_agent(tmp_path / "agent")
    wanted = rename(state)
    for part, tensors in wanted.items():
        ours = model.get_submodule(part).state_dict()
        for key, tensor in tensors.items():
            assert torch.equal(ours.pop(key), tensor), (part, key)
        assert set(ours) <= {"quant_conv.weight", "quant_conv.bias"}  # the target VAE's, identity
    agent = VideoPolicyAgent.from_pretrained(tmp_path / "agent", device="cpu", steps=1)
    assert agent.plan(observation(), seed=0).actions.shape == (32, 7)
    assert "Stability AI" in (tmp_path / "agent" / "README.md").read_text()


@in_process
def test_a_stage_2_checkpoint_without_statistics_says_how_to_make_it_act(stage2, tmp_path):
    made = convert(settings_of(stage2, tmp_path))
    assert "--action-stats" in made.about["Action head"]
    agent = VideoPolicyAgent.from_pretrained(tmp_path / "agent", device="cpu")
    with pytest.raises(ConfigError, match="--action-stats"):
        agent.plan(observation(), seed=0)


@in_process
def test_a_stage_1_checkpoint_gets_an_untrained_head_and_cannot_act(state, tmp_path):
    checkpoint = save_checkpoint(without_heads(state), tmp_path / "stage_1.ckpt")
    made = convert(settings_of(checkpoint, tmp_path))
    assert "untrained" in made.about["Action head"]
    assert "untrained" in (tmp_path / "agent" / "README.md").read_text()
    model = load_agent(tmp_path / "agent")
    assert model.config.action_stats is None
    first = blank_policy(NARROW)
    init_heads(first, seed=0)
    for head in ("adapter", "action_head"):
        ours, wanted = (x.get_submodule(head).state_dict() for x in (model, first))
        assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


@in_process
def test_statistics_for_a_stage_1_checkpoint_are_refused(state, stats, tmp_path):
    checkpoint = save_checkpoint(without_heads(state), tmp_path / "stage_1.ckpt")
    with pytest.raises(ConfigError, match="no action head"):
        convert(settings_of(checkpoint, tmp_path, action_stats=stats))


@in_process
def test_two_encoders_are_kept_when_they_differ(stage2, tmp_path):
    convert(settings_of(stage2, tmp_path))
    model = load_agent(tmp_path / "agent")
    frames = torch.rand(1, 3, 64, 64) * 2 - 1
    assert not torch.allclose(model.encode_frames(frames), model.encode_condition(frames), atol=0.1)


@in_process
def test_one_encoder_serves_both_when_they_compute_the_same(tmp_path):
    state = published_state(NARROW, same_encoder=True)
    made = convert(settings_of(save_checkpoint(state, tmp_path / "same.ckpt"), tmp_path))
    assert "shared" in made.about["Condition images"]
    model = load_agent(tmp_path / "agent")
    assert model.condition_vae is None
    # What the condition encoder of the file computes, up to the rounding of the folding.
    own: Any = blank_policy(NARROW.replace(condition_encoder=True)).condition_vae
    own.to_empty(device="cpu")
    own.load_state_dict(rename(state)["condition_vae"])
    frames = torch.rand(1, 3, 64, 64) * 2 - 1
    wanted = own.encode(frames).latent_dist.parameters
    assert torch.allclose(model.encode_condition(frames), wanted, atol=1e-4)


class Canary:
    """Touches a file when a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(params=["here", pytest.param("elsewhere", marks=pytest.mark.slow)])
def _in_both(request, monkeypatch):
    if request.param == "here":
        monkeypatch.setattr("vp_agent.checkpoints.convert._extract_elsewhere", extract)


@pytest.mark.usefixtures("_in_both")
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(state, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": state, "callbacks": Canary(canary)}, path)
    with pytest.raises(AgentFolderError, match="nothing in it was run") as refused:
        convert(settings_of(path, tmp_path))
    assert "mkdir" in str(refused.value)
    assert not canary.exists()
    assert [x.name for x in tmp_path.iterdir()] == ["evil.ckpt"]


def _cut(path, state):
    save_checkpoint(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _damaged(path, state):
    save_checkpoint(state, path)
    content = bytearray(path.read_bytes())
    content[:200_000] = bytes(200_000)  # the directory at the end still calls it a zip file
    path.write_bytes(content)


def _replaced(**changes):
    return lambda path, state: save_checkpoint({**state, **changes}, path)


def _missing(name):
    return lambda path, state: save_checkpoint({k: v for k, v in state.items() if k != name}, path)


Q = f"{CONDITION_VAE}encoder.mid.attn_1.q.weight"
IN_PROJ = "conditioner.embedders.0.open_clip.model.transformer.resblocks.0.attn.in_proj_weight"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path, state: path.write_bytes(b"hello"), "no PyTorch zip file"),
        (_cut, "cut short"),
        (_damaged, "cannot be read"),
        (lambda path, state: torch.save(state, path), "no `state_dict`"),
        (lambda path, state: torch.save([1], path), "no `state_dict`"),
        (_replaced(**{"model_ema.decay": torch.ones(1)}), "model_ema.decay is unexpected"),
        (_missing("model.diffusion_model.out.2.bias"), "unet: conv_out.bias is missing"),
        (_missing(f"{CONDITION_VAE}quant_conv.bias"), "condition_vae: quant_conv.bias is missing"),
        (_replaced(**{"model.diffusion_model.out.2.bias": torch.ones(5)}), r"has shape \(5,\)"),
        (_replaced(**{"model.diffusion_model.out.2.bias": "4"}), "no tensor"),
        (_replaced(**{"model.diffusion_model.out.2.bias": torch.ones(4).int()}), "no tensor"),
        (_replaced(**{Q: torch.ones(())}), "has shape"),
        (_replaced(**{IN_PROJ: torch.ones(2, 32)}), "does not fit its name"),
    ],
)
def test_a_bad_checkpoint_is_named_and_leaves_nothing(state, tmp_path, write, words):
    path = tmp_path / "bad.ckpt"
    write(path, state)
    with pytest.raises(AgentFolderError, match=words):
        extract(path, NARROW, tmp_path / "never")
    assert [x.name for x in tmp_path.iterdir()] == ["bad.ckpt"]


def test_a_checkpoint_of_another_width_is_refused_with_a_count(stage2, tmp_path):
    with pytest.raises(AgentFolderError, match=r"has shape .*, expected .* and \d{4} more"):
        extract(stage2, PAPER, tmp_path / "never")


def test_an_existing_output_is_refused(stage2, tmp_path):
    (tmp_path / "agent").mkdir()
    with pytest.raises(OutputExistsError, match="--out"):
        convert(settings_of(stage2, tmp_path))


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AgentFolderError, match="no file"):
        convert(settings_of(tmp_path / "none.ckpt", tmp_path))


def test_clip_s_vocabulary_without_open_clip_names_the_package(monkeypatch):
    monkeypatch.setattr("vp_agent.checkpoints.convert.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="open-clip-torch"):
        clip_vocabulary()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        ([0.0] * 6, [1.0] * 6, "6 action dimensions, the policy has 7"),
        ([0.0] * 7, [1.0] * 6, "differ in width"),
        ([0.0] * 7, [1.0] * 6 + [0.0], "dimension 6 has min 0.0, max 0.0"),
        ([0.0] * 7, [1.0] * 6 + [float("nan")], "dimension 6"),
        ([0.0] * 7, [1.0] * 6 + [float("inf")], "dimension 6"),
        ([0.0] * 7, None, "max"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path, low, high, words):
    path = tmp_path / "stats.json"
    write_json(path, {"min": low, "max": high})
    with pytest.raises(ConfigError, match=words):
        read_action_stats(path, width=7)


def test_statistics_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "stats.json").write_text("min, max")
    for path in (tmp_path / "stats.json", tmp_path):
        with pytest.raises(DatasetError, match="--action-stats wants"):
            read_action_stats(path, width=7)


def test_statistics_come_from_a_lerobot_dataset(tmp_path):
    pytest.importorskip("lerobot", reason="writes a dataset with the extra [lerobot]")
    from toy_data import write_toy_dataset

    from vp_agent.train.dataset import Demonstrations

    root = write_toy_dataset(tmp_path / "toy", views=("gripper", "left"), size=32, steps=14)
    assert read_action_stats(root, width=7) == Demonstrations(root, SMALL).action_stats
    with pytest.raises(ConfigError, match="7 action dimensions, the policy has 8"):
        read_action_stats(root, width=8)
