"""A lane: one environment after the other, in a supervised process, and the flights in it."""

import datetime
import errno
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym

from vp_agent.envs.interpreters import make_in_worker
from vp_agent.errors import ConfigError, WorkerRefused
from vp_agent.evaluation.episode import EnvironmentFailed, about, environment_errors, fly
from vp_agent.evaluation.policy import LoadedPolicy
from vp_agent.evaluation.record import Flight
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.suites import Episode

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class Lane:
    """Flies episodes one by one; the environment is kept as long as it fits the next one.

    An error of the environment is tried again with the same seed in a new process. If it comes
    back every time it is the episode's line, with `success` None.
    """

    def __init__(
        self,
        policy: LoadedPolicy,
        *,
        in_process: bool = False,
        fresh_env: bool = True,
        blank_images: bool = False,
        attempts: int = 3,
    ) -> None:
        self._loaded, self._policy = policy, policy.lane()
        self._in_process, self._fresh_env = in_process, fresh_env
        self._blank_images, self._attempts = blank_images, attempts
        self._env: gym.Env | None = None
        self._kind: Any = None  # what the environment was made with

    def fly(self, episode: Episode, *, recording: Recording | None = None) -> Flight:
        """What the journal says of the episode."""
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        attempt, missing, reason = 1, None, ""
        while attempt <= self._attempts:
            try:
                flight = fly(
                    self._policy,
                    self._environment(episode),
                    episode,
                    blank_images=self._blank_images,
                    recording=recording,
                )
                self._renew()
                return replace(
                    flight,
                    video=missing or flight.video,
                    attempts=attempt,
                    gpu=self._loaded.gpu,
                    started=started,
                )
            except EnvironmentFailed as error:
                self.close()  # it may be in any state
                reason, attempt = str(error), attempt + 1
            except OSError as error:
                if recording is None or error.errno not in DISK_FULL:
                    raise
                # The episode counts for more than its film: once more without.
                recording, missing = None, f"missing: {error.strerror}"
                self.close()
        return Flight(
            **about(episode),
            success=None,
            attempts=self._attempts,
            error=reason,
            gpu=self._loaded.gpu,
            started=started,
        )

    def kill(self) -> None:
        """Ends the flight, from another thread; what `fly` returns then is not a result."""
        self._attempts = 0
        getattr(self._env, "kill", lambda: None)()

    def close(self) -> None:
        """Closes the environment; the next episode makes a new one."""
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _environment(self, episode: Episode) -> gym.Env:
        kwargs = {**self._loaded.env_kwargs, **episode.env_kwargs}
        if self._env is None or self._kind != (episode.env, kwargs):
            self.close()
            try:
                with environment_errors():
                    self._env = self._make(episode.env, kwargs)
            except WorkerRefused as error:
                raise WorkerRefused(f"{error}\nCheck this machine: vp-agent doctor") from error
            self._kind = episode.env, kwargs
            check_transform(self._env, self._loaded.image_transform)
        return self._env

    def _make(self, env: str, kwargs: Mapping[str, Any]) -> gym.Env:
        if self._in_process:
            return gym.make(env, disable_env_checker=True, **kwargs)
        return make_in_worker(env, kwargs=kwargs)

    def _renew(self) -> None:
        if self._fresh_env and self._env is not None:
            # a worker does it without importing its simulator again
            getattr(self._env.unwrapped, "renew", self.close)()


def check_transform(env: gym.Env, wanted: str | None) -> None:
    """Raises `ConfigError` unless the environment turns its images as the policy wants them."""
    turned = getattr(env.unwrapped, "transform", wanted)
    if wanted is not None and turned != wanted:
        env.close()
        raise ConfigError(
            f"the environment turns its images {turned!r}, the agent was trained on {wanted!r}; "
            f"make it with transform={wanted!r}"
        )
