"""Five robosuite tasks as Gymnasium environments with LeRobot's observation words."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vp_agent.envs.arm_env import CONTROL_HZ, ArmEnv, camera_of_view, check_name, seeded_globals
from vp_agent.envs.families import ROBOSUITE_HORIZONS
from vp_agent.envs.rendering import RenderQuality
from vp_agent.envs.robosuite_api import ARM_REACH, arm_state, import_robosuite
from vp_agent.errors import need

_CAMERAS = {"gripper": "robot0_eye_in_hand", "left": "agentview", "right": "sideview"}


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


class RobosuiteEnv(ArmEnv):
    """A robosuite task with a Panda arm: views, arm state and instruction in, 7 numbers out."""

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
        check_name("task", task, _TASKS)
        super().__init__(
            task=task,
            instruction=_TASKS[task].instruction,
            views=camera_of_view(views, _TASKS[task].cameras),
            resolution=resolution,
            horizon=ROBOSUITE_HORIZONS[task] if horizon is None else horizon,
            render_quality=render_quality,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
            reach=ARM_REACH,
            packages=("robosuite", "mujoco"),
        )
        _ = self.sim_env  # quick to make here, so what is wrong is said at once

    def _make_sim_env(self) -> Any:
        return _make_robosuite(self.task)

    def _state(self) -> np.ndarray:
        return arm_state(self.sim_env)


def _make_robosuite(task: str) -> Any:
    if importlib.util.find_spec("robosuite") is None:
        need("robosuite", extra="robosuite")
    robosuite = import_robosuite()
    with seeded_globals(0):
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
