"""Demonstrations of a scripted expert, simulated by several processes, as one LeRobot dataset.

Every finished episode is a file in `<out>.partial/`, so a killed collection goes on where it was.
The dataset is built when all episodes are there and appears under its name in one rename.
"""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from vp_agent.envs.experts import expert_for
from vp_agent.envs.rendering import RenderQuality
from vp_agent.envs.tabletop_words import TASKS as TABLETOP_TASKS
from vp_agent.envs.tabletop_words import read_instruction
from vp_agent.errors import ConfigError, SimulatorError, UnknownNameError, closest, need
from vp_agent.images import check_resolution
from vp_agent.processes import die_with_parent
from vp_agent.train.action_meaning import OURS
from vp_agent.train.partial import open_partial

_VERSIONED = ("robosuite", "mujoco", "numpy", "gymnasium", "lerobot")
_HOPELESS = 50  # seeds without one success: the expert does not fit, so stop
_WITH_EXPERTS = ("Robosuite-", "Tabletop", "LIBERO-")
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",
}  # BLAS and llvmpipe of N workers fight


@dataclass(frozen=True, kw_only=True)
class CollectSettings:
    """What to demonstrate and where to put it."""

    env: str
    """Environment id, for example Robosuite-Lift-v0."""
    episodes: int
    """Successful episodes to keep."""
    out: Path
    """Folder of the new dataset; must not exist."""
    views: tuple[str, ...] = ("gripper", "left", "right")
    """Camera views to record."""
    resolution: tuple[int, int] = (256, 256)
    """Height and width of every view."""
    render_quality: RenderQuality = "full"
    """"fast" leaves out floor reflections; evaluate with the same."""
    seed: int = 100_000
    """First seed; episodes use seed, seed + 1, ... (evaluations fly seeds from 0 on)."""
    workers: int = 2
    """Simulator processes; the dataset does not depend on it."""
    noise: float = 0.0
    """Largest standard deviation of the noise on the six arm numbers of what is executed; each
    episode draws its own between a fifth of it and all of it. The stored action stays clean."""
    disturb: float = 0.0
    """Share of episodes recorded from where a spoilt attempt has left the arm: they show how to
    recover."""
    hold_steps: int = 8
    """Steps recorded after success."""
    instructions: tuple[str, ...] = ()
    """What to ask for, seed after seed in turn (Tabletop-...); empty: all that the environment
    asks for by itself."""
    horizon: int | None = None
    """Steps in which the expert must succeed; None takes the environment's."""
    options: dict[str, str] = field(default_factory=dict)
    """More arguments of the environment, such as: protocol uva transform raw (LIBERO)."""
    resume: bool = False
    """Go on with a collection that was killed."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("workers", 1), ("noise", 0), ("hold_steps", 0)):
            value = getattr(self, name)
            if not value >= least:  # NaN as well
                raise ConfigError(f"{name} must be at least {least}, not {value}")
        if not 0 <= self.disturb <= 1:
            raise ConfigError(f"disturb is a share between 0 and 1, not {self.disturb}")
        if not self.views:
            raise ConfigError("views must name at least one camera view")
        check_resolution(self.resolution)
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, not {self.seed}")

    @property
    def task(self) -> str:
        """The simulator's name of the task."""
        if self.env not in gym.registry:
            known = [name for name in gym.registry if name.startswith(_WITH_EXPERTS)]
            raise UnknownNameError(
                f"no environment {self.env!r}{closest(self.env, known)} (list them: vp-agent envs)"
            )
        return gym.spec(self.env).kwargs.get("task", self.env)

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments that make the environment an agent sees the same pictures in."""
        default = gym.spec(self.env).kwargs.get("horizon")
        return {
            "views": list(self.views),
            "resolution": list(self.resolution),
            "render_quality": self.render_quality,
            "horizon": default if self.horizon is None else self.horizon,
            **self.options,
        }

    def identity(self) -> dict[str, Any]:
        """Everything that changes the episodes, as JSON."""
        fields = asdict(self)
        for name in ("out", "workers", "resume"):
            del fields[name]
        need("lerobot", extra="lerobot")
        fields["versions"] = {name: version(name) for name in _VERSIONED}
        return json.loads(json.dumps(fields))


@dataclass(frozen=True)
class CollectSummary:
    """What a collection gave."""

    out: Path
    episodes: int
    frames: int
    tried: int
    """Seeds simulated up to the last one that was kept."""
    success_rate: float
    seconds: float


def collect(settings: CollectSettings) -> CollectSummary:
    """Simulates until enough episodes succeeded, then writes the dataset."""
    start = time.monotonic()
    expert_for(settings.task)  # an unknown task is refused before anything is written
    _check_instructions(settings)
    with open_partial(settings.out, settings.identity(), resume=settings.resume) as partial:
        tried, wins, frames = _write(settings, partial)
    seconds = time.monotonic() - start
    return CollectSummary(settings.out, wins, frames, tried, wins / tried, seconds)


def _check_instructions(settings: CollectSettings) -> None:
    if settings.instructions and settings.task not in TABLETOP_TASKS:
        raise ConfigError(
            f"{settings.env} has one instruction of its own; leave --instructions out, or collect "
            "in Tabletop-All-v0"
        )
    for text in settings.instructions:
        read_instruction(text, TABLETOP_TASKS[settings.task].motions)


def _write(settings: CollectSettings, partial: Path) -> tuple[int, int, int]:
    """Simulates and encodes in `partial`; episodes tried, episodes and frames written."""
    from vp_agent.train import demonstrations

    try:
        outcomes = _simulate(settings, partial)
    except BaseException:
        if not any(_outcomes(partial).values()):
            shutil.rmtree(partial)  # nothing worth resuming
        raise
    wins = [seed for seed in sorted(outcomes) if outcomes[seed]][: settings.episodes]
    tried = wins[-1] - settings.seed + 1
    built = partial / "dataset"
    if not built.is_dir():  # else it is whole, and a kill came just before the end
        files = [episode_file(partial, seed) for seed in wins]
        bar = tqdm(files, desc="encode", unit="episode", mininterval=1.0)
        demonstrations.write_dataset(
            built,
            name=settings.out.name,
            episodes=map(demonstrations.stored_episode, bar),
            names=demonstrations.NAMES,
            meta={
                "env": settings.env,
                "env_kwargs": settings.env_kwargs,
                "action": OURS,
                "instructions": list(settings.instructions),
                "noise": settings.noise,
                "disturb": settings.disturb,
                "hold_steps": settings.hold_steps,
                "tried": tried,
                "success_rate": len(wins) / tried,
                "versions": settings.identity()["versions"],
            },
        )
    frames: int = json.loads((built / "meta/info.json").read_text())["total_frames"]
    os.rename(built, settings.out)
    shutil.rmtree(partial)
    return tried, len(wins), frames


def episode_file(partial: Path, seed: int) -> Path:
    """Where a successful episode lies until the dataset is built."""
    return partial / f"seed-{seed:09d}.npz"


def _failure_file(partial: Path, seed: int) -> Path:
    return partial / f"seed-{seed:09d}.failed"


def _outcomes(partial: Path) -> dict[int, bool]:
    """Seed -> success of every finished episode."""
    files = partial.glob("seed-*")
    finished = (path for path in files if path.suffix in (".npz", ".failed"))
    return {int(path.stem[5:]): path.suffix == ".npz" for path in finished}


def _simulate(settings: CollectSettings, partial: Path) -> dict[int, bool]:
    """Seed -> success, gapless from the first seed to beyond the last success that is needed."""
    outcomes = _outcomes(partial)
    next_seed, running = settings.seed, {}
    bar = tqdm(
        total=settings.episodes,
        initial=min(settings.episodes, sum(outcomes.values())),
        desc=settings.env,
        unit="episode",
        mininterval=0.1 if os.isatty(2) else 10.0,
    )
    context = multiprocessing.get_context("spawn")
    with bar, _environment(_ONE_THREAD):
        pool = ProcessPoolExecutor(settings.workers, context, initializer=die_with_parent)
        try:
            while True:
                # Seeds start in order and all that started are awaited, so the first N successes
                # are the same for any number of workers. A killed collection may have left gaps.
                while len(running) < settings.workers and (
                    sum(outcomes.values()) < settings.episodes
                    or next_seed < max(outcomes, default=0)
                ):
                    if next_seed not in outcomes:
                        running[pool.submit(_run_seed, settings, partial, next_seed)] = next_seed
                    next_seed += 1
                if not running:
                    return outcomes
                done: set[Future[bool]] = wait(running, return_when=FIRST_COMPLETED).done
                for future in done:
                    outcomes[running.pop(future)] = future.result()
                wins = sum(outcomes.values())
                bar.update(min(wins, settings.episodes) - bar.n)
                bar.set_postfix(success=f"{wins}/{len(outcomes)}")
                if wins == 0 and len(outcomes) >= _HOPELESS:
                    raise SimulatorError(f"{settings.env}: no success in {len(outcomes)} episodes")
        except BrokenProcessPool as error:
            raise SimulatorError(
                f"a process of the simulator died ({error}); give the command again, with --resume "
                f"if {partial} is there"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_worker_env: gym.Env | None = None


def _run_seed(settings: CollectSettings, partial: Path, seed: int) -> bool:
    """Simulates one episode in a worker and leaves its outcome in `partial`."""
    global _worker_env
    import vp_agent  # noqa: F401  (registers the ids in this process)
    from vp_agent.train.demonstrations import demonstrate

    if _worker_env is None:
        kwargs = settings.env_kwargs  # the instructions are no part of them: pictures do not differ
        if settings.instructions:
            kwargs["instruction"] = settings.instructions
        _worker_env = gym.make(settings.env, terminate_on_success=False, **kwargs)
        simulator: Any = _worker_env.unwrapped
        simulator.horizon += settings.hold_steps
    episode = demonstrate(
        _worker_env,
        expert_for(settings.task),
        seed=seed,
        noise=settings.noise,
        hold_steps=settings.hold_steps,
        disturb=settings.disturb,
    )
    if episode is None:
        _failure_file(partial, seed).touch()
        return False
    unfinished = partial / f"writing-{seed}"
    with open(unfinished, "wb") as file:
        np.savez(file, allow_pickle=False, **episode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, episode_file(partial, seed))
    return True
