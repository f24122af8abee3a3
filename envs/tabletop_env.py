"""Tabletop tasks: three cubes and a bin; only the instruction says what to do with which cube."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vp_agent.envs.arm_env import CONTROL_HZ, ArmEnv, camera_of_view, check_name, seeded_globals
from vp_agent.envs.rendering import RenderQuality
from vp_agent.envs.robosuite_api import ARM_REACH, arm_state, import_robosuite
from vp_agent.envs.tabletop_motions import solved
from vp_agent.envs.tabletop_words import (
    HORIZON,
    PLACES,
    SHIFTS,
    TASKS,
    Instruction,
    Shift,
    instructions_of,
    read_instruction,
)
from vp_agent.errors import ConfigError, need

_CAMERAS = {"gripper": "robot0_eye_in_hand", "left": "agentview", "right": "sideview"}


class TabletopEnv(ArmEnv):
    """Three cubes in three slots and a bin; one of several motions, with one of the cubes.

    The scene of a seed is the same whatever is asked for. `info` also says where everything is
    (`hand`, `objects`), and under `facts` what an evaluation keeps: `motion`, the cube that was
    `named`, the one that was `approached` and the one that was `touched` first (see
    `TabletopScene`). Cubes are called by the place they start in.

    Attributes:
        asked: the instruction of the episode.
        named: the cube that it names, by its place.
    """

    keeps_model = True

    def __init__(
        self,
        *,
        task: str,
        instruction: str | Sequence[str] | None = None,
        shift: Shift | Sequence[Shift] = (),
        views: Mapping[str, str] | Sequence[str] = ("gripper", "left", "right"),
        resolution: tuple[int, int] = (256, 256),
        horizon: int | None = None,
        render_quality: RenderQuality = "full",
        terminate_on_success: bool = True,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Makes the task; nothing is simulated before `reset`.

        Args:
            task: Tabletop-Lift, Tabletop-All, TabletopColour-Lift and so on.
            instruction: What to do, or several sentences from which seed S takes number S modulo
                their count. None takes all of the task's own. `reset(options={"instruction":
                ...})` asks for one in an episode.
            shift: What differs from the scenes of training: cubes at "places" outside the range,
                new "colours", new "sizes", another "table", the fixed "camera" moved by 2 cm.
            views: Names of the views, or view -> name of the robosuite camera. Empty: no `pixels`.
            resolution: (height, width) of every view.
            horizon: Steps until truncation.
            render_quality: "fast" leaves out floor reflections; train and evaluate with the same.
            terminate_on_success: False goes on after success.
            render_mode: "rgb_array": `render` shows all views side by side.
        """
        check_name("task", task, TASKS)
        self._motions = TASKS[task].motions
        if instruction is None:
            self.instructions = instructions_of(TASKS[task])
        else:
            texts = (instruction,) if isinstance(instruction, str) else tuple(instruction)
            self.instructions = tuple(read_instruction(text, self._motions) for text in texts)
        if not self.instructions:
            raise ConfigError("instruction must be a sentence or at least one, not an empty list")
        self._shift = frozenset((shift,) if isinstance(shift, str) else shift)
        for name in self._shift:
            check_name("shift", name, SHIFTS)
        if "colours" in self._shift and any(i.naming == "colour" for i in self.instructions):
            raise ConfigError("with shift 'colours' no cube has a colour of the instructions")
        self._ask(self.instructions[0])
        super().__init__(
            task=task,
            instruction=self.asked.text,
            views=camera_of_view(views, _CAMERAS),
            resolution=resolution,
            horizon=HORIZON if horizon is None else horizon,
            render_quality=render_quality,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
            reach=ARM_REACH,
            packages=("robosuite", "mujoco"),
        )
        _ = self.sim_env  # quick to make here, so what is wrong is said at once

    def _ask(self, instruction: Instruction) -> None:
        self.asked = instruction
        self.instruction = instruction.text

    def _make_sim_env(self) -> Any:
        if importlib.util.find_spec("robosuite") is None:
            need("robosuite", extra="robosuite")
        robosuite = import_robosuite()
        from vp_agent.envs.tabletop_scene import TabletopScene

        with seeded_globals(0):
            return TabletopScene(
                shift=self._shift,
                robots="Panda",
                controller_configs=robosuite.load_composite_controller_config(
                    controller="BASIC", robot="Panda"
                ),
                control_freq=CONTROL_HZ,
                has_renderer=False,
                has_offscreen_renderer=False,  # see vp_agent.envs.rendering
                renderer="mujoco",
                use_camera_obs=False,
                hard_reset=False,  # sizes and colours are set in the model that is there
                ignore_done=True,
            )

    def _start(self, world_seed: int, options: Mapping[str, Any]) -> None:
        super()._start(world_seed, {})
        scene, text = self.sim_env, options.get("instruction")
        if text is None:
            self._ask(self.instructions[self._seed % len(self.instructions)])
        else:
            self._ask(read_instruction(text, self._motions))
        self.named = self._place_of(self.asked)
        motion, named = self.asked.motion, self.named
        scene.solved = lambda scene: solved(scene, motion, named)

    def _place_of(self, instruction: Instruction) -> str:
        if instruction.naming == "place":
            return instruction.name
        colours: Mapping[str, str] = self.sim_env.colours
        return next(place for place in PLACES if colours[place] == instruction.name)

    def _state(self) -> np.ndarray:
        return arm_state(self.sim_env)

    def _facts(self) -> dict[str, Any]:
        scene = self.sim_env
        objects = {place: scene.pose(place)[0].tolist() for place in PLACES}
        return {
            "hand": scene.hand.tolist(),
            "objects": {**objects, "bin": scene.bin.tolist()},
            "colours": dict(scene.colours),
            "facts": {
                "motion": self.asked.motion,
                "named": self.named,
                "approached": scene.approached,
                "touched": scene.touched,
            },
        }
