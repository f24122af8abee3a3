"""Agent folders: written and read whole or not at all, damage by name."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.errors import AgentFolderError, ConfigError, UnknownNameError
from vp_agent.files import hash_tree, write_json


@pytest.fixture
def copy(agent_folder, tmp_path):
    return shutil.copytree(agent_folder, tmp_path / "copy")


def test_save_then_load_is_bit_identical(agent, tmp_path):
    agent.save_pretrained(tmp_path / "again")
    again = VideoPolicyAgent.from_pretrained(tmp_path / "again", device="cpu")
    for (name, a), b in zip(
        agent.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    plans = [x.plan(small_observation(), seed=3, video=True) for x in (agent, again)]
    assert np.array_equal(plans[0].actions, plans[1].actions)
    videos = [plan.video or {} for plan in plans]
    assert np.array_equal(videos[0]["left"], videos[1]["left"])


def test_a_missing_an_extra_and_an_altered_file_are_named(copy):
    (copy / "adapter" / "model.safetensors").unlink()
    (copy / "extra.bin").write_bytes(b"x")
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"execute": 4', '"execute": 5'))
    with pytest.raises(AgentFolderError) as error:
        VideoPolicyAgent.from_pretrained(copy)
    for words in ("adapter/model.safetensors is missing", "extra.bin is not", "config.json was"):
        assert words in str(error.value)


def _sign(folder):
    write_json(folder / "manifest.json", hash_tree(folder))


def test_a_tensor_of_another_shape_is_named(copy):
    path = copy / "action_head" / "model.safetensors"
    state = load_file(path)
    state["out.1.bias"] = torch.zeros(8)
    save_file(state, path)
    _sign(copy)
    with pytest.raises(AgentFolderError, match=r"out\.1\.bias has shape \(8,\), expected \(7,\)"):
        VideoPolicyAgent.from_pretrained(copy)


def test_an_unknown_config_field_is_named(copy):
    values = json.loads((copy / "config.json").read_text()) | {"temperature": 1}
    write_json(copy / "config.json", values)
    _sign(copy)
    with pytest.raises(ConfigError, match="temperature"):
        VideoPolicyAgent.from_pretrained(copy)


def test_a_truncated_weight_file_is_refused(copy):
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    _sign(copy)
    with pytest.raises(AgentFolderError, match="cannot be read"):
        VideoPolicyAgent.from_pretrained(copy)


def test_unknown_names_get_a_suggestion(agent_folder):
    with pytest.raises(UnknownNameError, match="did you mean 'guided'"):
        VideoPolicyAgent.from_pretrained(agent_folder, tier="giuded")
    with pytest.raises(AgentFolderError, match="no packaged agent 'lfit'"):
        VideoPolicyAgent.from_pretrained("packaged:lfit")
    with pytest.raises(AgentFolderError, match="no agent on the Hub"):
        VideoPolicyAgent.from_pretrained("no/such folder")


def test_saving_on_a_full_disk_leaves_the_old_folder(agent, copy, monkeypatch):
    before = hash_tree(copy)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vp_agent.folder.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        agent.save_pretrained(copy)
    assert hash_tree(copy) == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "there is no GPU here"), ("gpu", "no device 'gpu'")]
)
def test_a_device_that_is_not_there_is_named(agent_folder, monkeypatch, device, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=words):
        VideoPolicyAgent.from_pretrained(agent_folder, device=device)


def test_names_in_a_foreign_file_do_not_break_the_line(copy):
    path = copy / "config.json"
    values = json.loads(path.read_text())
    write_json(path, {**values, "a\nb\x1b[2J": 1})
    write_json(copy / "manifest.json", hash_tree(copy))
    with pytest.raises(AgentFolderError) as error:
        VideoPolicyAgent.from_pretrained(copy)
    assert str(error.value).isprintable()
    assert "a\\nb" in str(error.value)


def test_a_packed_kind_of_number_is_refused_by_its_file(copy):
    path = copy / "action_head" / "model.safetensors"
    blob = path.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    header, data = json.loads(blob[8 : 8 + size]), blob[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    packed, moved = {}, b""
    for name in names:
        start, end = header[name]["data_offsets"]
        part = data[start : end if name != names[0] else start + (end - start) // 8]
        packed[name] = {**header[name], "data_offsets": [len(moved), len(moved) + len(part)]}
        moved += part
    packed[names[0]]["dtype"] = "F4"  # two numbers in a byte
    text = json.dumps(packed).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + moved)
    write_json(copy / "manifest.json", hash_tree(copy))
    with pytest.raises(AgentFolderError, match=r"action_head/model\.safetensors"):
        VideoPolicyAgent.from_pretrained(copy)
