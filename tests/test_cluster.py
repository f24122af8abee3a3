"""Evaluation in a Ray cluster: two nodes on this machine, one of which is lost."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from vp_agent.errors import ConfigError
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import EvalSettings, evaluate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
]
CLOCKS = ("seconds_per_plan", "plan_s", "wall_s", "started", "attempts")
# In a process of its own: a cluster leaves threads and signal handlers behind.
_LOSE_A_NODE = """
import sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import EvalSettings, evaluate

out = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
lost = cluster.add_node(num_cpus=1)
settings = EvalSettings(
    agent="random", env="pilots:Wander-v0", out=out, episodes=40, record=1, workers=2,
    ray=cluster.address,
)
evaluation = threading.Thread(target=evaluate, args=(settings,))
evaluation.start()
while len(read_journal(out / "journal.jsonl")) < 8:
    time.sleep(0.05)
cluster.remove_node(lost, allow_graceful=False)
print("lost a node after", len(read_journal(out / "journal.jsonl")), flush=True)
evaluation.join()
cluster.shutdown()
"""


@pytest.fixture(autouse=True)
def _quiet_cluster_that_finds_the_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def lines(out: Path) -> list[dict]:
    records = sorted(read_journal(out / "journal.jsonl"), key=lambda record: record["episode"])
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in records]


def test_an_evaluation_survives_a_lost_node_with_the_lines_of_one_machine(tmp_path: Path) -> None:
    alone = EvalSettings(
        agent="random", env="pilots:Wander-v0", out=tmp_path / "alone", episodes=40, record=1
    )
    evaluate(replace(alone, workers=0))
    out = tmp_path / "cluster"
    done = subprocess.run(
        [sys.executable, "-c", _LOSE_A_NODE, str(out)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lost a node" in done.stdout
    assert lines(out) == lines(alone.out)
    assert (out / "videos" / "pilots_Wander-v0-00000.mp4").is_file()


def test_a_cluster_that_is_not_there_is_named_with_the_command_that_starts_one(
    tmp_path: Path,
) -> None:
    settings = EvalSettings(
        agent="random", env="pilots:Wander-v0", out=tmp_path / "out", ray="127.0.0.1:1"
    )
    with pytest.raises(ConfigError, match=r"no Ray cluster at '127.0.0.1:1'.*ray start --head"):
        evaluate(settings)
    assert not settings.out.exists()
