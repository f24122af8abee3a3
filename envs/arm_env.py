"""What the environments of all simulator families share: one robosuite-style simulation, seen by
cameras, moved by an arm.
"""

# K action steps, A action dim

import hashlib
import os
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding

from vp_agent.envs.rendering import (
    RENDER_QUALITIES,
    TRANSFORMS,
    Cameras,
    RenderQuality,
    Transform,
)
from vp_agent.envs.task_text import TaskText
from vp_agent.errors import ConfigError, UnknownNameError, closest
from vp_agent.images import check_resolution
from vp_agent.read_numbers import read_whole
from vp_agent.wrappers.finite_action import finite_rows

CONTROL_HZ = 20
ACTION_SIZE = 7  # end-effector delta (position 3, rotation vector 3), gripper
# A simulator's harmless underflow must not raise because the caller's NumPy is strict.
_NUMPY_AS_USUAL = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
_TEXT = string.ascii_letters + string.digits + string.punctuation + " "


class ArmEnv(gym.Env):
    """One task of one simulator: views, arm state and instruction in, 7 numbers out.

    A family says how its simulation is made (`_make_sim_env`), started (`_start`) and read
    (`_state`); seeding, images, the horizon and all checks are here.

    Attributes:
        views: view -> name of the simulator's camera.
        transform: how images are turned ("flip_v": upright); an agent has to see what it was
            trained on.
        sim_env: the simulator's own environment; made when it is first asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}
    draws_sites = False  # markers in robosuite; in other families part of the scene
    keeps_model = False  # True: a reset changes the model in place, and the cameras stay
    _made_with: dict[str, Any]

    def __new__(cls, **kwargs: Any):
        """Remembers the arguments, of which a copy is made."""
        env = super().__new__(cls)
        env._made_with = kwargs
        return env

    def __init__(
        self,
        *,
        task: str,
        instruction: str,
        views: Mapping[str, str],
        resolution: Sequence[int],
        horizon: int,
        render_quality: RenderQuality,
        terminate_on_success: bool,
        render_mode: Literal["rgb_array"] | None,
        reach: Sequence[float],
        packages: Sequence[str],
        transform: Transform = "flip_v",
    ) -> None:
        check_name("transform", transform, TRANSFORMS)
        check_name("render_quality", render_quality, RENDER_QUALITIES)
        if render_mode is not None:
            check_name("render_mode", render_mode, self.metadata["render_modes"])
        self.task = task
        self.instruction = instruction
        self.views = dict(views)
        self.resolution = check_resolution(resolution)
        self.horizon = read_whole("horizon", horizon, at_least=1)
        self.control_hz = CONTROL_HZ
        self.render_quality: RenderQuality = render_quality
        self.terminate_on_success = bool(terminate_on_success)
        self.render_mode = render_mode
        self.transform: Transform = transform
        self._packages, self._versions = tuple(packages), dict[str, str]()
        self._sim_env: Any = None
        self._cameras: Cameras | None = None
        self._gl_version = ""
        self._steps: int | None = None  # None: no episode is running
        self._pixels: dict[str, np.ndarray] = {}

        bound = np.asarray(reach, np.float32)
        spaces: dict[str, gym.Space] = {
            "agent_pos": gym.spaces.Box(-bound, bound, dtype=np.float32),
            "task": TaskText(256, charset=_TEXT),
        }
        if self.views:  # Gymnasium allows no empty Dict space
            image = gym.spaces.Box(0, 255, (*self.resolution, 3), np.uint8)
            spaces["pixels"] = gym.spaces.Dict(dict.fromkeys(self.views, image))
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        # A simulation cannot be copied: a copy (pickle, copy) is made anew and waits for a reset.
        return _made_anew, (type(self), self._made_with, self.spec)

    # What a family says

    def _make_sim_env(self) -> Any:
        """The simulator's environment, before any reset."""
        raise NotImplementedError

    def _start(self, world_seed: int, options: Mapping[str, Any]) -> None:
        """Resets the simulator; NumPy's global generator is seeded with `world_seed` already."""
        self.sim_env.rng = np.random.default_rng(world_seed)
        self.sim_env.reset()

    def _state(self) -> np.ndarray:
        """The numbers of `agent_pos`."""
        raise NotImplementedError

    def _sim_action(self, action: np.ndarray) -> np.ndarray:
        """The simulator's action for our seven numbers."""
        return action

    def _facts(self) -> dict[str, Any]:
        """What `info` also says."""
        return {}

    # Gymnasium's words

    @property
    def sim_env(self) -> Any:
        if self._sim_env is None:
            self._sim_env = self._make_sim_env()
            self._versions = {name: version(name) for name in self._packages}
            self._check_cameras()
        return self._sim_env

    @property
    def _max_episode_steps(self) -> int:
        return self.horizon  # LeRobot's evaluation asks environments for this name

    @_NUMPY_AS_USUAL
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the episode of `seed`; without one, the next from the environment's own generator.

        `info["seed"]` repeats the episode in either case.
        """
        seed = int(seed) if isinstance(seed, bool | np.integer) else seed
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        world_seed = int(seeding.np_random(self._seed)[0].integers(2**32))
        if not self.keeps_model:
            self._close_cameras()  # they draw the model that a hard reset throws away
        self._steps = None  # if the simulator fails now, no episode is running
        with seeded_globals(world_seed):
            self._start(world_seed, options or {})
        if self.views and self._cameras is None:
            model = self.sim_env.sim.model._model
            self._cameras = Cameras(
                model,
                resolution=self.resolution,
                quality=self.render_quality,
                sites=self.draws_sites,
            )
            self._gl_version = self._cameras.gl_version
        self._steps = 0
        data = self.sim_env.sim.data
        state = np.concatenate([data.qpos, data.qvel]).astype(np.float64)
        self._state_hash = hashlib.sha256(state.tobytes()).hexdigest()
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Moves the arm for 1/20 s; the reward is 1 on success and 0 otherwise."""
        return self.step_chunk([action])

    @_NUMPY_AS_USUAL
    def step_chunk(
        self, actions_KA: Sequence[np.ndarray] | np.ndarray
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Steps until the actions are used up or the episode ends; draws once, after the last one.

        The episode is the same as with `step`. The reward is the sum; `info["chunk_steps"]` says
        how many actions were executed.
        """
        if self._steps is None:
            raise gym.error.ResetNeeded("no episode is running; call env.reset(seed=...) first")
        actions = [np.clip(action, -1.0, 1.0) for action in finite_rows(actions_KA, ACTION_SIZE)]
        reward, terminated, truncated, info = 0.0, False, False, {}
        for count, action in enumerate(actions, start=1):
            self.sim_env.step(self._sim_action(action))
            self._steps += 1
            info = {**self._info(), "chunk_steps": count}
            reward += float(info["is_success"])
            terminated = info["is_success"] and self.terminate_on_success
            truncated = not terminated and self._steps >= self.horizon
            if terminated or truncated:
                break
        observation = self._observation()
        if terminated or truncated:
            self._steps = None
        return observation, reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """All views of the last observation, side by side."""
        if self.render_mode is None:
            return None
        if not self._pixels:
            raise gym.error.ResetNeeded("nothing to show: no reset yet, or made with views=()")
        return np.concatenate(list(self._pixels.values()), axis=1)

    def close(self) -> None:
        """Frees the simulator and its GL objects."""
        self._close_cameras()
        self._steps = None
        if self._sim_env is not None:
            self._sim_env.close()

    def _observation(self) -> dict[str, Any]:
        observation: dict[str, Any] = {
            "agent_pos": self._state().astype(np.float32),
            "task": self.instruction,
        }
        if self._cameras is not None:
            images = self._cameras.draw(self.sim_env.sim.data._data, self.views.values())
            turned = TRANSFORMS[self.transform]
            self._pixels = {
                view: turned(image) for view, image in zip(self.views, images, strict=True)
            }
            observation["pixels"] = {view: image.copy() for view, image in self._pixels.items()}
        return observation

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": bool(self.sim_env._check_success()),
            "seed": self._seed,
            "versions": dict(self._versions),  # callers keep infos: share nothing between them
            "render_quality": self.render_quality,
            "gl": os.environ.get("MUJOCO_GL", ""),
            "gl_version": self._gl_version,
            "state_hash": self._state_hash,
            **self._facts(),
        }

    def _check_cameras(self) -> None:
        known = self._sim_env.sim.model.camera_names
        for view, camera in self.views.items():
            if camera not in known:
                raise UnknownNameError(
                    f"view {view!r}: {self.task} has no camera {camera!r}{closest(camera, known)} "
                    f"It has: {', '.join(known)}"
                )

    def _close_cameras(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None


def _made_anew(kind: type[ArmEnv], kwargs: dict[str, Any], spec: Any) -> ArmEnv:
    env = kind(**kwargs)
    env.spec = spec
    return env


def camera_of_view(
    views: Mapping[str, str] | Sequence[str], cameras: Mapping[str, str]
) -> dict[str, str]:
    """view -> camera, from such a mapping or from names of the family's own views."""
    if isinstance(views, Mapping):
        return dict(views)
    if isinstance(views, str):
        raise ConfigError(
            f"views must be a sequence such as ({views!r},), not the string {views!r}"
        )
    for view in views:
        check_name("view", view, cameras)
    return {view: cameras[view] for view in views}


def check_name(what: str, name: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    """Raises `UnknownNameError` unless `name` is one of `known`."""
    if name not in known:
        raise UnknownNameError(
            f"no {what} {name!r}{closest(str(name), known)}; known: {', '.join(known)}"
        )


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """robosuite draws from NumPy's global generator; the caller's is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
