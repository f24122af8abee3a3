"""Revisions of what comes from the Hub: passed on, and said in the model card."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from small import SMALL

from vp_agent import VideoPolicyAgent
from vp_agent.card import model_card
from vp_agent.checkpoints.pretrained import get_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def asked(agent_folder, tmp_path, monkeypatch) -> list[tuple[str, str | None]]:
    """What is asked of a Hub that has the small agent under every name."""
    calls: list[tuple[str, str | None]] = []
    snapshot = shutil.copytree(agent_folder, tmp_path / "snapshots" / COMMIT)

    def download(repository: str, *, revision: str | None = None, **_: object) -> str:
        calls.append((repository, revision))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("vp_agent.checkpoints.pretrained.snapshot_download", download)
    return calls


def test_a_revision_is_asked_for_and_the_card_says_which_commit_came(asked, tmp_path):
    agent = VideoPolicyAgent.from_pretrained("me/lift", revision="v2", device="cpu")
    VideoPolicyAgent.from_pretrained("me/lift@v3", device="cpu")
    VideoPolicyAgent.from_pretrained("me/lift", device="cpu")
    assert asked == [("me/lift", "v2"), ("me/lift", "v3"), ("me/lift", None)]
    agent.save_pretrained(tmp_path / "again")
    assert f"| Loaded from | me/lift@{COMMIT} |" in (tmp_path / "again/README.md").read_text()


def test_an_agent_that_was_here_is_loaded_from_nowhere_else(agent, tmp_path):
    agent.save_pretrained(tmp_path / "again")
    assert "Loaded from" not in (tmp_path / "again/README.md").read_text()


def test_base_models_take_a_revision_and_the_card_keeps_it(asked):
    get_folder("stabilityai/svd@main", ["config.json"])
    assert asked == [("stabilityai/svd", "main")]
    text = model_card(SMALL.replace(origin=f"stabilityai/svd@{COMMIT}, text tower a/b"))
    assert f"| Base model | stabilityai/svd@{COMMIT}, text tower a/b |" in text
    assert "base_model: stabilityai/svd\n" in text


def test_a_dataset_takes_a_revision(monkeypatch, tmp_path):
    pytest.importorskip("lerobot", reason="datasets need the extra [lerobot]")
    from toy_data import write_toy_dataset

    from vp_agent.train.dataset_source import locate_dataset

    data, asked = write_toy_dataset(tmp_path / "toy", size=32, episodes=1, steps=3), []

    def download(repository: str, *, revision: str | None, **_: object) -> SimpleNamespace:
        asked.append((repository, revision))
        return SimpleNamespace(root=data)

    monkeypatch.setattr("lerobot.datasets.lerobot_dataset.LeRobotDataset", download)
    assert locate_dataset(Path("me/toy@v1.0")) == (data, "me/toy")
    assert locate_dataset(Path("me/toy")) == (data, "me/toy")
    assert asked == [("me/toy", "v1.0"), ("me/toy", None)]
