"""Five robosuite tasks as Gymnasium environments with LeRobot's observation words."""

import importlib
import importlib.util
import logging
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding

from vp_agent.envs import ROBOSUITE_HORIZONS
from vp_agent.envs.rendering import RENDER_QUALITIES, Cameras, RenderQuality, choose_gl, gl_error
from vp_agent.errors import ActionError, ConfigError, UnknownNameError, closest, need

CONTROL_HZ = 20
ACTION_SIZE = 7  # end-effector delta (position 3, rotation vector 3), gripper
STATE_SIZE = 8  # end-effector position 3, axis-angle 3, finger positions 2
_CAMERAS = {"gripper": "robot0_eye_in_hand", "left": "agentview", "right": "sideview"}
_TEXT = string.ascii_letters + string.digits + string.punctuation + " "


@dataclass(frozen=True)
class _Task:
    instruction: str
    cameras: Mapping[str, str]


_TASKS = {
    "Lift": _Task("lift the cube", _CAMERAS),
    "Stack": _Task("stack the red cube on the green cube", _CAMERAS),
    "Door": _Task("open the door", _CAMERAS),
    "NutAssemblySquare": _Task("put the square nut on the square peg", _CAMERAS),
    # this arena has no side camera
    "PickPlaceCan": _Task("put the can into its bin", {**_CAMERAS, "right": "frontview"}),
}


class RobosuiteEnv(gym.Env):
    """A robosuite task with a Panda arm: views, arm state and instruction in, 7 numbers out."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}

    def __init__(
        self,
        *,
        task: str,
        views: Mapping[str, str] | Sequence[str] = ("gripper", "left", "right"),
        resolution: tuple[int, int] = (256, 256),
        horizon: int | None = None,
        render_quality: RenderQuality = "full",
        terminate_on_success: bool = True,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Makes the task; nothing is simulated before `reset`.

        Args:
            task: Lift, Stack, Door, NutAssemblySquare or PickPlaceCan.
            views: Names of the views, or view -> name of the robosuite camera. Empty: no `pixels`.
            resolution: (height, width) of every view.
            horizon: Steps until truncation; None takes the task's own.
            render_quality: "fast" leaves out floor reflections and is 3 to 4 times faster on a CPU;
                images look a little different, so train and evaluate with the same.
            terminate_on_success: False goes on after success (for demonstrations that hold still).
            render_mode: "rgb_array": `render` shows all views side by side.
        """
        _check_name("task", task, _TASKS)
        _check_name("render_quality", render_quality, RENDER_QUALITIES)
        if render_mode is not None:
            _check_name("render_mode", render_mode, self.metadata["render_modes"])
        horizon = ROBOSUITE_HORIZONS[task] if horizon is None else horizon
        if not isinstance(horizon, int) or horizon <= 0:
            raise ConfigError(f"horizon must be a positive number of steps, not {horizon!r}")
        sizes = tuple(resolution)
        if len(sizes) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in sizes):
            raise ConfigError(f"resolution must be (height, width), both > 0, not {resolution!r}")
        self.task = task
        self.instruction = _TASKS[task].instruction
        self.views = _camera_of_view(task, views)
        self.resolution = (int(sizes[0]), int(sizes[1]))
        self.horizon = horizon
        self.control_hz = CONTROL_HZ
        self.render_quality: RenderQuality = render_quality
        self.terminate_on_success = terminate_on_success
        self.render_mode = render_mode
        self.sim_env = _make_robosuite(task)
        self._check_cameras()
        self._cameras: Cameras | None = None
        self._steps: int | None = None  # None: no episode is running
        self._pixels: dict[str, np.ndarray] = {}
        self._versions = {name: version(name) for name in ("robosuite", "mujoco")}

        reach = np.array([10.0] * 3 + [2 * np.pi] * 3 + [1.0] * 2, np.float32)
        spaces: dict[str, gym.Space] = {
            "agent_pos": gym.spaces.Box(-reach, reach, dtype=np.float32),
            "task": gym.spaces.Text(256, charset=_TEXT),
        }
        if self.views:  # Gymnasium allows no empty Dict space
            image = gym.spaces.Box(0, 255, (*self.resolution, 3), np.uint8)
            spaces["pixels"] = gym.spaces.Dict(dict.fromkeys(self.views, image))
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    @property
    def _max_episode_steps(self) -> int:
        return self.horizon  # LeRobot's evaluation asks environments for this name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the episode of `seed`; without one, the next from the environment's own generator.

        `info["seed"]` repeats the episode in either case.
        """
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        world_seed = int(seeding.np_random(self._seed)[0].integers(2**32))
        self._close_cameras()  # they draw the model that a hard reset throws away
        with _seeded_globals(world_seed):
            self.sim_env.rng = np.random.default_rng(world_seed)
            self.sim_env.reset()
        if self.views:
            model = self.sim_env.sim.model._model
            self._cameras = Cameras(model, resolution=self.resolution, quality=self.render_quality)
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Moves the arm for 1/20 s; the reward is 1 on success and 0 otherwise."""
        if self._steps is None:
            raise gym.error.ResetNeeded("no episode is running; call env.reset(seed=...) first")
        action = _checked_action(action)
        self.sim_env.step(action)
        self._steps += 1
        info = self._info()
        terminated = info["is_success"] and self.terminate_on_success
        truncated = not terminated and self._steps >= self.horizon
        observation = self._observation()
        if terminated or truncated:
            self._steps = None
        return observation, float(info["is_success"]), terminated, truncated, info

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
        self.sim_env.close()

    def _observation(self) -> dict[str, Any]:
        robot, data = self.sim_env.robots[0], self.sim_env.sim.data
        hand = robot.robot_model.eef_name["right"]
        fingers = robot._ref_gripper_joint_pos_indexes["right"]
        state = np.concatenate(
            [
                data.site_xpos[robot.eef_site_id["right"]],
                _axis_angle(data.body_xquat[self.sim_env.sim.model.body_name2id(hand)]),
                data.qpos[fingers],
            ]
        )
        observation: dict[str, Any] = {
            "agent_pos": state.astype(np.float32),
            "task": self.instruction,
        }
        if self._cameras is not None:
            images = self._cameras.draw(data._data, self.views.values())
            self._pixels = dict(zip(self.views, images, strict=True))
            observation["pixels"] = {view: image.copy() for view, image in self._pixels.items()}
        return observation

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": bool(self.sim_env._check_success()),
            "seed": self._seed,
            "versions": dict(self._versions),  # callers keep infos: share nothing between them
            "render_quality": self.render_quality,
        }

    def _check_cameras(self) -> None:
        known = self.sim_env.sim.model.camera_names
        for view, camera in self.views.items():
            if camera not in known:
                raise UnknownNameError(
                    f"view {view!r}: robosuite's {self.task} has no camera {camera!r}"
                    f"{closest(camera, known)} It has: {', '.join(known)}"
                )

    def _close_cameras(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None


def _camera_of_view(task: str, views: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(views, Mapping):
        return dict(views)
    if isinstance(views, str):
        raise ConfigError(
            f"views must be a sequence such as ({views!r},), not the string {views!r}"
        )
    cameras = _TASKS[task].cameras
    for view in views:
        _check_name("view", view, cameras)
    return {view: cameras[view] for view in views}


def _check_name(what: str, name: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    if name not in known:
        raise UnknownNameError(
            f"no {what} {name!r}{closest(str(name), known)} Known: {', '.join(known)}"
        )


def _checked_action(action: Any) -> np.ndarray:
    try:
        numbers = np.asarray(action, np.float64)
    except (TypeError, ValueError) as error:
        raise ActionError(f"the action must be {ACTION_SIZE} numbers, not {action!r}") from error
    if numbers.shape != (ACTION_SIZE,):
        raise ActionError(f"the action must have shape ({ACTION_SIZE},), not {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ActionError(f"the action must be finite, not {numbers}")
    return np.clip(numbers, -1.0, 1.0)


def _axis_angle(quaternion_wxyz: np.ndarray) -> np.ndarray:
    # The angle runs to 2 pi: the hand points down (angle about pi), where the shorter of the two
    # equal rotations would jump from +pi to -pi. MuJoCo's quaternion itself is continuous.
    w, xyz = float(np.clip(quaternion_wxyz[0], -1, 1)), quaternion_wxyz[1:]
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if sine < 1e-9 else xyz * (2 * np.arccos(w) / sine)


@contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    """robosuite draws from NumPy's global generator; the caller's is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _make_robosuite(task: str) -> Any:
    choose_gl()
    # robosuite logs a dozen lines at import and at every make; its own errors still come through
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    if importlib.util.find_spec("robosuite") is None:
        need("robosuite", extra="robosuite")
    try:
        robosuite: Any = importlib.import_module("robosuite")
    except Exception as error:  # PyOpenGL without its library raises AttributeError and others
        raise gl_error(error) from error
    with _seeded_globals(0):
        return robosuite.make(
            task,
            robots="Panda",
            controller_configs=robosuite.load_composite_controller_config(
                controller="BASIC", robot="Panda"
            ),
            control_freq=CONTROL_HZ,
            has_renderer=False,
            has_offscreen_renderer=False,  # see vp_agent.envs.rendering
            renderer="mujoco",
            use_camera_obs=False,
            use_object_obs=False,
            hard_reset=True,  # sizes of the objects are drawn when the model is built
            ignore_done=True,
        )
