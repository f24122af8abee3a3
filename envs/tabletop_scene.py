"""The Tabletop scene on robosuite: three coloured cubes in three slots and a bin, before a Panda.

Import it after `import_robosuite`, which chooses how MuJoCo draws.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
from robosuite.models.arenas import TableArena
from robosuite.models.objects import Bin, BoxObject
from robosuite.models.tasks import ManipulationTask

from vp_agent.envs.robosuite_api import right
from vp_agent.envs.tabletop_words import COLOURS, PLACES, Shift

TABLE = 0.8  # height of its surface
_ROW, _SPACING = -0.06, 0.14  # x of the cubes' row; y from slot to slot
_JITTER = np.array([0.03, 0.02])
_OUTSIDE = np.array([[0.045, 0.0], [0.07, 0.03]])  # least and most, of the shift "places"
_TURN = 0.3  # radians
_SIZES = (0.023, 0.026)  # half an edge
_NEW_SIZES = ((0.018, 0.020), (0.028, 0.030))
_LARGEST = 0.030
_DENSITY = 450.0  # 97 g at the largest size; every cube weighs as much
_BIN = np.array([0.155, 0.0])
_BIN_JITTER = 0.015
BIN_SIZE = (0.13, 0.13, 0.04)
BIN_WALL = 0.005
_BIN_COLOUR = (0.95, 0.75, 0.25, 1.0)
# flat, so that an autoencoder of a few thousand weights keeps them apart
_RGB = {"red": (0.85, 0.08, 0.08), "teal": (0.0, 0.62, 0.62), "black": (0.06, 0.06, 0.06)}
_NEW_RGB = ((0.15, 0.25, 0.9), (0.5, 0.15, 0.65), (0.25, 0.45, 0.1))
_TABLE_TINT = (0.72, 0.58, 0.42, 1.0)
_CAMERA_SHIFT = 0.02
_LOW = 0.10  # metres above the table below which the hand is at some cube
_VIEW = {"pos": (0.565, 0.0, 1.38), "quat": (0.653, 0.271, 0.271, 0.653), "fovy": 33}


class TabletopScene(ManipulationEnv):
    """Three cubes and a bin; what is drawn depends on `rng` alone, never on what is asked for.

    The cubes are called by the slot they start in.

    Attributes:
        solved: whether the episode's task is done; set it after `reset`.
        start: cube -> where it was at the start.
        colours: cube -> its colour.
        approached: the cube horizontally nearest to the hand when the hand was lowest so far, ""
            before it came within 10 cm of the table.
        touched: the cube that the gripper touched first, "" if none; looked at after every step.
    """

    sim: Any  # robosuite's binding of MuJoCo has no types

    def __init__(self, *, shift: frozenset[Shift], **robosuite: Any) -> None:
        self._shift = shift
        self.solved: Callable[[TabletopScene], bool] = lambda scene: False
        super().__init__(
            env_configuration="default",
            base_types="default",
            initialization_noise="default",
            **robosuite,
        )

    # Where things are

    def pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position and rotation of a cube."""
        body = self._bodies[name]
        data = self.sim.data
        return np.array(data.body_xpos[body]), np.array(data.body_xmat[body]).reshape(3, 3)

    def half_size(self, name: str) -> float:
        """Half an edge of a cube."""
        return float(self.sim.model.geom_size[self._cube_geoms[name][0]][0])

    @property
    def bin(self) -> np.ndarray:
        """The middle of the bin, on the table."""
        return np.array([*self.sim.data.body_xpos[self._bodies["bin"]][:2], TABLE])

    @property
    def hand(self) -> np.ndarray:
        """The point between the finger tips."""
        return np.array(self.sim.data.site_xpos[right(self.robots[0].eef_site_id)])

    def touching(self) -> set[str]:
        """The cubes that the gripper touches."""
        data = self.sim.data._data
        pairs = data.contact.geom[: data.ncon]
        cubes, hand = self._cube_of_geom[pairs], self._in_hand[pairs]
        hits = np.concatenate([cubes[hand[:, 1], 0], cubes[hand[:, 0], 1]])
        return {PLACES[index] for index in hits if index >= 0}

    def moved(self, name: str) -> np.ndarray:
        """How far a cube is from its start."""
        return self.pose(name)[0] - self.start[name]

    # What robosuite asks

    def reward(self, action: Any = None) -> float:
        return float(self._check_success())

    def _check_success(self) -> bool:
        return self.solved(self)

    def _load_model(self) -> None:
        super()._load_model()
        robot = self.robots[0].robot_model
        robot.set_base_xpos(robot.base_xpos_offset["table"](0.8))
        arena = TableArena(table_full_size=(0.8, 0.8, 0.05), table_offset=(0, 0, TABLE))
        arena.set_origin([0, 0, 0])
        arena.set_camera(
            camera_name="agentview",
            pos=_VIEW["pos"],
            quat=_VIEW["quat"],
            camera_attribs={"fovy": str(_VIEW["fovy"])},
        )
        # Built with the largest size and made smaller at reset: MuJoCo's bounding boxes stay valid.
        self._cubes = [
            BoxObject(name=name, size=[_LARGEST] * 3, density=_DENSITY, rgba=[1, 1, 1, 1])
            for name in PLACES
        ]
        self._bin = Bin(
            name="bin",
            bin_size=BIN_SIZE,
            wall_thickness=BIN_WALL,
            transparent_walls=False,
            use_texture=False,
            rgba=_BIN_COLOUR,
        )
        objects = [*self._cubes, self._bin]
        self.model = ManipulationTask(arena, [robot], objects)

    def _setup_references(self) -> None:
        super()._setup_references()
        model = self.sim.model
        self._bodies = {
            item.name: model.body_name2id(item.root_body) for item in [*self._cubes, self._bin]
        }
        bodies = np.array(model.geom_bodyid)
        self._cube_geoms = {name: np.flatnonzero(bodies == self._bodies[name]) for name in PLACES}
        self._cube_of_geom = np.full(model.ngeom, -1)
        for index, name in enumerate(PLACES):
            self._cube_of_geom[self._cube_geoms[name]] = index
        hand = [model.geom_name2id(name) for name in right(self.robots[0].gripper).contact_geoms]
        self._in_hand = np.zeros(model.ngeom, bool)
        self._in_hand[hand] = True
        camera = model.camera_name2id("agentview")
        self._camera, self._camera_home = camera, np.array(model.cam_pos[camera])
        if "table" in self._shift:
            table = model.geom_name2id("table_visual")
            model.mat_rgba[model.geom_matid[table]] = _TABLE_TINT

    def _reset_internal(self) -> None:
        super()._reset_internal()
        rng, model = self.rng, self.sim.model
        # everything is drawn, whatever the shift: an unshifted property stays that of the seed
        jitter, turns = rng.uniform(-1, 1, (3, 2)), rng.uniform(-_TURN, _TURN, 3)
        sizes, order = rng.uniform(0, 1, 3), rng.permutation(3)
        bin_at = _BIN + rng.uniform(-_BIN_JITTER, _BIN_JITTER, 2)
        angle, kinds = rng.uniform(0, 2 * np.pi), rng.integers(0, 2, 3)
        offsets = jitter * _JITTER
        if "places" in self._shift:
            offsets = np.sign(jitter) * (_OUTSIDE[0] + np.abs(jitter) * (_OUTSIDE[1] - _OUTSIDE[0]))
        palette = _NEW_RGB if "colours" in self._shift else tuple(_RGB.values())
        words = ("new 1", "new 2", "new 3") if "colours" in self._shift else COLOURS
        self.colours = {name: words[order[i]] for i, name in enumerate(PLACES)}
        for i, (name, cube) in enumerate(zip(PLACES, self._cubes, strict=True)):
            low, high = _NEW_SIZES[kinds[i]] if "sizes" in self._shift else _SIZES
            half = low + sizes[i] * (high - low)
            for geom in self._cube_geoms[name]:
                model.geom_size[geom] = half
                model.geom_rgba[geom, :3] = palette[order[i]]
            x, y = np.array([_ROW, (i - 1) * _SPACING]) + offsets[i]
            turn = [np.cos(turns[i] / 2), 0, 0, np.sin(turns[i] / 2)]
            self.sim.data.set_joint_qpos(cube.joints[0], [x, y, TABLE + half, *turn])
        self.sim.data.set_joint_qpos(
            self._bin.joints[0], [*bin_at, TABLE + BIN_SIZE[2] / 2, 1, 0, 0, 0]
        )
        shift = _CAMERA_SHIFT if "camera" in self._shift else 0.0
        away = shift * np.array([np.cos(angle), np.sin(angle), 0])
        model.cam_pos[self._camera] = self._camera_home + away
        self.sim.forward()
        self.start = {name: self.pose(name)[0] for name in PLACES}
        self.approached = self.touched = ""
        self._lowest = TABLE + _LOW

    def _post_action(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        hand = self.hand
        if hand[2] < self._lowest:
            self._lowest = float(hand[2])
            away = {name: np.linalg.norm((self.pose(name)[0] - hand)[:2]) for name in PLACES}
            self.approached = min(away, key=lambda name: float(away[name]))
        if not self.touched:
            near = sorted(self.touching(), key=lambda name: name != self.approached)
            self.touched = near[0] if near else ""
        return super()._post_action(action)
