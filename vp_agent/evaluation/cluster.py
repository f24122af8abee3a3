"""Lanes on other machines, by Ray: environments on CPUs, networks on GPUs, the journal here.

Ray places the actors and restarts what a lost machine takes with it. Flights may be repeated,
because they are functions of their episodes, and plans may come from any of the networks, because
they are functions of observation and seed.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym

from vp_agent.envs.interpreters import CONFIG_VARIABLE, config_path
from vp_agent.errors import ConfigError, VPAgentError, need
from vp_agent.evaluation.lane import DISK_FULL, Lane
from vp_agent.evaluation.policy import LoadedPolicy, PlanLike
from vp_agent.evaluation.record import Flight
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.suites import Episode
from vp_agent.files import atomic_file

_CONNECT_S = 10.0
_NO_NETWORK_S = 600.0  # until an evaluation without a network ends; Ray may find a machine for one
_RESTARTS: Mapping[str, int] = {"max_restarts": -1}


class ClusterLost(VPAgentError, RuntimeError):
    """The machines with the networks are gone."""


class PolicyActor:
    """The network, on a machine with a GPU if there is one."""

    def __init__(self, load: Callable[[], LoadedPolicy]) -> None:
        self._refusal: VPAgentError | None = None
        try:
            self._loaded = load()
            self._lane = self._loaded.lane()
        except VPAgentError as error:  # raised here it would be the death of an actor
            self._refusal = error

    def describe(self) -> tuple[LoadedPolicy, int]:
        """The policy without what cannot be sent, and how many actions of a plan are executed."""
        self._check()
        return replace(self._loaded, lane=_not_here), self._lane.execute

    def plan(self, obs: Mapping[str, Any], seed: int, video: bool) -> PlanLike:
        """Called by many lanes at once: the planner batches."""
        self._check()
        return self._lane.plan(obs, seed=seed, video=video)

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal


@dataclass(frozen=True)
class FarPolicy:
    """A policy whose plans a `PolicyActor` makes: the first of the networks that is alive."""

    ray: Any
    networks: Sequence[Any]
    execute: int

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Nothing to forget."""

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> PlanLike:
        """Asks the network.

        Raises:
            ClusterLost: for minutes none has been alive.
        """
        deadline = time.monotonic() + _NO_NETWORK_S
        while time.monotonic() < deadline:
            for network in self.networks:
                with suppress(self.ray.exceptions.RayActorError):  # its machine is lost
                    return _answer(self.ray, network.plan.remote(obs, seed, video))
            time.sleep(1)
        raise ClusterLost(
            f"the machines of all {len(self.networks)} networks are gone, and Ray found no other "
            "for them; add machines (ray start --address), then run it again with --resume"
        )


@dataclass(frozen=True)
class LaneActor:
    """A lane and its simulator, on any machine."""

    lanes: list[Lane] = field(default_factory=list)

    def fly(
        self, episode: Episode, recording: Recording | None, make: Callable[[], Lane]
    ) -> tuple[Flight, dict[str, bytes]]:
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

    def fly(self, episode: Episode, *, recording: Recording | None = None) -> Flight:
        """The episode's line of the journal; its files lie in the recording's folder then."""
        line, files = _answer(self._ray, self._actor.fly.remote(episode, recording, self._make))
        if recording is None:
            return line
        try:
            for name, content in files.items():
                _write(recording.folder / name, content)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            # The episode counts for more than its film.
            for name in files:
                (recording.folder / name).unlink(missing_ok=True)
            return replace(line, video=f"missing: {error.strerror}", video_sha256=None)
        return line

    def kill(self) -> None:
        """Ends the flight."""
        self._ray.kill(self._actor)

    def close(self) -> None:
        """Frees the place for another lane."""
        self._ray.kill(self._actor)


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as tmp:
        tmp.write_bytes(content)


def _answer(ray: Any, call: Any) -> Any:
    """What a remote call returns; an error of this package as itself, without Ray's traceback."""
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VPAgentError):
            raise error.cause from None
        raise


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
    """A network on every GPU of the cluster (or one on a CPU), and lanes shared among them.

    Raises:
        ConfigError: the cluster is too small.
        VPAgentError: the policy cannot be loaded.
    """
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    count = min(max(gpus, 1), lanes)
    if cpus < count + lanes:  # Ray would wait for more machines, without a word
        fewer = f"give --workers {cpus - count}, or " if cpus > count else ""
        raise ConfigError(
            f"the Ray cluster has {cpus} CPUs, and {lanes} lanes and {count} networks need one "
            f"each: {fewer}add machines (ray start --address), or fly here, without --ray"
        )
    networks = [
        ray.remote(PolicyActor)
        .options(num_cpus=1, num_gpus=min(gpus, 1), max_concurrency=lanes + 1, **_RESTARTS)
        .remote(load)
        for _ in range(count)
    ]
    described = [_answer(ray, network.describe.remote()) for network in networks]
    actor = ray.remote(LaneActor).options(num_cpus=1, max_task_retries=-1, **_RESTARTS)
    config = config_path()
    makers = [
        partial(make_lane, policy, networks[n:] + networks[:n], execute, config, dict(options))
        for n, (policy, execute) in enumerate(described)
    ]
    return described[0][0], [
        FarLane(ray, actor.remote(), makers[lane % len(makers)]) for lane in range(lanes)
    ]


def make_lane(
    policy: LoadedPolicy, networks: Any, execute: int, config: Path | None, options: Any
) -> Lane:
    """A lane in this process, which reads the vp-agent.toml of where the evaluation began."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    far = FarPolicy(need("ray", extra="ray"), networks, execute)
    return Lane(replace(policy, lane=lambda: far), **options)


def _not_here() -> Any:
    raise AssertionError("this policy plans in another process")
