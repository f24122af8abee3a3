"""A stand-in for hf-libero and its robosuite 1.4: files, prompt, quirks, random draws, no physics.

It does what was seen of hf-libero 0.1.4: importing it asks questions without a configuration file,
the assets' folder is a module's global, `ControlEnv.reset` swallows errors, and a list of samplers
grows with every reset.
"""

import pickle
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

SUITES = {"spatial": 10, "object": 10, "goal": 10, "10": 10, "90": 90}
ASSET_FOLDERS = (
    "articulated_objects",
    "scenes",
    "stable_hope_objects",
    "stable_scanned_objects",
    "textures",
    "turbosquid_objects",
)
STATE_SIZE = 5

_INIT = """
import os
folder = os.environ.get("LIBERO_CONFIG_PATH", os.path.expanduser("~/.libero"))
if not os.path.exists(os.path.join(folder, "config.yaml")):
    input("Do you want to specify a custom path for the dataset folder? (Y/N): ")
_assets_path_cache = None
"""


def task_name(suite: str, index: int) -> str:
    """Names in LIBERO's two styles."""
    if suite in ("10", "90"):
        return f"KITCHEN_SCENE{index % 10 + 1}_put_the_bowl_on_plate_{index}"
    return f"pick_up_the_{suite}_{index}_and_place_it_in_the_basket"


def enter(monkeypatch: Any, *, site: Path, home: Path) -> None:
    """This process is now on a machine with the packages in `site` and nobody to ask."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("libero", "robosuite")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("LIBERO_CONFIG_PATH", "XDG_CACHE_HOME", "VP_AGENT_LIBERO_ASSETS"):
        monkeypatch.setenv(name, "")  # not delenv, which would not undo what the test sets
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("LIBERO asked a question"))
    monkeypatch.setattr("vp_agent.envs.arm_env.Cameras", Cameras)


def leave() -> None:
    """Forgets the fake modules."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("libero", "robosuite")]:
        del sys.modules[name]


def install(folder: Path, *, robosuite: str = "1.4.0") -> None:
    """Writes the packages into `folder`."""
    for name, number in (("hf_libero", "0.1.4"), ("robosuite", robosuite), ("mujoco", "3.8.1")):
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {number}\n"
        _write(folder / f"{name}-{number}.dist-info/METADATA", metadata)
    _write(folder / "robosuite/__init__.py", "")
    _write(folder / "robosuite/utils/__init__.py", "")
    _write(folder / "robosuite/utils/errors.py", "class RandomizationError(Exception):\n    pass\n")
    libero = folder / "libero/libero"
    _write(folder / "libero/__init__.py", "")
    _write(libero / "__init__.py", _INIT)
    _write(libero / "envs/__init__.py", "")
    _write(libero / "envs/env_wrapper.py", "from fake_libero import ControlEnv\n")
    names = {f"libero_{s}": [task_name(s, n) for n in range(SUITES[s])] for s in SUITES}
    _write(libero / "benchmark/__init__.py", "raise ImportError('this needs torch')")
    _write(libero / "benchmark/libero_suite_task_map.py", f"libero_task_map = {names!r}\n")
    for suite, tasks in names.items():
        for number, name in enumerate(tasks):
            _write(libero / f"bddl_files/{suite}/{name}.bddl", "")
            write_states(libero / f"init_files/{suite}/{name}.pruned_init", states(number))


def states(number: int) -> np.ndarray:
    """The 50 initial states of a task."""
    return np.arange(50)[:, None] / 100 + np.linspace(0, number / 1000, STATE_SIZE)


def write_states(file: Path, content: Any) -> None:
    """A file as old versions of torch and NumPy wrote it."""
    pickled = pickle.dumps(content, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


def make_assets(folder: Path) -> Path:
    """A folder with the parts that LIBERO's assets have."""
    for name in ASSET_FOLDERS:
        (folder / name).mkdir(parents=True)
    return folder


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


class ControlEnv:
    """LIBERO's wrapper, of which only `env` may be used."""

    def __init__(
        self,
        bddl_file_name: str,
        use_camera_obs: bool = True,
        has_offscreen_renderer: bool = True,
        ignore_done: bool = False,
    ) -> None:
        assert Path(bddl_file_name).exists()
        assert (use_camera_obs, has_offscreen_renderer, ignore_done) == (False, False, True)
        self.env = _Domain()

    def reset(self) -> None:
        """Never returns when something is wrong."""
        raise AssertionError("it swallows every error and tries for ever")


class _Domain:
    """The inner environment: its state is the clock, one joint, and what was placed at random."""

    placement_failures = 0  # how many more resets find no free place

    def __init__(self) -> None:
        self.object_property_initializers = [object()]
        self.actions: list[np.ndarray] = []
        self.updates = 0
        model = SimpleNamespace(
            camera_names=("frontview", "agentview", "robot0_eye_in_hand"),
            body_name2id=["robot0_right_hand"].index,
            _model=None,
        )
        self.sim = SimpleNamespace(
            model=model,
            data=SimpleNamespace(
                qpos=np.zeros(STATE_SIZE),
                qvel=np.zeros(STATE_SIZE),
                site_xpos=np.zeros((1, 3)),
                body_xquat=np.array([[1.0, 0, 0, 0]]),
                _data=None,
            ),
            set_state_from_flattened=self._set_state,
            forward=lambda: None,
        )
        self.sim.data._data = self.sim.data
        self.robots = [
            SimpleNamespace(
                robot_model=SimpleNamespace(eef_name="robot0_right_hand"),
                eef_site_id=0,
                _ref_gripper_joint_pos_indexes=[3, 4],
            )
        ]
        self.read_assets()

    def read_assets(self) -> None:
        """Models are built from the global folder."""
        self.assets_read = sys.modules["libero.libero"]._assets_path_cache  # type: ignore[attr-defined]

    def reset(self) -> None:
        """Draws the places of all things."""
        if _Domain.placement_failures:
            _Domain.placement_failures -= 1
            np.random.uniform()
            raise sys.modules["robosuite.utils.errors"].RandomizationError
        self.read_assets()
        self.object_property_initializers.append(object())
        for _ in self.object_property_initializers:
            np.random.uniform()  # each draws the angle of a door
        self.furniture = np.random.uniform()
        self.sim.data.qpos[:] = np.random.uniform(size=STATE_SIZE)
        self.actions = []

    def _set_state(self, state: np.ndarray) -> None:
        self.sim.data.qpos[:] = state

    def _post_process(self) -> None:
        pass

    def _update_observables(self, force: bool = False) -> None:
        self.updates += force

    def step(self, action: np.ndarray) -> None:
        """Moves a little."""
        self.actions.append(np.array(action))
        self.sim.data.qpos[:] += 0.01 * action[:STATE_SIZE]

    def _check_success(self) -> bool:
        return bool(self.sim.data.qpos[0] > 6)

    def close(self) -> None:
        """Nothing to free."""


class Cameras:
    """Draws an image in which up, down, left and right differ and which shows the state."""

    gl_version = "none"

    def __init__(self, model: Any, *, resolution: Any, quality: Any, sites: bool) -> None:
        assert sites  # a burner's glow is one
        self.shape = resolution

    def draw(self, data: Any, cameras: Any) -> list[np.ndarray]:
        """The upright images."""
        return [upright(self.shape, data.qpos[0]) for _ in cameras]

    def close(self) -> None:
        """Nothing to free."""


def upright(shape: tuple[int, int], shown: float) -> np.ndarray:
    """Bright at the lower right."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows, columns, np.full(shape, int(shown * 1000))], axis=-1)
    return image.astype(np.uint8)
