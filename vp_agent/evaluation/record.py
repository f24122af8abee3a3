"""One line of the journal: `EpisodeRecord`, what is in it, and how it is read and written.

A line carries the SHA-256 of its own text, so that a changed one is not believed. Lines of schema
1 and 2 were written before that and are read as they are.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vp_agent.errors import VPAgentError
from vp_agent.strict_json import no_constant, once
from vp_agent.typed import Misfit, fit

SCHEMA = 3
OLD_SCHEMAS = (1, 2)  # without checksums
Key = tuple[str, int]  # task, episode
# Of the identity; the lines of earlier versions lack them.
ADDED = ("device", "threads")

# The fields of schema 1, whose `env` was the task and whose `seed` the number.
_SCHEMA_1 = {
    *("env", "agent", "tier", "sampler", "blank_images", "fresh_env", "env_kwargs", "seed"),
    *("success", "steps", "horizon", "instruction", "plans", "seconds_per_plan", "wall_s"),
    *("video", "simulator"),
}
_SEAL = ', "sha256": "'
_SEALED = re.compile(rb'(.*), "sha256": "([0-9a-f]{64})"\}', re.DOTALL)
_VIDEO = re.compile(r"videos/[A-Za-z0-9_-][A-Za-z0-9._-]*\.mp4|missing: .*", re.DOTALL)
_MAX_LINE = 1 << 20  # bytes
_MAX_DEPTH = 16
_MAX_NAME = 300  # characters
_MAX_NUMBER, _MAX_SECONDS = 2**63, 1e9


class EvaluationError(VPAgentError, ValueError):
    """A folder that holds no evaluation that can be read."""


class JournalError(EvaluationError):
    """A journal that is damaged or belongs to another evaluation."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What all lines of one evaluation agree on.

    Attributes:
        schema: of the line.
        suite: "env:ID" for a single environment.
        suite_version: raised whenever an episode of the suite changes.
        agent: fingerprint of the agent's folder, or the name of a yardstick.
        tier: of the sampler.
        sampler: its settings.
        batch: plans per call of the network.
        device: "cpu" or "cuda".
        threads: CPU threads of the network.
        package: version of this package.
        blank_images: whether the agent was given black images.
        fresh_env: whether every episode got a new environment.
        env_kwargs: arguments of the environment.
    """

    schema: int = SCHEMA
    suite: str
    suite_version: int = 1
    agent: str
    tier: str | None = None
    sampler: dict[str, Any] | None = None
    batch: int | None = None
    device: str | None = None
    threads: int | None = None
    package: str | None = None
    blank_images: bool = False
    fresh_env: bool | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Flight:
    """One flown episode; of one without an outcome (`success` None) only `error` says more.

    Attributes:
        task: its name in the suite.
        category: of the task; "" if the suite has none.
        env: environment id.
        episode: number among the task's episodes.
        seed: of the environment's reset.
        scene: that the environment drew or was given.
        gpu: that planned, or "none".
        started: when, in UTC.
        success: None if the environment broke every time.
        error: what broke it then.
        attempts: flights until there was an outcome.
        steps: control steps.
        horizon: steps after which an episode ends.
        instruction: that the agent was given.
        plans: calls of the policy.
        plan_s: seconds of each.
        seconds_per_plan: their mean.
        wall_s: seconds of the episode.
        video: its film in the evaluation's folder, or "missing: " and why.
        video_sha256: of the film.
        simulator: package -> version.
        gl: backend that drew.
        gl_version: renderer and version of OpenGL.
        state_hash: of the simulation after reset.
        standin: whether stand-in assets were used.
        facts: what the environment says of the episode: which object was named, which approached.
    """

    task: str
    category: str = ""
    env: str
    episode: int
    seed: int
    scene: Any = None
    gpu: str | None = None
    started: str | None = None
    success: bool | None
    error: str | None = None
    attempts: int = 1
    steps: int | None = None
    horizon: int | None = None
    instruction: str | None = None
    plans: int | None = None
    plan_s: list[float] | None = None
    seconds_per_plan: float | None = None
    wall_s: float | None = None
    video: str | None = None
    video_sha256: str | None = None
    simulator: dict[str, str] = field(default_factory=dict)
    gl: str | None = None
    gl_version: str | None = None
    state_hash: str | None = None
    standin: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Task and number."""
        return self.task, self.episode

    @property
    def film(self) -> str | None:
        """Path of the film in the evaluation's folder; None if there is none."""
        return self.video if self.video and self.video.startswith("videos/") else None


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord(Flight, Identity):
    """A line of the journal.

    Attributes:
        policy: what was flown, as the user typed it.
        torch: version of what planned with.
    """

    policy: str | None = None
    torch: str | None = None

    def __post_init__(self) -> None:
        if self.schema not in (*OLD_SCHEMAS, SCHEMA):
            raise Misfit(
                f"is of journal schema {self.schema}; this version of vp-agent reads 1, 2 and "
                f"{SCHEMA} (a newer one: pip install --upgrade vp-agent)"
            )
        for name in ("task", "env", "suite", "category", "agent"):
            text = getattr(self, name)
            if len(text) > _MAX_NAME or not text.isprintable():
                raise Misfit(f"has {name} = {text!r:.100}, which is no name")
        for each in fields(self):
            value = getattr(self, each.name)
            if type(value) is int and not 0 <= value < _MAX_NUMBER:
                raise Misfit(f"has {each.name} = {value!r:.50}, which is no count")
        times = [self.seconds_per_plan, self.wall_s, *(self.plan_s or ())]
        if not all(time is None or 0 <= time <= _MAX_SECONDS for time in times):  # refuses NaN
            raise Misfit("has seconds below 0 or without an end")
        if self.success is not None:
            outcome = ("steps", "plans", "seconds_per_plan", "wall_s")
            missing = [name for name in outcome if getattr(self, name) is None]
            if missing or self.error is not None:
                said = f"no {', '.join(missing)}" if missing else f"error = {self.error!r:.100}"
                raise Misfit(f"has an outcome and {said}")
        if self.video is not None and not _VIDEO.fullmatch(self.video):
            raise Misfit(f"has video = {self.video!r:.100}, expected videos/NAME.mp4 in its folder")
        if not _is_flat(asdict(self), _MAX_DEPTH):
            raise Misfit(f"is more than {_MAX_DEPTH} lists deep")

    @property
    def identity(self) -> Identity:
        """What the other lines of its journal have, too."""
        return Identity(**{each.name: getattr(self, each.name) for each in fields(Identity)})


def record_of(
    flight: Flight, identity: Identity, *, policy: str | None = None, torch: str | None = None
) -> EpisodeRecord:
    """The line of a flight."""
    return EpisodeRecord(**vars(identity), **vars(flight), policy=policy, torch=torch)


def written(record: EpisodeRecord) -> bytes:
    """The line as it stands in the file, with its checksum if it is not of an old schema."""
    values = asdict(record)
    if record.schema in OLD_SCHEMAS:
        return json.dumps(values, allow_nan=False).encode() + b"\n"
    text = json.dumps(values, allow_nan=False)[:-1]
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text}{_SEAL}{digest}"}}\n'.encode()


def parsed(line: bytes, where: str) -> EpisodeRecord:
    """The record of a whole line.

    Args:
        line: without its end.
        where: file and number of the line, for errors.

    Raises:
        JournalError: it is no record, or was changed after it had been written.
    """
    fix = "remove that line to fly its episode again"
    if len(line) > _MAX_LINE:
        raise JournalError(f"{where} has {len(line):,} bytes, which no episode has; {fix}")
    try:
        values = json.loads(line, object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise JournalError(
            f"{where} is damaged ({error!s:.100}); expected one JSON object per line; {fix}"
        ) from error
    try:
        if isinstance(values, dict):
            values = _modern(values) if "schema" not in values else _checked(line, values)
        return fit(EpisodeRecord, values)
    except Misfit as error:
        raise JournalError(
            f"{where} {error}; expected a line of a journal of `vp-agent eval`. If it was changed, "
            f"{fix}"
        ) from error


def _modern(values: dict[str, Any]) -> dict[str, Any]:
    """A line of schema 1 in today's words."""
    missing = [name for name in ("env", "agent", "seed", "success") if name not in values]
    if missing or not values.keys() <= _SCHEMA_1:
        raise Misfit(f"has no schema{', '.join(['', *missing])}")
    old = {"schema": 1, "task": values["env"], "episode": values["seed"]}
    return {**old, "suite": f"env:{values['env']}", **values}


def _checked(line: bytes, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a line that is as it was written, without its checksum."""
    if values["schema"] in OLD_SCHEMAS and values["schema"] is not True:
        return values
    if values["schema"] == SCHEMA and "sha256" not in values:
        raise Misfit("has no sha256, its checksum")
    found = _SEALED.fullmatch(line)
    if values["schema"] == SCHEMA and (
        found is None or hashlib.sha256(found[1]).hexdigest() != found[2].decode()
    ):
        raise Misfit("was changed after it had been written (its sha256 is another)")
    return {name: value for name, value in values.items() if name != "sha256"}


def _is_flat(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, float):
        return math.isfinite(value)
    if not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(_is_flat(item, depth - 1) for item in value)
