"""An environment in a supervised process of its own, and with an interpreter of its own."""

# K action steps, A action dim

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from vp_agent.envs.worker_messages import (
    Stepped,
    check_deadline,
    check_started,
    check_stepped,
    read_made,
)
from vp_agent.envs.worker_process import Result, Worker
from vp_agent.errors import ActionError, WorkerError
from vp_agent.read_numbers import read_array

DEADLINE_S = 180.0  # the first reset of a kitchen on a busy machine takes most of a minute


class WorkerEnv(gym.Env):
    """One environment in a child process; a crash there is an error here, never a hang.

    It gives the same episodes as the environment in this process. After `WorkerDied` or
    `WorkerTimeout`, `reset` starts a new process; without a seed it repeats the episode that was
    lost. The attributes of the environments of this package are copied from the child; one that
    the environment has not, this one has not.

    Attributes:
        worker: the process; None after `close`.
    """

    control_hz: int
    horizon: int
    instruction: str
    render_quality: str
    resolution: tuple[int, int]
    views: dict[str, str]
    worker: Worker | None = None

    def __init__(
        self,
        env_id: str,
        *,
        python: str = "self",
        env: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts the process and makes the environment in it.

        Args:
            env_id: An environment id; "module:id" imports the module in the child first.
            python: The child's interpreter; "self" is this one. It needs Gymnasium, NumPy and the
                simulator; this package's code comes from here.
            env: Environment variables of the child, on top of this process's.
            deadline_s: Seconds for every single call, and for the start.
            kwargs: Arguments of the environment: numbers, strings, arrays, lists, tuples, dicts.

        Raises:
            WorkerRefused: the interpreter cannot run a worker.
            WorkerDied: the process ended while it made the environment.
            WorkerTimeout: it took longer than `deadline_s`.
        """
        check_deadline(deadline_s)
        self.env_id, self.python, self.deadline_s = env_id, python, deadline_s
        self._env, self._kwargs = dict(env or {}), dict(kwargs or {})
        self._seed: int | None = None  # of the running episode, if known
        self._running = self._outdated = False
        self._start()

    def __reduce__(self) -> tuple[Any, ...]:
        # A process cannot be copied: a copy (pickle, copy) starts its own and waits for a reset.
        options = {
            "python": self.python,
            "env": self._env,
            "deadline_s": self.deadline_s,
            "kwargs": self._kwargs,
        }
        return _made_anew, (type(self), self.env_id, options, self.spec)

    @property
    def _max_episode_steps(self) -> int:
        return self.horizon  # LeRobot's evaluation asks environments for this name

    @property
    def sim_env(self) -> Any:
        """Not here: tools that look into the simulator must run in its own process."""
        raise WorkerError(
            f"the simulator of {self.env_id} is in another process ({self.python}); run this "
            "command with that interpreter, and with VP_AGENT_CONFIG= if vp-agent.toml names one"
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, in a new process if the last one is dead."""
        seed = int(seed) if isinstance(seed, bool | np.integer) else seed
        super().reset(seed=seed)
        if self.worker is None or not self.worker.alive:
            seed = self._seed if seed is None else seed
            self._start()
        elif self._outdated:
            self._make()
        self._running, self._seed = False, seed
        check = partial(check_started, self.observation_space)
        observation, info, attributes = self._call("reset", check, seed=seed, options=options)
        self.__dict__.update(attributes)
        known = info.get("seed")
        if seed is None and type(known) is int and known >= 0:
            self._seed = known
        self._running = True
        return observation, info

    def step(self, action: np.ndarray) -> Stepped:
        """One step, in the child."""
        check = partial(check_stepped, self.observation_space)
        return self._stepped("step", check, action=_sendable(action))

    def step_chunk(self, actions_KA: Sequence[np.ndarray] | np.ndarray) -> Stepped:
        """Steps until the actions are used up or the episode ends, with one message."""
        actions = _sendable(actions_KA)
        at_most = len(actions) if actions.ndim else 1
        check = partial(check_stepped, self.observation_space, at_most=at_most)
        return self._stepped("step_chunk", check, actions=actions)

    def render(self) -> Any:
        """What the environment's `render` gives, in the `render_mode` it was made with."""
        return self._call("render", lambda drawn: drawn)  # what Gymnasium does not say either

    def renew(self) -> None:
        """Has the next `reset` make the environment anew, in the same process."""
        self._running, self._outdated = False, True

    def kill(self) -> None:
        """Ends the process at once, also from another thread."""
        if self.worker is not None:
            self.worker.kill()

    def close(self) -> None:
        """Closes the environment and ends the process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None
        self._running = False

    def _start(self) -> None:
        self.worker = Worker(self.python, env=self._env, deadline_s=self.deadline_s)
        try:
            self._make()
        except BaseException:
            self.worker.kill()
            raise

    def _make(self) -> None:
        made = self._call("make", read_made, env_id=self.env_id, kwargs=self._kwargs)
        self._outdated = False
        self.__dict__.update(made.attributes)
        self.action_space, self.observation_space = made.action_space, made.observation_space

    def _stepped(self, name: str, check: Callable[[Any], Stepped], **arguments: Any) -> Stepped:
        if not self._running:
            raise gym.error.ResetNeeded("no episode is running; call env.reset(seed=...) first")
        return self._call(name, check, **arguments)

    def _call(self, name: str, check: Callable[[Any], Result], **arguments: Any) -> Result:
        if self.worker is None or not self.worker.alive:
            raise gym.error.ResetNeeded("there is no process; call env.reset(seed=...) first")
        try:
            return self.worker.call(name, deadline_s=self.deadline_s, check=check, **arguments)
        finally:
            self._running = self._running and self.worker.alive


def _made_anew(kind: type[WorkerEnv], env_id: str, options: dict[str, Any], spec: Any) -> WorkerEnv:
    env = kind(env_id, **options)
    env.spec = spec
    return env


def _sendable(action: Any) -> np.ndarray:
    try:
        return read_array(action)
    except ValueError as error:
        raise ActionError(f"an action is an array of numbers, {error}") from error
