"""`vp-agent eval`: the episodes of a suite, one journal, one table; killed, it goes on there."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

import vp_agent
from vp_agent.envs.interpreters import POLICIES
from vp_agent.errors import (
    ConfigError,
    OutputExistsError,
    SimulatorError,
    UnknownNameError,
    closest,
    require,
)
from vp_agent.evaluation.flights import Flier, Flights
from vp_agent.evaluation.journal import CLAIMS, JOURNAL, SCHEDULE, Journal
from vp_agent.evaluation.lane import Lane
from vp_agent.evaluation.policy import YARDSTICKS, LoadedPolicy, yardstick
from vp_agent.evaluation.record import Identity
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.results import write_results
from vp_agent.evaluation.suites import Episode, Suite, one_environment, suite
from vp_agent.files import check_makeable


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """Flies a policy through a suite, or through one environment, and counts its successes."""

    agent: str
    """Agent folder, packaged:NAME for an agent inside the package, a Hub repository, lerobot:PATH
    or robomimic:PATH for a policy of theirs, or a yardstick: hold-still, random, expert."""
    out: Path
    """Output folder: journal.jsonl, results.json, videos/, traces/."""
    suite: str | None = None
    """Suite of episodes: robocasa24-paper, libero10-50, robosuite, ... (docs/evaluation.md)."""
    env: str | None = None
    """One environment id instead of a suite; `vp-agent envs` lists them."""
    tasks: tuple[str, ...] | None = None
    """Only these tasks of the suite."""
    episodes: int | None = None
    """Episodes per task: the first ones of the suite (default: all), or of --env (100)."""
    seed: int = 0
    """With --env: first seed; demonstrations are collected from 100,000 on, so these are unseen."""
    tier: str = "default"
    """Named sampler setting of the agent."""
    steps: int | None = None
    """Sampling steps, instead of the tier's."""
    guidance: float | None = None
    """Guidance scale, instead of the tier's."""
    device: str = "auto"
    """cpu, cuda or auto."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """With lerobot: and robomimic:, which do not say what they were trained on: more arguments of
    the environment, such as `--env-kwargs render_quality fast`."""
    trusted: bool = False
    """With robomimic: this checkpoint may run code when it is read; you trust who made it."""
    record: int = 5
    """How many of each task's first episodes get a video and a trace."""
    blank_images: bool = False
    """Control: the agent is given black images. One that looks must fail."""
    fresh_env: bool = True
    """Makes a new environment per episode, so that nothing is left of the one before."""
    resume: bool = False
    """Goes on with the journal in an existing output folder, beside other evaluators if there
    are any."""
    workers: int = 1
    """Environments that fly side by side, each in a process of its own; 0: one, in this process."""
    batch: int = 1
    """Plans per call of the network (for GPUs: about the number of workers). Rounding depends on
    it, so one journal has one batch; outcomes do not depend on the number of workers."""
    ray: str | None = None
    """Fly in a Ray cluster: auto, its address, or local; --workers then counts lanes in it."""
    attempts: int = 3
    """Flights of an episode whose environment breaks, before that is its line in the journal."""
    threads: int = 1
    """CPU threads of the network; rounding may depend on it."""

    def __post_init__(self) -> None:
        require(
            (self.suite is None) != (self.env is None),
            "give either --suite NAME or --env ID (list them: vp-agent eval --help, vp-agent envs)",
        )
        require(self.tasks is None or self.suite is not None, "--tasks goes with --suite")
        if self.episodes is not None:
            require(self.episodes >= 1, f"episodes must be at least 1, not {self.episodes}")
        foreign = self.agent.partition(":")[0] in POLICIES
        require(
            foreign or not (self.env_kwargs or self.trusted),
            "--env-kwargs and --trusted go with --agent lerobot:PATH and robomimic:PATH",
        )
        require(self.ray is None or self.workers >= 1, "--ray needs --workers 1 or more")
        require(
            self.ray is None or not foreign,
            "--ray flies this package's agents; lerobot:PATH and robomimic:PATH fly on one "
            "machine (--workers)",
        )
        for name, least in (("batch", 1), ("attempts", 1), ("threads", 1), ("workers", 0)):
            value = getattr(self, name)
            require(value >= least, f"{name} must be at least {least}, not {value}")
        for name in ("seed", "record"):
            value = getattr(self, name)
            require(value >= 0, f"{name} must be at least 0, not {value}")


class Incomplete(SimulatorError):
    """Some episodes have no outcome, because their environment broke every time."""


def evaluate(settings: EvalSettings) -> dict[str, Any]:
    """Flies the episodes that the journal lacks; returns what it writes to results.json.

    That is of all episodes that the folder was ever asked for.

    Raises:
        OutputExistsError: the output folder holds something and `resume` is not set.
        Incomplete: environments broke; the results say so, and `resume` tries them again.
        VPAgentError: the policy, the suite or the journal does not fit.
    """
    episodes = schedule(settings)
    check_output(settings)
    out = settings.out
    started = time.perf_counter()
    with lanes_of(settings, at_most=len(episodes)) as (policy, lanes):
        check_fits(policy, settings)  # before the folder: a wrong agent leaves nothing behind
        out.mkdir(parents=True, exist_ok=True)
        recording = Recording(
            folder=out, frame_stride=policy.frame_stride, control_hz=policy.control_hz
        )
        keys = [episode.key for episode in episodes]
        same = identity(settings, policy)
        flown = {"policy": settings.agent, "torch": policy.torch}
        with Journal(out / JOURNAL, identity=same, **flown) as journal:
            journal.schedule(keys, anew=not settings.resume)
            Flights(episodes, journal, lanes, recording=recording, record=settings.record).run()
            asked = journal.schedule(keys)  # others may have asked for more by now
    results = write_results(
        out,
        journal.records,
        asked,
        facts={**asdict(same), "policy": settings.agent, **policy.facts, "env": settings.env},
        settings={name: value for name, value in asdict(settings).items() if name != "out"},
        wall_s=time.perf_counter() - started,
    )
    if results["errors"]:
        raise Incomplete(
            f"{results['errors']} of {results['scheduled']} episodes have no outcome: their "
            f"environment broke {settings.attempts} times ({results['first_error']}). What is "
            f"known is in {out}; check the machine with vp-agent doctor, then run it again with "
            "--resume"
        )
    return results


def check_output(settings: EvalSettings) -> None:
    """Refuses a used output folder unless its journal is to go on, and one that cannot be made."""
    check_makeable(settings.out)
    if _holds_something(settings.out) and not settings.resume:
        raise OutputExistsError(
            f"{settings.out} is not empty; add --resume to go on with its journal, or choose "
            "another --out"
        )


def _holds_something(out: Path) -> bool:
    """Whether the folder holds more than what a refused start leaves behind."""
    if not out.exists():
        return False
    left = {JOURNAL, CLAIMS, SCHEDULE}
    journal = out / JOURNAL
    flown = journal.exists() and journal.stat().st_size > 0
    return flown or any(path.name not in left for path in out.iterdir())


def schedule(settings: EvalSettings) -> list[Episode]:
    """The episodes of a suite or an environment."""
    if settings.suite is not None:
        return suite(settings.suite).episodes(tasks=settings.tasks, count=settings.episodes)
    assert settings.env is not None
    if ":" not in settings.env and settings.env not in gym.registry:  # module:id is looked up later
        raise UnknownNameError(
            f"no environment {settings.env!r}{closest(settings.env, gym.registry)} "
            "(list them: vp-agent envs)"
        )
    return one_environment(settings.env, seed=settings.seed, episodes=settings.episodes or 100)


def identity(settings: EvalSettings, policy: LoadedPolicy) -> Identity:
    """What all lines of one journal agree on."""
    named: Suite | None = suite(settings.suite) if settings.suite else None
    return Identity(
        suite=f"env:{settings.env}" if named is None else named.name,
        suite_version=1 if named is None else named.version,
        **policy.identity,
        device=policy.device,
        threads=settings.threads,
        package=vp_agent.__version__,
        blank_images=settings.blank_images,
        fresh_env=settings.fresh_env,
        env_kwargs=dict(policy.env_kwargs),
    )


def check_fits(policy: LoadedPolicy, settings: EvalSettings) -> None:
    """Raises `ConfigError` if the suite's environments are not what the policy was made for."""
    if policy.sees_simulator:
        require(settings.workers == 0, f"{settings.agent} sees the simulator: add --workers 0")
    if settings.suite is None:
        return
    named = suite(settings.suite)
    lacking = set(policy.env_kwargs.get("views", ())) - set(named.views)
    if lacking:
        raise ConfigError(
            f"{settings.agent} looks at {', '.join(sorted(lacking))}, and {named.name} has only "
            f"the views {', '.join(named.views)}; evaluate an agent that was trained on them"
        )
    require(
        policy.action_dim == 7,
        f"{settings.agent} has {policy.action_dim}-D actions, {named.name} takes 7",
    )
    if policy.image_transform not in (None, "flip_v") and not named.turns_images:
        raise ConfigError(
            f"{settings.agent} was trained on images turned {policy.image_transform!r}, and "
            f"{named.name} shows them upright (flip_v)"
        )


@contextmanager
def lanes_of(
    settings: EvalSettings, *, at_most: int
) -> Iterator[tuple[LoadedPolicy, Sequence[Flier]]]:
    """The policy and who flies it, on this machine or in a Ray cluster."""
    count = min(max(settings.workers, 1), at_most)
    options = {
        "in_process": settings.workers == 0,
        "fresh_env": settings.fresh_env,
        "blank_images": settings.blank_images,
        "attempts": settings.attempts,
    }
    if settings.ray is None:
        policy = load_policy(settings)
        yield policy, [Lane(policy, **options) for _ in range(count)]
        return
    from vp_agent.evaluation.cluster import cluster, far_lanes

    # Ray's processes live in other folders.
    local = settings.agent not in YARDSTICKS and Path(settings.agent).is_dir()
    far = replace(settings, agent=str(Path(settings.agent).resolve())) if local else settings
    with cluster(settings.ray) as ray:
        yield far_lanes(ray, partial(load_policy, far), lanes=count, options=options)


def load_policy(settings: EvalSettings) -> LoadedPolicy:
    """The policy that `--agent` names."""
    if settings.agent in YARDSTICKS:
        return yardstick(settings.agent)
    if settings.agent.partition(":")[0] in POLICIES:
        from vp_agent.evaluation.foreign import load_foreign

        return load_foreign(
            settings.agent,
            device=settings.device,
            threads=settings.threads,
            trusted=settings.trusted,
            env_kwargs=settings.env_kwargs,
        )
    from vp_agent.evaluation.planner import load_agent  # torch, not needed for --help

    return load_agent(
        settings.agent,
        tier=settings.tier,
        steps=settings.steps,
        guidance=settings.guidance,
        device=settings.device,
        batch=settings.batch,
        threads=settings.threads,
    )
