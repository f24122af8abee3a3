"""`evaluate`: many episodes, one journal, one table; killed, it goes on where it was."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from vp_agent.errors import (
    ConfigError,
    OutputExistsError,
    SimulatorError,
    UnknownNameError,
    closest,
)
from vp_agent.evaluation.episode import Recording, fly
from vp_agent.evaluation.journal import Journal
from vp_agent.evaluation.statistics import summarise
from vp_agent.files import write_json
from vp_agent.processes import die_with_parent

JOURNAL = "journal.jsonl"
RESULTS = "results.json"
_VERSIONS = ("vp-agent", "torch", "diffusers", "transformers", "numpy", "gymnasium")


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """Flies an agent and counts its successes."""

    agent: str
    """Agent folder, or packaged:NAME for an agent inside the package."""
    env: str
    """Environment id; `vp-agent envs` lists them."""
    out: Path
    """Output folder: journal.jsonl, results.json, videos/, traces/."""
    episodes: int = 100
    """Number of episodes, of the seeds seed, seed + 1, ..."""
    seed: int = 0
    """First seed; demonstrations are collected from 100,000 on, so these are unseen."""
    tier: str = "default"
    """Named sampler setting of the agent."""
    steps: int | None = None
    """Sampling steps, instead of the tier's."""
    guidance: float | None = None
    """Guidance scale, instead of the tier's."""
    device: str = "auto"
    """cpu, cuda or auto."""
    record: int = 5
    """How many of the first episodes get a video and a trace."""
    blank_images: bool = False
    """Control: the agent is given black images. One that looks must fail."""
    fresh_env: bool = True
    """Makes a new environment per episode, so that what is drawn at construction varies too."""
    resume: bool = False
    """Goes on with the journal in an existing output folder."""
    workers: int = 1
    """Processes that share the episodes."""
    threads: int = 1
    """CPU threads of each process; rounding may depend on it, but not on the number of workers."""

    def __post_init__(self) -> None:
        for name in ("episodes", "workers", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "record"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, not {getattr(self, name)}")


def evaluate(settings: EvalSettings) -> dict[str, Any]:
    """Flies the episodes that the journal lacks; returns what it writes to results.json.

    Raises:
        OutputExistsError: the output folder holds something and `resume` is not set.
        VPAgentError: the agent, the environment or the journal does not fit. An error inside an
            episode is never counted as a failure of the policy; it stops the evaluation, and
            `resume` goes on from there.
    """
    check_env_id(settings.env)
    out = settings.out
    if out.exists() and any(out.iterdir()) and not settings.resume:
        raise OutputExistsError(
            f"{out} is not empty; add --resume to go on with its journal, or choose another --out"
        )
    pilot = _Pilot(settings)  # before the folder: a wrong agent leaves nothing behind
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with Journal(out / JOURNAL, identity=pilot.identity) as journal:
        seeds = range(settings.seed, settings.seed + settings.episodes)
        have = {record["seed"] for record in journal.records}
        todo = [seed for seed in seeds if seed not in have]
        with tqdm(total=len(seeds), initial=len(seeds) - len(todo), unit="ep", disable=None) as bar:
            for record in _fly_all(settings, pilot, todo):
                journal.append(record)
                bar.update()
                bar.write(_line(record))
        records = sorted(
            (record for record in journal.records if record["seed"] in seeds),
            key=lambda record: record["seed"],
        )
    results = {
        **summarise(records),
        **pilot.identity,
        "seeds": [seeds[0], seeds[-1]],
        "execute": pilot.agent.config.execute,
        "horizon": pilot.agent.config.horizon,
        "wall_s": round(time.perf_counter() - start, 1),
        "settings": {name: value for name, value in asdict(settings).items() if name != "out"},
        "versions": _versions(records),
        "machine": {"cpu_count": os.cpu_count(), "platform": platform.platform()},
        "commit": _commit(),
    }
    write_json(out / RESULTS, results)
    return results


def check_env_id(env_id: str) -> None:
    """Raises `UnknownNameError` unless Gymnasium knows the id (`module:id` is looked up later)."""
    import vp_agent  # noqa: F401 (registers the ids, also when only this module was imported)

    if ":" not in env_id and env_id not in gym.registry:
        raise UnknownNameError(
            f"no environment {env_id!r}{closest(env_id, gym.registry)} (list them: vp-agent envs)"
        )


class _Pilot:
    """The agent and the way an episode is flown with it; one in every process."""

    def __init__(self, settings: EvalSettings) -> None:
        self.settings = settings
        self.agent = _load_agent(settings)
        self._env: gym.Env | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What all lines of one journal agree on."""
        return {
            "env": self.settings.env,
            "agent": self.agent.fingerprint,
            "tier": self.agent.tier,
            "sampler": asdict(self.agent.sampler),
            "blank_images": self.settings.blank_images,
            "fresh_env": self.settings.fresh_env,
            "env_kwargs": self.agent.env_kwargs,
        }

    def fly(self, seed: int) -> dict[str, Any]:
        """One episode, by its seed."""
        settings, config = self.settings, self.agent.config
        recording = Recording(
            folder=settings.out, frame_stride=config.frame_stride, control_hz=config.control_hz
        )
        recorded = seed - settings.seed < settings.record
        with _threads(settings.threads):
            if self._env is None:
                self._env = gym.make(
                    settings.env, disable_env_checker=True, **self.agent.env_kwargs
                )
                _check_transform(self._env, config.image_transform)
            try:
                return fly(
                    self.agent,
                    self._env,
                    seed=seed,
                    blank_images=settings.blank_images,
                    recording=recording if recorded else None,
                )
            finally:
                if settings.fresh_env:  # a worker does it without importing its simulator again
                    getattr(self._env.unwrapped, "renew", self.close)()

    def close(self) -> None:
        """Closes the environment; the next episode makes a new one."""
        env, self._env = self._env, None
        if env is not None:
            env.close()


def _check_transform(env: gym.Env, wanted: str) -> None:
    turned = getattr(env.unwrapped, "transform", wanted)
    if turned != wanted:
        raise ConfigError(
            f"the environment turns its images {turned!r}, the agent was trained on {wanted!r}; "
            f"make it with transform={wanted!r}"
        )


def _load_agent(settings: EvalSettings) -> Any:
    from vp_agent.agent import VideoPolicyAgent

    return VideoPolicyAgent.from_pretrained(
        settings.agent,
        device=settings.device,
        tier=settings.tier,
        steps=settings.steps,
        guidance=settings.guidance,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fly_all(settings: EvalSettings, pilot: _Pilot, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Journal lines as their episodes finish."""
    if settings.workers == 1 or len(seeds) < 2:
        try:
            yield from map(pilot.fly, seeds)
        finally:
            pilot.close()
        return
    with ProcessPoolExecutor(
        min(settings.workers, len(seeds)),
        mp_context=get_context("spawn"),  # a forked GL or CUDA context does not work
        initializer=_start_worker,
        initargs=(settings,),
    ) as pool:
        try:
            for done in as_completed([pool.submit(_fly_in_worker, seed) for seed in seeds]):
                yield done.result()
        except BrokenProcessPool as error:
            raise SimulatorError(
                "a worker process died (out of memory, or a crash of the simulator); the journal "
                "keeps the finished episodes: run the same command with --resume"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_fly_here: Callable[[int], dict[str, Any]] | None = None  # of a worker process


def _start_worker(settings: EvalSettings) -> None:
    die_with_parent()
    global _fly_here
    os.environ.setdefault("LP_NUM_THREADS", str(settings.threads))  # llvmpipe would take every core
    _fly_here = _Pilot(settings).fly


def _fly_in_worker(seed: int) -> dict[str, Any]:
    assert _fly_here is not None  # the pool's initializer has run
    return _fly_here(seed)


def _line(record: dict[str, Any]) -> str:
    outcome = "success" if record["success"] else "failure"
    return (
        f"seed {record['seed']}: {outcome} after {record['steps']} steps, {record['plans']} plans "
        f"of {record['seconds_per_plan']:.2f} s, {record['wall_s']:.1f} s in all"
    )


def _versions(records: list[dict[str, Any]]) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, or a core without torch
            continue
    for record in records:
        found.update(record["simulator"])
    return found


def _commit() -> str | None:
    """The commit of the source tree, `-dirty` if it was changed; None outside a checkout."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
