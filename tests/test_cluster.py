"""Evaluation in a Ray cluster: two nodes on this machine, one of which is lost."""

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pilots import episode

from vp_agent.envs.interpreters import CONFIG_VARIABLE, place_of
from vp_agent.errors import AgentFolderError, ConfigError
from vp_agent.evaluation import cluster
from vp_agent.evaluation.cluster import (
    ClusterLost,
    FarLane,
    FarPolicy,
    PolicyActor,
    far_lanes,
    make_lane,
)
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.policy import yardstick
from vp_agent.evaluation.record import Flight
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.runner import EvalSettings, evaluate

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
CLOCKS = ("seconds_per_plan", "plan_s", "wall_s", "started", "attempts")
# In a process of its own: a cluster leaves threads and signal handlers behind.
_LOSE_A_NODE = """
import sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import EvalSettings, evaluate

out = Path(sys.argv[1])
# Without GPUs the network is on the head and a lane on the node that will be lost.
gpus = int(sys.argv[2])
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 2 + gpus, "num_gpus": gpus}
)
lost = cluster.add_node(num_cpus=1, num_gpus=gpus)
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
    records = sorted(read_journal(out / "journal.jsonl"), key=lambda record: record.episode)
    return [{k: v for k, v in vars(record).items() if k not in CLOCKS} for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [0, 1], ids=["with a lane", "with a network"])
def test_an_evaluation_survives_a_lost_node_with_the_lines_of_one_machine(
    tmp_path: Path, gpus: int
) -> None:
    alone = EvalSettings(
        agent="random", env="pilots:Wander-v0", out=tmp_path / "alone", episodes=40, record=1
    )
    evaluate(replace(alone, workers=0))
    out = tmp_path / "cluster"
    command = [sys.executable, "-c", _LOSE_A_NODE, str(out), str(gpus)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lost a node" in done.stdout
    assert lines(out) == lines(alone.out)
    assert (out / "videos" / "pilots_Wander-v0-00000.mp4").is_file()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named_with_the_command_that_starts_one(
    tmp_path: Path,
) -> None:
    settings = EvalSettings(
        agent="random", env="pilots:Wander-v0", out=tmp_path / "out", ray="127.0.0.1:1"
    )
    with pytest.raises(ConfigError, match=r"no Ray cluster at '127.0.0.1:1'.*ray start --head"):
        evaluate(settings)
    assert not settings.out.exists()


class RayTaskError(Exception):
    """In place of Ray's: its text is a traceback, its cause what was raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long traceback")
        self.cause = cause


class RayActorError(Exception):
    """In place of Ray's: the actor's machine is lost."""


class Ray(SimpleNamespace):
    """In place of `ray`: calls end at once, in this process."""

    exceptions = SimpleNamespace(RayTaskError=RayTaskError, RayActorError=RayActorError)

    def get(self, call: Callable[[], Any]) -> Any:
        return call()


def refuse() -> Any:
    raise RayTaskError(ConfigError("the agent cannot act"))


def network(answer: Any) -> Any:
    def call() -> Any:
        if answer is None:
            raise RayActorError
        return answer

    return SimpleNamespace(plan=SimpleNamespace(remote=lambda *_: call))


def test_without_its_network_a_lane_asks_the_others_and_at_last_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert FarPolicy(Ray(), [network(None), network("a plan")], 8).plan({}, seed=0) == "a plan"
    monkeypatch.setattr(cluster, "_NO_NETWORK_S", 0.1)
    with pytest.raises(ClusterLost, match=r"all 2 networks are gone.*--resume"):
        FarPolicy(Ray(), [network(None), network(None)], 8).plan({}, seed=0)


def test_a_far_lane_reads_the_configuration_of_where_the_evaluation_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")  # set anew below, and put back after the test
    (tmp_path / "vp-agent.toml").write_text('[robosuite]\npython = "venv/bin/python"')
    make_lane(yardstick("random"), [], 8, tmp_path / "vp-agent.toml", {})
    place = place_of("Robosuite-Lift-v0")
    assert place is not None
    assert place.python == str(tmp_path / "venv/bin/python")


@pytest.mark.parametrize(
    ("cpus", "words"), [(1, "add machines"), (3, "give --workers 2, or add machines")]
)
def test_a_cluster_that_is_too_small_is_refused(cpus: int, words: str) -> None:
    ray = Ray(cluster_resources=lambda: {"CPU": float(cpus)})
    with pytest.raises(ConfigError, match=f"has {cpus} CPUs, and 3 lanes and 1 .*{words}"):
        far_lanes(ray, refuse, lanes=3, options={})


def test_a_remote_error_of_ours_is_itself_without_a_traceback(tmp_path: Path) -> None:
    actor = SimpleNamespace(fly=SimpleNamespace(remote=lambda *_: refuse))
    with pytest.raises(ConfigError, match=r"^the agent cannot act$"):
        FarLane(Ray(), actor, refuse).fly(episode(0))

    def load() -> Any:
        raise ConfigError("no such agent")

    with pytest.raises(ConfigError, match="no such agent"):
        PolicyActor(load).describe()


def test_a_full_disk_costs_the_film_of_a_far_flight_and_not_the_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Flight(task="a", env="a", episode=0, seed=0, success=True, video="videos/a.mp4")
    line = replace(line, video_sha256="abc")
    files = {"traces/a.json": b"{}", "videos/a.mp4": b"film"}
    actor = SimpleNamespace(fly=SimpleNamespace(remote=lambda *_: lambda: (line, files)))
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if content == b"film":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    recording = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    flown = FarLane(Ray(), actor, refuse).fly(episode(0), recording=recording)
    assert flown == replace(line, video="missing: No space left on device", video_sha256=None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_agent_that_the_cluster_cannot_load_is_one_line(tmp_path: Path) -> None:
    settings = EvalSettings(
        agent=str(tmp_path), env="pilots:Wander-v0", out=tmp_path / "out", ray="local"
    )
    with pytest.raises(AgentFolderError) as refused:
        evaluate(settings)
    assert "\n" not in str(refused.value)
