"""Damaged agent folders are refused by the file's name, or plan; the long run is a benchmark."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_damage import KINDS, damage
from safetensors.torch import load_file, save_file
from small import SMALL, small_baseline, small_model, small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.errors import AgentConfigError, AgentFolderError, ConfigError, PlanError
from vp_agent.files import hash_tree, write_json
from vp_agent.folder import save_agent

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from folder_fuzz import OUTCOMES, judge  # pyright: ignore[reportMissingImports]


@pytest.fixture
def copy(agent_folder, tmp_path):
    return shutil.copytree(agent_folder, tmp_path / "copy")


def sign(folder: Path) -> None:
    write_json(folder / "manifest.json", hash_tree(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folders_are_refused_by_name_or_plan(agent_folder, tmp_path, kind):
    for i in range(6):
        folder = shutil.copytree(agent_folder, tmp_path / f"{i}")
        name = damage(folder, kind, random.Random(i))
        outcome, words = judge(folder, name)
        assert outcome in OUTCOMES[:2], f"folder {i}, {name}: {words}"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("horizon", -8),
        ("horizon", 10**30),
        ("horizon", "8"),
        ("execute", True),
        ("control_hz", 0),
        ("resolution", [10**6, 10**6]),
        ("views", "left"),
        ("unet.layers_per_block", 10**6),
        ("unet.block_out_channels", [32, -32]),
        ("unet.in_channels", True),
        ("vae.scaling_factor", 0.0),
        ("text_encoder.attn_implementation", "someone/kernel"),
        ("text_encoder.hidden_size", "32"),
        ("text_encoder.vocab_size", 500),
        ("adapter.taps[0].module", "up_blocks.9"),
        ("tiers.fast.sigma_min", 1e-300),
        ("action_stats.max", [1e300] * 7),
    ],
)
def test_a_number_out_of_its_bounds_is_named_with_file_and_key(copy, where, value):
    config = json.loads((copy / "config.json").read_text())
    *parents, key = where.replace("[0]", ".0").split(".")
    inner = config
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    inner[key] = value
    (copy / "config.json").write_text(json.dumps(config))
    sign(copy)
    with pytest.raises(AgentConfigError, match=r"config\.json") as error:
        VideoPolicyAgent.from_pretrained(copy)
    assert isinstance(error.value, AgentFolderError)
    assert isinstance(error.value, ConfigError)
    assert (value if key == "module" else key) in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"horizon": 8', '"horizon": 8, "horizon": 8', "'horizon' comes twice"),
        ('"horizon": 8', '"horizon": NaN', "NaN is no JSON number"),
        ('"horizon": 8', '"horizon": 1e999', "1e999 is too large a number"),
        ('"horizon": 8', '"horizon": ' + "[" * 100_000, "cannot be read"),
    ],
)
def test_json_that_readers_disagree_about_is_refused(copy, old, new, words):
    text = (copy / "config.json").read_text()
    assert old in text
    (copy / "config.json").write_text(text.replace(old, new))
    sign(copy)
    with pytest.raises(AgentFolderError, match=rf"config\.json.*{words}"):
        VideoPolicyAgent.from_pretrained(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_weights_that_are_no_weights_are_named(copy, value):
    path = copy / "adapter/model.safetensors"
    state = load_file(path)
    state["norm.weight"][3] = value
    save_file(state, path)
    sign(copy)
    with pytest.raises(AgentFolderError, match=r"adapter/model\.safetensors.* norm\.weight has"):
        VideoPolicyAgent.from_pretrained(copy)


def test_a_variance_below_zero_is_refused(tmp_path):
    from small import SMALL_BASELINE

    model = small_baseline(SMALL_BASELINE.replace(norm="batch"))
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(-1.0)
    save_agent(model, tmp_path / "agent", card="")
    with pytest.raises(AgentFolderError, match="running_var has values from -1"):
        VideoPolicyAgent.from_pretrained(tmp_path / "agent")


def test_a_pipe_in_the_folder_is_not_waited_for(copy):
    (copy / "tokenizer/tokenizer.json").unlink()
    os.mkfifo(copy / "tokenizer/tokenizer.json")
    sign(copy)
    with pytest.raises(AgentFolderError, match=r"tokenizer\.json"):
        VideoPolicyAgent.from_pretrained(copy)


def test_the_files_of_other_libraries_must_agree_with_the_configuration(copy):
    path = copy / "unet/config.json"
    write_json(path, json.loads(path.read_text()) | {"layers_per_block": 2})
    sign(copy)
    with pytest.raises(AgentFolderError, match=r"unet/config\.json: layers_per_block is 2"):
        VideoPolicyAgent.from_pretrained(copy)


def test_a_plan_that_is_not_finite_is_an_error_before_anyone_moves(agent):
    with torch.no_grad():
        agent.model.action_head.out[1].bias.fill_(float("inf"))  # clamped, it would be full speed
    for call in (agent.act, lambda obs: agent.plan(obs, seed=0)):
        with pytest.raises(PlanError, match="actions are not finite"):
            call(small_observation())


def test_a_large_agent_is_tried_by_shapes_alone(copy, monkeypatch):
    monkeypatch.setattr("vp_agent.trial.LARGEST_REAL", 0)
    whole = VideoPolicyAgent.from_pretrained(copy, device="cpu")
    assert np.isfinite(whole.plan(small_observation(), seed=0).actions).all()
    config = json.loads((copy / "config.json").read_text())
    config["adapter"]["taps"][0]["module"] = "conv_out"
    write_json(copy / "config.json", config)
    sign(copy)
    with pytest.raises(AgentConfigError, match="no network that plans"):
        VideoPolicyAgent.from_pretrained(copy, device="cpu")


def test_a_tokenizer_read_from_a_folder_gives_the_same_words(agent_folder):
    from vp_agent.model.text import tokenize

    texts = ["lift the cube!", "Öffne die Schublade 12", "word " * 200, ""]
    fresh = tokenize(small_model(SMALL).tokenizer, texts)
    read = VideoPolicyAgent.from_pretrained(agent_folder, device="cpu").model.tokenizer
    assert torch.equal(fresh, tokenize(read, texts))
