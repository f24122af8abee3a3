"""LIBERO's 130 tasks as Gymnasium environments with LeRobot's observation words."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vp_agent.envs.arm_env import ArmEnv, camera_of_view, check_name, seeded_globals
from vp_agent.envs.families import LIBERO_TASKS
from vp_agent.envs.libero_install import find_assets, load_libero, require_package
from vp_agent.envs.libero_tasks import (
    HORIZONS,
    PROTOCOLS,
    STATES,
    initial_states,
    libero_task,
)
from vp_agent.envs.rendering import RenderQuality, Transform
from vp_agent.envs.robosuite_api import ARM_REACH, arm_state
from vp_agent.errors import SimulatorError

_CAMERAS = {"agent": "agentview", "gripper": "robot0_eye_in_hand"}
_REST = np.array([0.0] * 6 + [-1.0])  # no motion, open hand
_PLACEMENT_TRIES = 100


class LiberoEnv(ArmEnv):
    """A LIBERO task with a Panda arm: views, arm state and instruction in, 7 numbers out.

    Attributes:
        protocol: "states" or "uva".
    """

    draws_sites = True  # a burner that is on glows by a site

    def __init__(
        self,
        *,
        task: str,
        protocol: Literal["states", "uva"] = "states",
        transform: Transform = "flip_v",
        assets: str | os.PathLike[str] | None = None,
        views: Mapping[str, str] | Sequence[str] | None = None,
        resolution: tuple[int, int] | None = None,
        horizon: int | None = None,
        render_quality: RenderQuality = "full",
        terminate_on_success: bool = True,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Checks the arguments; the simulator is loaded by the first `reset`.

        Args:
            task: Suite and index, such as "object-3" or "10-0".
            protocol: "states": the 50 fixed initial states, seed i takes state i mod 50.
                "uva": random placements, seeds from 100000, 500 steps, the agent view only.
            transform: "flip_v": upright. "raw": as LIBERO and its demonstrations store images,
                upside down. "rot180": raw rotated by half a turn (LeRobot's), upright but mirrored.
            assets: Folder of LIBERO's assets; None takes the variable VP_AGENT_LIBERO_ASSETS,
                LIBERO's own folders, or downloads them.
            views: Names of the views (agent, gripper), or view -> name of LIBERO's camera. None
                takes the protocol's; empty: no `pixels`.
            resolution: (height, width) of every view; None takes the protocol's.
            horizon: Steps until truncation; None takes the protocol's.
            render_quality: "fast" leaves out reflections; see `RobosuiteEnv`.
            terminate_on_success: False goes on after success.
            render_mode: "rgb_array": `render` shows all views side by side.

        Raises:
            UnknownNameError: no such task, protocol, transform or view.
            MissingExtraError: LIBERO or its version of robosuite is not installed.
            SimulatorError: `assets` is no folder of LIBERO's assets.
        """
        check_name("task", task, LIBERO_TASKS)
        check_name("protocol", protocol, PROTOCOLS)
        require_package()
        rules = PROTOCOLS[protocol]
        self._libero = libero_task(task)
        if horizon is None:
            horizon = rules.horizon or HORIZONS[self._libero.suite]
        super().__init__(
            task=task,
            instruction=self._libero.instruction,
            views=camera_of_view(rules.views if views is None else views, _CAMERAS),
            resolution=rules.resolution if resolution is None else resolution,
            horizon=horizon,
            render_quality=render_quality,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
            reach=ARM_REACH,
            packages=("hf-libero", "robosuite", "mujoco"),
            transform=transform,
        )
        self.protocol = protocol
        self._assets, self._state_index = find_assets(assets), None

    def _make_sim_env(self) -> Any:
        wrapper = load_libero(self._assets)
        with seeded_globals(0):
            # of the wrapper only its settings: its `reset` swallows every error and tries for ever
            return wrapper.ControlEnv(
                bddl_file_name=str(self._libero.bddl),
                use_camera_obs=False,
                has_offscreen_renderer=False,  # see vp_agent.envs.rendering
                ignore_done=True,
            ).env

    def _start(self, world_seed: int, options: Mapping[str, Any]) -> None:
        rules = PROTOCOLS[self.protocol]
        sim_env = self.sim_env
        load_libero(self._assets)  # another environment may have set another folder since
        self._state_index = self._seed % STATES if rules.fixed_states else None
        # This seeds what LIBERO's and UVA's evaluations seed. The initial states do not hold the
        # places of the furniture, so an equal state needs an equal seed to be an equal scene.
        np.random.seed((self._seed if self._state_index is None else self._state_index) % 2**32)
        self._reset_placement()
        if self._state_index is not None:
            sim_env.sim.set_state_from_flattened(
                initial_states(self._libero.states)[self._state_index]
            )
            sim_env.sim.forward()
            sim_env._check_success()
            sim_env._post_process()
            sim_env._update_observables(force=True)
        for _ in range(rules.settle_steps):
            sim_env.step(_REST)

    def _reset_placement(self) -> None:
        errors: Any = importlib.import_module("robosuite.utils.errors")
        for _ in range(_PLACEMENT_TRIES):
            # LIBERO adds to this list at every reset: a longer one draws more random numbers, and
            # the same seed would give another scene
            self.sim_env.object_property_initializers.clear()
            try:
                self.sim_env.reset()
                return
            except errors.RandomizationError:
                continue
        raise SimulatorError(
            f"{self.task}: no free place for the objects in {_PLACEMENT_TRIES} tries with seed "
            f"{self._seed}; take another seed"
        )

    def _state(self) -> np.ndarray:
        return arm_state(self.sim_env)

    def _facts(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "initial_state": self._state_index,
            "transform": self.transform,
        }
