"""Several workers as one vector environment: they step side by side."""

# N workers, A action dim

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from vp_agent.envs.interpreters import Place, place_of
from vp_agent.envs.worker import WorkerEnv
from vp_agent.errors import ActionError, ConfigError, WorkerError
from vp_agent.read_numbers import read_whole


def make_vector_env(
    *,
    env_id: str,
    num_envs: int,
    python: str | None = None,
    deadline_s: float | None = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    **kwargs: Any,
) -> "WorkerVectorEnv":
    """What `gym.make_vec(id, num_envs=n)` gives: always workers, if need be of this interpreter."""
    place = place_of(env_id, python=python) or Place()
    if deadline_s is not None:
        place = replace(place, deadline_s=deadline_s)
    return WorkerVectorEnv(
        env_id, num_envs=num_envs, place=place, autoreset_mode=autoreset_mode, kwargs=kwargs
    )


class WorkerVectorEnv(VectorEnv):
    """N workers of one environment id; each lane gives the episodes it would give alone.

    Observations have a leading axis and `task` is a tuple, as `VideoPolicyAgent.act` takes them.
    If workers fail, the others finish their step and the first failure is raised, with its lane;
    `reset` starts dead workers anew.

    Attributes:
        envs: the lanes.
    """

    def __init__(
        self,
        env_id: str,
        *,
        num_envs: int,
        place: Place = Place(),  # noqa: B008  (frozen)
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts the workers, side by side.

        Args:
            env_id: The environment id of every lane.
            num_envs: How many lanes.
            place: Interpreter, environment variables and deadline of the workers.
            autoreset_mode: NEXT_STEP: the step after an episode's end resets the lane and ignores
                its action. SAME_STEP: the step that ends an episode resets the lane; the last
                observation and info are `infos["final_obs"]` and `infos["final_info"]`. DISABLED:
                reset ended lanes yourself, with seeds of your choice, by
                `reset(seed=[...], options={"reset_mask": mask})`; the others stay as they are.
            kwargs: Arguments of the environment.
        """
        num_envs = read_whole("num_envs", num_envs, at_least=1)
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            names = ", ".join(mode.value for mode in AutoresetMode)
            raise ConfigError(f"autoreset_mode must be {names}, not {autoreset_mode!r}") from error
        self.num_envs = num_envs
        self._made_with = env_id, num_envs, place, self._mode, kwargs
        self._threads = ThreadPoolExecutor(num_envs)  # they only wait, each for its worker
        making = [WorkerEnv.__new__(WorkerEnv) for _ in range(num_envs)]
        futures = [
            self._threads.submit(
                _made,
                env,
                env_id,
                python=place.python,
                env=place.env,
                deadline_s=place.deadline_s,
                kwargs=kwargs,
            )
            for env in making
        ]
        try:
            wait(futures)
        except BaseException:  # such as Ctrl-C: the program would end only when all are made
            while True:  # one may only now have a process
                for env in making:
                    env.kill()
                if not wait(futures, timeout=0.1).not_done:
                    raise
        errors = [error for future in futures if (error := future.exception()) is not None]
        self.envs = [future.result() for future in futures if future.exception() is None]
        if errors:
            self.close()
            raise errors[0]
        first = self.envs[0]
        for lane, env in enumerate(self.envs):
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                self.close()
                raise WorkerError(f"lane {lane} of {env_id} has other spaces than lane 0")
        self.metadata = {**first.metadata, "autoreset_mode": self._mode}
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._observations: list[Any] = [None] * num_envs
        self._ended = np.zeros(num_envs, np.bool_)

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes cannot be copied: a copy (pickle, copy) starts its own and waits for a reset.
        return _made_anew, (type(self), *self._made_with)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all lanes, or those of `options["reset_mask"]` (N,).

        A number s as seed means s, s + 1, ...
        """
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + lane for lane in range(self.num_envs)]
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        if len(seed) != self.num_envs or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ConfigError(
                f"{self.num_envs} lanes need {self.num_envs} seeds and a reset_mask of as many "
                f"booleans, not {len(seed)} and {mask!r}"
            )
        outcomes = self._side_by_side(
            {
                lane: partial(env.reset, seed=seed[lane], options=options or None)
                for lane, env in enumerate(self.envs)
                if mask[lane]
            }
        )
        infos: dict[str, Any] = {}
        for lane, (_, info) in outcomes.items():
            infos = self._add_info(infos, info, lane)
        return self._batched(), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every lane, with actions (N, A)."""
        return self._stepped(actions, lambda env: env.step)

    def step_chunk(
        self, actions_NKA: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """K steps of every lane, or fewer where the episode ends; see `WorkerEnv.step_chunk`."""
        return self._stepped(actions_NKA, lambda env: env.step_chunk)

    def render(self) -> tuple[Any, ...]:
        """What every lane's `render` gives."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends every process."""
        wait([self._threads.submit(env.close) for env in self.envs])
        self._threads.shutdown()

    def _stepped(
        self, actions: np.ndarray, method: Callable[[WorkerEnv], Callable[[np.ndarray], Any]]
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        try:
            count = len(actions)
        except TypeError:
            count = 0
        if count != self.num_envs:
            raise ActionError(f"{self.num_envs} lanes need as many actions, not {count}")
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            raise gym.error.ResetNeeded(
                f"the episodes of lanes {np.flatnonzero(self._ended).tolist()} have ended; call "
                "reset(seed=[...], options={'reset_mask': mask}) first"
            )
        outcomes = self._side_by_side(
            {
                lane: env.reset if self._ended[lane] else partial(method(env), actions[lane])
                for lane, env in enumerate(self.envs)
            }
        )
        rewards = np.zeros(self.num_envs)
        terminations, truncations = np.zeros((2, self.num_envs), np.bool_)
        infos: dict[str, Any] = {}
        begun: dict[int, Any] = {}
        if self._mode is AutoresetMode.SAME_STEP:
            ended = np.flatnonzero(self._ended).tolist()
            begun = self._side_by_side({lane: self.envs[lane].reset for lane in ended})
        for lane, (observation, *numbers, info) in outcomes.items():
            if lane in begun:
                last = {"final_obs": observation, "final_info": info}
                infos, info = self._add_info(infos, last, lane), begun[lane][1]
            if numbers:  # else it was a reset
                rewards[lane], terminations[lane], truncations[lane] = numbers
            infos = self._add_info(infos, info, lane)
        return self._batched(), rewards, terminations, truncations, infos

    def _side_by_side(self, calls: Mapping[int, Callable[[], Any]]) -> dict[int, Any]:
        """Lane -> what its call returned; raises the first failure after all are done."""
        futures = {lane: self._threads.submit(call) for lane, call in calls.items()}
        try:
            wait(futures.values())
        except BaseException:  # such as Ctrl-C: end what the threads wait for
            for env in self.envs:
                env.kill()
            raise
        failure: BaseException | None = None
        for lane, future in futures.items():
            error = future.exception()
            if error is not None:
                error.args = (f"lane {lane}: {error}",)
                failure = failure or error
                self._ended[lane] = True
            else:
                self._observations[lane], *numbers, _ = future.result()
                self._ended[lane] = any(numbers[1:])
        if failure is not None:
            raise failure
        return {lane: future.result() for lane, future in futures.items()}

    def _batched(self) -> Any:
        if any(observation is None for observation in self._observations):
            raise gym.error.ResetNeeded("some lanes were never reset; call reset() for all first")
        space = self.single_observation_space
        empty = create_empty_array(space, self.num_envs)
        return concatenate(space, self._observations, empty)


def _made(lane: WorkerEnv, /, *args: Any, **kwargs: Any) -> WorkerEnv:
    """Known before it is made, so that it can be killed."""
    lane.__init__(*args, **kwargs)
    return lane


def _made_anew(
    kind: type[WorkerVectorEnv],
    env_id: str,
    num_envs: int,
    place: Place,
    mode: AutoresetMode,
    kwargs: Mapping[str, Any] | None,
) -> WorkerVectorEnv:
    return kind(env_id, num_envs=num_envs, place=place, autoreset_mode=mode, kwargs=kwargs)
