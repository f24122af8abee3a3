"""The model card: facts and metadata the Hub understands, and the way to the Hub."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from small import SMALL, small_model

from vp_agent.agent import VideoPolicyAgent
from vp_agent.card import model_card
from vp_agent.errors import AgentFolderError, ConfigError, OutputExistsError
from vp_agent.folder import fingerprint

RESULTS = {
    "env": "Robosuite-Lift-v0",
    "successes": 19,
    "n": 20,
    "wilson_95": [0.764, 0.991],
    "seeds": [0, 19],
    "sampler": {"steps": 3, "guidance": 1.0},
    "commit": "0123456789abcdef",
}
SVD = "stabilityai/stable-video-diffusion-img2vid-xt, licence of its authors"


def agent() -> VideoPolicyAgent:
    return VideoPolicyAgent(small_model(), "fast", SMALL.tier("fast"))


def results_file(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    return path


def test_the_card_tells_views_actions_normalisation_and_origin():
    text = model_card(SMALL.replace(training=("video, 9 steps of 2 on toy",)))
    for fact in ("gripper, left; RGB, upright, 32x32", "executes 4 (0.2 s)", "gripper |"):
        assert fact in text
    assert "actions to [-1, 1] between (-1, -1, -1" in text
    assert "| Trained | video, 9 steps of 2 on toy |" in text
    assert "cannot act" in model_card(SMALL.replace(action_stats=None))


def test_the_hub_reads_the_metadata_back(tmp_path):
    data = ModelCard(model_card(SMALL.replace(origin=SVD), results=[results_file(tmp_path)])).data
    assert (data["library_name"], data["pipeline_tag"]) == ("vp_agent", "robotics")
    assert data["base_model"] == "stabilityai/stable-video-diffusion-img2vid-xt"
    assert (data["license"], data["license_name"]) == ("other", "of-the-base-model")
    assert data.to_dict()["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.95
    assert ModelCard(model_card(SMALL)).data["license"] == "apache-2.0"


def test_evaluations_stand_in_a_table(tmp_path):
    agent().save_pretrained(tmp_path / "agent", results=[results_file(tmp_path)])
    card = (tmp_path / "agent" / "README.md").read_text()
    assert "| Robosuite-Lift-v0 | 19 of 20 | 76-99 % | 0-19 | 3 steps, guidance 1 |" in card
    assert VideoPolicyAgent.from_pretrained(tmp_path / "agent").config == SMALL


@pytest.mark.parametrize("text", ["not json", "[]", '{"env": "x"}'])
def test_a_file_that_is_no_evaluation_is_refused_and_nothing_written(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ConfigError, match=r"no results\.json of vp-agent eval"):
        agent().save_pretrained(tmp_path / "agent", results=[tmp_path / "results.json"])
    assert not (tmp_path / "agent").exists()


def test_an_agent_that_comes_from_the_hub_is_whole(tmp_path):
    folder = tmp_path / "agent"
    agent().save_pretrained(folder)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")  # the Hub's own
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/README.md.metadata").write_text("abc")
    (folder / "README.md").write_text("edited on the website")
    loaded = VideoPolicyAgent.from_pretrained(folder)
    assert loaded.fingerprint == fingerprint(folder)
    (folder / "stray.txt").write_text("?")
    with pytest.raises(AgentFolderError, match=r"stray\.txt is not in the manifest"):
        VideoPolicyAgent.from_pretrained(folder)


def test_saving_replaces_an_agent_and_nothing_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"not empty and has no manifest\.json"):
        agent().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    with pytest.raises(OutputExistsError, match="is a file"):
        agent().save_pretrained(tmp_path / "thesis.tex")
    for _ in range(2):
        agent().save_pretrained(tmp_path / "agent")


def test_push_to_hub_makes_the_repository_and_uploads_a_whole_agent(monkeypatch):
    asked = []

    def create_repo(self, repo_id, **kwargs):
        asked.append((repo_id, kwargs))

    def upload_folder(self, *, repo_id, folder_path):
        loaded = VideoPolicyAgent.from_pretrained(folder_path)  # what arrives can be flown
        asked.append((repo_id, loaded.fingerprint))
        return "https://huggingface.co/me/agent/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    assert agent().push_to_hub("me/agent", private=True).endswith("/commit/1")
    assert asked[0] == ("me/agent", {"private": True, "exist_ok": True})
    assert asked[1][0] == "me/agent"
