"""Lanes on other machines, by Ray: environments on CPUs, networks on GPUs, the journal here.

Ray places the actors and restarts what a lost machine takes with it. It may repeat their calls,
because a flight is a function of its episode, and a plan of observation and seed.
"""

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym

from vp_agent.errors import ConfigError, need
from vp_agent.evaluation.journal import Record
from vp_agent.evaluation.lane import Lane
from vp_agent.evaluation.policy import LoadedPolicy, PlanLike
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.suites import Episode

_CONNECT_S = 10.0
_RESTARTS: Mapping[str, int] = {"max_restarts": -1, "max_task_retries": -1}


class PolicyActor:
    """The network, on a machine with a GPU if there is one."""

    def __init__(self, load: Callable[[], LoadedPolicy]) -> None:
        self._loaded = load()
        self._lane = self._loaded.lane()

    def describe(self) -> tuple[LoadedPolicy, int]:
        """The policy without what cannot be sent, and how many actions of a plan are executed."""
        return replace(self._loaded, lane=_not_here), self._lane.execute

    def plan(self, obs: Mapping[str, Any], seed: int, video: bool) -> PlanLike:
        """Called by many lanes at once: the planner batches."""
        return self._lane.plan(obs, seed=seed, video=video)


@dataclass(frozen=True)
class _FarPolicy:
    """A policy whose plans a `PolicyActor` makes."""

    ray: Any
    actor: Any
    execute: int

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Nothing to forget."""

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> PlanLike:
        """Asks the network."""
        return self.ray.get(self.actor.plan.remote(obs, seed, video))


@dataclass(frozen=True)
class LaneActor:
    """A lane and its simulator, on any machine."""

    lanes: list[Lane] = field(default_factory=list)

    def fly(
        self, episode: Episode, recording: Recording | None, make: Callable[[], Lane]
    ) -> tuple[Record, dict[str, bytes]]:
        """The episode's line, and its films and traces: the machines need not share a disk."""
        if not self.lanes:  # not in the constructor, whose arguments may be lost with a machine
            self.lanes.append(make())
        with TemporaryDirectory() as folder:
            here = None if recording is None else replace(recording, folder=Path(folder))
            line = self.lanes[0].fly(episode, recording=here)
            files = [path for path in Path(folder).rglob("*.*") if path.is_file()]
            return line, {str(path.relative_to(folder)): path.read_bytes() for path in files}


class FarLane:
    """A `LaneActor` as the flights see it: a `Lane`."""

    def __init__(self, ray: Any, actor: Any, make: Callable[[], Lane]) -> None:
        self._ray, self._actor, self._make = ray, actor, make

    def fly(self, episode: Episode, *, recording: Recording | None = None) -> Record:
        """The episode's line of the journal; its files lie in the recording's folder then."""
        line, files = self._ray.get(self._actor.fly.remote(episode, recording, self._make))
        for name, content in files.items():
            assert recording is not None
            path = recording.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(content)
            partial.replace(path)
        return line

    def kill(self) -> None:
        """Ends the flight."""
        self._ray.kill(self._actor)

    def close(self) -> None:
        """Frees the place for another lane."""
        self._ray.kill(self._actor)


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected: "local" is a cluster of this machine alone.

    Raises:
        ConfigError: there is no cluster at that address.
    """
    ray: Any = need("ray", extra="ray")
    try:
        if address == "local":
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
        else:
            if host_and_port := re.fullmatch(r"([^/:]+):(\d+)", address):
                host, port = host_and_port.groups()
                # Ray itself would try for minutes.
                socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
            ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r} ({error}); start one with `ray start --head` and give "
            "--ray auto on that machine, or its address; --ray local needs none"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def far_lanes(
    ray: Any,
    load: Callable[[], LoadedPolicy],
    *,
    lanes: int,
    options: Mapping[str, Any],
) -> tuple[LoadedPolicy, list[FarLane]]:
    """A network on every GPU of the cluster (or one on a CPU), and lanes shared among them."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    place = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    networks = [
        ray.remote(PolicyActor)
        .options(**place, **_RESTARTS, max_concurrency=lanes + 1)
        .remote(load)
        for _ in range(max(gpus, 1))
    ]
    policy, execute = ray.get(networks[0].describe.remote())
    actor = ray.remote(LaneActor).options(num_cpus=1, **_RESTARTS)
    return policy, [
        FarLane(
            ray,
            actor.remote(),
            partial(_make_lane, policy, networks[lane % len(networks)], execute, dict(options)),
        )
        for lane in range(lanes)
    ]


def _make_lane(policy: LoadedPolicy, network: Any, execute: int, options: Any) -> Lane:
    far = _FarPolicy(need("ray", extra="ray"), network, execute)
    return Lane(replace(policy, lane=lambda: far), **options)


def _not_here() -> Any:
    raise AssertionError("this policy plans in another process")
