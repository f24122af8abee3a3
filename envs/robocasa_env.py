"""RoboCasa's 24 kitchen tasks as Gymnasium environments with LeRobot's observation words."""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vp_agent.envs.arm_env import CONTROL_HZ, ArmEnv, camera_of_view, check_name, seeded_globals
from vp_agent.envs.rendering import RenderQuality
from vp_agent.envs.robocasa_import import load
from vp_agent.envs.robocasa_install import required
from vp_agent.envs.robocasa_tasks import (
    PAPER_HORIZON,
    PAPER_SCENES,
    SPLITS,
    Scene,
    Split,
    checked_scene,
    find_task,
    instruction_0_2,
    object_categories,
    scene_1_0,
)
from vp_agent.errors import ConfigError, SimulatorError
from vp_agent.wrappers.pad_action import BASE_AT_REST

ROBOT = "PandaOmron"  # RoboCasa's older name for it is PandaMobile
CAMERAS = {
    "gripper": "robot0_eye_in_hand",
    "left": "robot0_agentview_left",
    "right": "robot0_agentview_right",
}
STATE = (  # of agent_pos, in this order: 3, 4 (x, y, z, w), 3, 4 and 2 numbers
    "robot0_base_pos",
    "robot0_base_quat",
    "robot0_base_to_eef_pos",
    "robot0_base_to_eef_quat",
    "robot0_gripper_qpos",
)
_REACH = [100.0] * 3 + [1.01] * 4 + [10.0] * 3 + [1.01] * 4 + [1.0] * 2


class RoboCasaEnv(ArmEnv):
    """A RoboCasa task: views, arm state and instruction in, 7 numbers out; the base stands still.

    RoboCasa is looked up when this is made, and loaded at the first `reset`.
    """

    draws_sites = True  # RoboCasa's running water, coffee and burner flames are sites

    def __init__(
        self,
        *,
        task: str,
        scene: Scene | None = None,
        scenes: Literal["paper"] | Sequence[Scene] = "paper",
        split: Split | None = "B",
        horizon: Literal["paper", "registry"] | int = "paper",
        views: Mapping[str, str] | Sequence[str] = ("gripper", "left", "right"),
        resolution: tuple[int, int] = (256, 256),
        generative_textures: bool = False,
        relax_version_checks: bool = False,
        render_quality: RenderQuality = "full",
        terminate_on_success: bool = True,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        """Checks the arguments and that RoboCasa and its assets are there.

        Args:
            task: One of the paper's 24 names, which are RoboCasa 0.2's.
            scene: (layout, style) of every episode, in RoboCasa 0.2's numbers.
            scenes: Without `scene`: each episode's kitchen is drawn from these by its seed.
                "paper" are the five of the paper. `reset(options={"scene": (1, 1)})` sets one
                episode's.
            split: Objects that are seen in training ("A") or held out ("B"); None: all.
            horizon: Steps until truncation; "paper" (992) or "registry" (RoboCasa's own table).
            views: Names of the views, or view -> name of the RoboCasa camera. Empty: no `pixels`.
            resolution: (height, width) of every view.
            generative_textures: Draw textures of walls, floor and furniture, as in the training
                data, from RoboCasa's pack of generated ones.
            relax_version_checks: Run with other NumPy and MuJoCo versions than RoboCasa asserts.
            render_quality: "fast" leaves out reflections and is faster on a CPU; images look a
                little different, so train and evaluate with the same.
            terminate_on_success: False goes on after success.
            render_mode: "rgb_array": `render` shows all views side by side.

        Raises:
            UnknownNameError: no such task, view, split or quality.
            ConfigError: a scene, horizon or resolution that cannot be.
            SimulatorError: RoboCasa, one of its asset packs or a fitting package is missing.
        """
        self._task = find_task(task)
        if scene is not None and scenes != "paper":
            raise ConfigError("give scene (every episode's) or scenes (to draw from), not both")
        choices = PAPER_SCENES if isinstance(scenes, str) else tuple(scenes)
        if isinstance(scenes, str):
            check_name("scenes", scenes, ("paper",))
        if not choices:
            raise ConfigError(f"scenes is empty; the paper's are {PAPER_SCENES}")
        self.scenes = tuple(
            checked_scene(choice, self._task) for choice in (choices if scene is None else (scene,))
        )
        if split not in SPLITS:
            check_name("split", split, ("A", "B"))
        if isinstance(horizon, str):
            check_name("horizon", horizon, ("paper", "registry"))
        self._split: Split | None = split
        self._generative_textures = generative_textures
        self._relax = relax_version_checks
        self._install = required(
            relax_version_checks=relax_version_checks, generative_textures=generative_textures
        )
        steps = {
            "paper": PAPER_HORIZON,
            "registry": self._task.horizon_1_0 if self._install.is_1_0 else self._task.horizon,
        }
        self._episode: dict[str, Any] = {}
        super().__init__(
            task=task,
            instruction="",  # differs from episode to episode
            views=camera_of_view(views, CAMERAS),
            resolution=resolution,
            horizon=steps[horizon] if isinstance(horizon, str) else horizon,
            render_quality=render_quality,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
            reach=_REACH,
            packages=("robosuite", "mujoco", "numpy"),
        )
        for choice in self.scenes:
            self._simulator_scene(choice)  # says now if RoboCasa 1.0 has not got it

    def _make_sim_env(self) -> Any:
        robosuite = load(self._install, relax_version_checks=self._relax)
        modern: dict[str, Any] = {}
        if self._install.is_1_0:
            # 0.2 puts the robot always at the same place before the fixture
            modern = {"robot_spawn_deviation_pos_x": 0.0, "robot_spawn_deviation_pos_y": 0.0}
            if self._task.fixture_1_0 is not None:
                fixtures: Any = importlib.import_module("robocasa.models.fixtures")
                modern["fixture_id"] = fixtures.FixtureType[self._task.fixture_1_0]
        scenes = [self._simulator_scene(scene) for scene in self.scenes]
        with self._simulator_errors(self.scenes), seeded_globals(0):
            env = robosuite.make(
                self._task.name_1_0 if self._install.is_1_0 else self._task.name,
                robots=ROBOT,
                controller_configs=robosuite.load_composite_controller_config(
                    controller=None, robot=ROBOT
                ),
                control_freq=CONTROL_HZ,
                has_renderer=False,
                has_offscreen_renderer=False,  # see vp_agent.envs.rendering
                renderer="mujoco",  # frees the old simulation when a new episode is built
                use_camera_obs=False,
                ignore_done=True,
                seed=0,
                layout_and_style_ids=scenes,
                obj_instance_split=SPLITS[self._split] if self._install.is_1_0 else self._split,
                generative_textures="100p" if self._generative_textures else None,
                randomize_cameras=False,
                **modern,
            )
        if self._install.is_1_0 and self._task.or_cabinet_1_0:
            _draw_among_single_doors(env)
        return env

    def _start(self, world_seed: int, options: Mapping[str, Any]) -> None:
        for option in options:
            check_name("option of reset", option, ("scene",))
        # a stream of its own: the kitchen does not depend on the version of RoboCasa
        drawn = int(np.random.default_rng([world_seed, 1]).integers(len(self.scenes)))
        scene = checked_scene(options.get("scene", self.scenes[drawn]), self._task)
        env = self.sim_env
        env.layout_and_style_ids = [self._simulator_scene(scene)]
        with self._simulator_errors([scene]):
            super()._start(world_seed, options)
        super()._check_cameras()
        meta = env.get_ep_meta()
        self.instruction = instruction_0_2(meta["lang"])
        self._episode = {
            "scene": scene,
            "instruction": self.instruction,
            "objects": object_categories(meta),
            "split": self._split,
            "standin_assets": self._install.standin,
        }

    def _state(self) -> np.ndarray:
        # forced: what robosuite keeps was sampled at the beginning of the last step
        seen = self.sim_env._get_observations(force_update=True)
        return np.concatenate([seen[name] for name in STATE])

    def _sim_action(self, action: np.ndarray) -> np.ndarray:
        return np.concatenate([action, BASE_AT_REST])

    def _facts(self) -> dict[str, Any]:
        versions = {"robocasa": self._install.version, **self._versions}
        return {
            **self._episode,
            "objects": dict(self._episode["objects"]),
            "versions": versions,
        }

    def _check_cameras(self) -> None:
        """Waits for the first reset: RoboCasa 1.0 builds no model before it."""

    def _simulator_scene(self, scene: Scene) -> Scene:
        return scene_1_0(scene) if self._install.is_1_0 else scene

    @contextlib.contextmanager
    def _simulator_errors(self, scenes: Sequence[Scene]) -> Iterator[None]:
        with contextlib.redirect_stdout(sys.stderr):  # RoboCasa reports what it tries again
            try:
                yield
            except Exception as error:
                hint = ""
                if "probabilities contain NaN" in str(error):
                    hint = " A category of objects has no model in "
                    hint += f"{self._install.assets / 'objects'}: the asset pack is incomplete, "
                    hint += "fetch it again: python -m robocasa.scripts.download_kitchen_assets"
                elif isinstance(error, FileNotFoundError):
                    hint = " An asset pack is incomplete, fetch it again: "
                    hint += "python -m robocasa.scripts.download_kitchen_assets"
                raise SimulatorError(
                    f"RoboCasa {self._install.version} could not build {self.task} in "
                    f"scene {', '.join(map(str, scenes))} ({type(error).__name__}: {error}).{hint}"
                ) from error


def _draw_among_single_doors(env: Any) -> None:
    """Lets RoboCasa 1.0 draw the door as 0.2 does: the microwave's and single cabinets' alike."""
    fixtures: Any = importlib.import_module("robocasa.models.fixtures")
    types = fixtures.FixtureType.MICROWAVE, fixtures.FixtureType.CABINET_SINGLE_DOOR
    get_fixture = env.get_fixture

    def get_single_door(id: Any, *args: Any, **kwargs: Any) -> Any:
        if id is not types[0]:
            return get_fixture(id, *args, **kwargs)
        doors = [
            fixture
            for fixture in env.fixtures.values()
            if any(fixtures.fixture_is_type(fixture, kind) for kind in types)
        ]
        return doors[int(env.rng.integers(len(doors)))]

    env.get_fixture = get_single_door
