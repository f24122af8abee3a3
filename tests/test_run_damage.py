"""Damaged run folders: metrics, configuration, manifests, the pointer to the latest checkpoint."""

import json

import pytest

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.errors import AgentFolderError, ConfigError
from vp_agent.locate import find_agent
from vp_agent.train.run import Run, broken

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "line", ['{"a": 1}', '{"step": "x"}', '{"step": null}', "{bad}", "[1]", f'{{"step": {DEEP}}}']
)
def test_a_damaged_line_of_the_metrics_is_named_with_its_number(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:2 is damaged.*remove that line"):
        Run(folder=tmp_path).take_up()
    assert path.read_bytes() == before


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 0, "lo')
    Run(folder=tmp_path).take_up()
    assert path.read_text() == '{"step": 0}\n'


@pytest.mark.parametrize("text", ["1", "null", "[[1]]", DEEP])
@pytest.mark.parametrize("name", ["trainer.json", "agent/manifest.json"])
def test_a_checkpoint_whose_json_is_no_object_is_broken(tmp_path, name, text):
    (tmp_path / "agent").mkdir()
    for path in ("trainer.json", "agent/manifest.json"):
        (tmp_path / path).write_text("{}")
    (tmp_path / name).write_text(text)
    assert "no JSON" in str(broken(tmp_path))


@pytest.mark.parametrize("pointer", ["../outside", "x" * 5000, "", "/", "step-1/../../outside"])
def test_the_pointer_to_the_latest_checkpoint_stays_in_its_run(tmp_path, pointer):
    for folder in (tmp_path / "outside", tmp_path / "run"):
        (folder / "step-1").mkdir(parents=True)
    (tmp_path / "outside/agent").mkdir()
    (tmp_path / "outside/agent/manifest.json").write_text(json.dumps({}))
    (tmp_path / "run/latest").write_text(pointer)
    with pytest.raises(AgentFolderError, match="holds no agent"):
        find_agent(tmp_path / "run")
