"""A FAKE robosuite and RoboCasa, 0.2 or 1.0: only the surface that our environments touch.

`install` writes a package `robocasa` without any simulation into a folder and puts it on the path.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

FITTING = {
    "0.2.0": {"robosuite": "1.5.1", "numpy": "1.23.3", "mujoco": "3.2.6"},
    "1.0.1": {"robosuite": "1.5.2", "numpy": "2.2.5", "mujoco": "3.3.1"},
}
PACKS = {  # one file of each asset pack
    "0.2.0": (
        "textures/wood/oak.png",
        "fixtures/microwaves/standard/door.obj",
        "objects/objaverse/apple/apple_1/model.xml",
    ),
    "1.0.1": (
        "textures/wood/oak.png",
        "fixtures/sinks/Sink001/model.xml",
        "objects/objaverse/apple/apple_1/model.xml",
        "objects/lightwheel/bowl/bowl_1/model.xml",
    ),
}
_CATEGORIES = ("apple", "bell_pepper", "bowl", "cup", "peach")


class FakeKitchen:
    """What `robosuite.make` returns here; `arguments` are those it was made with."""

    def __init__(self, name: str, *, modern: bool, **arguments: Any) -> None:
        self.name, self.modern, self.arguments = name, modern, arguments
        self.layout_and_style_ids = arguments["layout_and_style_ids"]
        self.rng = np.random.default_rng(arguments["seed"])
        self.actions: list[np.ndarray] = []
        self.fails: Exception | None = None
        self.succeeds_at: int | None = None
        self.fixtures = {"sink": "sink", "cab_1": "cabinet", "oven_door": "microwave"}
        self.closed = False

    def get_fixture(self, id: Any) -> str:
        return f"first of {id}"

    def reset(self) -> None:
        if self.fails is not None:
            raise self.fails
        scenes = self.layout_and_style_ids
        self.layout, self.style = scenes[int(self.rng.integers(len(scenes)))]
        self.category = _CATEGORIES[int(self.rng.integers(len(_CATEGORIES)))]
        self.door = self.get_fixture(self.arguments.get("fixture_id"))
        self.actions = []
        # like robosuite 1.5.1, which draws the arm's pose from NumPy's global generator
        qpos = np.concatenate([self.rng.normal(size=4), np.random.normal(size=3)])
        model = SimpleNamespace(
            camera_names=("robot0_eye_in_hand", "robot0_agentview_left", "robot0_agentview_right"),
            _model=None,
        )
        self.sim = SimpleNamespace(
            model=model, data=SimpleNamespace(qpos=qpos, qvel=np.zeros(7), _data=None)
        )

    def step(self, action: np.ndarray) -> None:
        assert action.shape == (12,)
        self.actions.append(action)
        self.sim.data.qpos = self.sim.data.qpos + action[:7]

    def get_ep_meta(self) -> dict[str, Any]:
        thing = self.category.replace("_", " ")
        lang = f"pick the {thing} from the counter and place it in the sink"
        lang = lang.capitalize() + "." if self.modern else lang
        return {"lang": lang, "object_cfgs": [{"name": "obj", "info": {"cat": self.category}}]}

    def _get_observations(self, force_update: bool = False) -> Mapping[str, np.ndarray]:
        assert force_update
        qpos = self.sim.data.qpos
        return {
            "robot0_gripper_qpos": np.full(2, 0.02),
            "robot0_base_pos": qpos[:3],
            "robot0_base_quat": np.array([0, 0, 0, 1.0]),
            "robot0_base_to_eef_pos": qpos[4:],
            "robot0_base_to_eef_quat": np.array([1.0, 0, 0, 0]),
        }

    def _check_success(self) -> bool:
        return self.succeeds_at is not None and len(self.actions) >= self.succeeds_at

    def close(self) -> None:
        self.closed = True


class FakeCameras:
    """In place of `vp_agent.envs.rendering.Cameras`: grey images and what it was made with."""

    made: list[dict[str, Any]] = []
    gl_version = "none"

    def __init__(self, model: Any, **arguments: Any) -> None:
        self.made.append(arguments)
        self.arguments = arguments

    def draw(self, data: Any, cameras: Any) -> list[np.ndarray]:
        self.arguments["cameras"] = list(cameras)
        shape = (*self.arguments["resolution"], 3)
        return [np.full(shape, 100 + i, np.uint8) for i, _ in enumerate(self.arguments["cameras"])]

    def close(self) -> None:
        pass


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    robocasa: str = "0.2.0",
    packages: Mapping[str, str | None] | None = None,
    git_master: bool = True,
    asserts: str = "",
) -> Path:
    """Installs the fakes for one test; returns RoboCasa's folder of assets, complete.

    Args:
        monkeypatch: pytest's.
        folder: an empty folder.
        robocasa: version.
        packages: distribution -> version, None if it is not installed, where it does not fit.
        git_master: whether robosuite has what RoboCasa 1.0 needs.
        asserts: statements at the top of robocasa/__init__.py.
    """
    package = folder / "robocasa"
    fixtures = package / "models/fixtures"
    fixtures.mkdir(parents=True)
    (package / "__init__.py").write_text(f'{asserts}\n__version__ = "{robocasa}"\n')
    (package / "models/__init__.py").touch()
    (package / "scripts").mkdir()
    (package / "scripts/__init__.py").touch()
    (package / "scripts/download_kitchen_assets.py").write_text(
        "if __name__ == '__main__':\n    print('downloading')\n"
    )
    (fixtures / "counter.py").touch()
    (fixtures / "__init__.py").write_text(
        "import enum\n"
        "FixtureType = enum.IntEnum('FixtureType', 'MICROWAVE CABINET_SINGLE_DOOR "
        "CABINET_DOUBLE_DOOR')\n"
        "def fixture_is_type(fixture, kind):\n"
        "    return {'microwave': 1, 'cabinet': 2}.get(fixture) == kind\n"
    )
    assets = package / "models/assets"
    for file in PACKS.get(robocasa, ()):
        (assets / file).parent.mkdir(parents=True)
        (assets / file).touch()
    for name in ("", ".scripts", ".models", ".models.fixtures", ".models.fixtures.counter"):
        monkeypatch.setitem(sys.modules, f"robocasa{name}", ModuleType("robocasa"))
        del sys.modules[f"robocasa{name}"]  # and again, whatever was imported, after the test
    monkeypatch.syspath_prepend(str(folder))

    found = {**FITTING.get(robocasa, FITTING["0.2.0"]), **(packages or {})}
    for module in ("arm_env", "robocasa_import", "robocasa_install"):
        monkeypatch.setattr(f"vp_agent.envs.{module}.version", lambda name: _version(found, name))
    monkeypatch.setattr("vp_agent.envs.arm_env.Cameras", FakeCameras)
    monkeypatch.setattr(FakeCameras, "made", [])
    for name, module in _robosuite(robocasa.startswith("1"), git_master).items():
        monkeypatch.setitem(sys.modules, name, module)
    mujoco: Any = ModuleType("mujoco")
    mujoco.__version__ = "true"
    monkeypatch.setitem(sys.modules, "mujoco", mujoco)
    return assets


def _version(found: Mapping[str, str | None], name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    if (version := found[name]) is None:
        raise PackageNotFoundError(name)
    return version


def _robosuite(modern: bool, git_master: bool) -> dict[str, ModuleType]:
    class FromPyPI:
        def __init__(self, robots: Any) -> None: ...

    class FromGit:
        def __init__(self, robots: Any, load_model_on_init: bool = True) -> None: ...

    robosuite: Any = ModuleType("robosuite")
    robosuite.load_composite_controller_config = lambda **arguments: arguments
    robosuite.make = lambda name, **arguments: FakeKitchen(name, modern=modern, **arguments)
    name = "robosuite.environments.manipulation.manipulation_env"
    base: Any = ModuleType(name)
    base.ManipulationEnv = FromGit if git_master else FromPyPI
    return {"robosuite": robosuite, name: base}
