"""LIBERO's tasks, protocols and initial states, read from its files without importing it."""

import ast
import functools
import importlib.util
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp_agent.errors import SimulatorError

STATES = 50  # fixed initial states of every task
_TASK_MAP = "benchmark/libero_suite_task_map.py"
_READER = Path(__file__).with_name("libero_states.py")


@dataclass(frozen=True)
class Protocol:
    """How LIBERO is evaluated.

    Attributes:
        fixed_states: start from the task's 50 initial states instead of random placements.
        settle_steps: steps with an open hand at rest before the episode.
        horizon: in steps; None takes the suite's.
        views: default views.
        resolution: default (height, width).
    """

    fixed_states: bool
    settle_steps: int
    horizon: int | None
    views: tuple[str, ...]
    resolution: tuple[int, int]


PROTOCOLS = {
    "states": Protocol(
        fixed_states=True,
        settle_steps=10,
        horizon=None,
        views=("agent", "gripper"),
        resolution=(256, 256),
    ),
    # the evaluation of Unified Video Action Model, arXiv 2503.00200: its libero10 task and runner
    "uva": Protocol(
        fixed_states=False,
        settle_steps=0,
        horizon=500,
        views=("agent",),
        resolution=(128, 128),
    ),
}

HORIZONS = {"spatial": 280, "object": 280, "goal": 300, "10": 520, "90": 400}


@dataclass(frozen=True)
class LiberoTask:
    """One task as LIBERO's benchmark lists it."""

    suite: str
    name: str

    @property
    def instruction(self) -> str:
        """The benchmark's words, which it takes from the task's name; the BDDL file's differ."""
        words = self.name.split("_")
        scene = next((n for n, word in enumerate(words) if word.startswith("SCENE")), -1)
        return " ".join(words[scene + 1 :])

    @property
    def bddl(self) -> Path:
        """The file that defines scene and goal."""
        return package_folder() / "bddl_files" / f"libero_{self.suite}" / f"{self.name}.bddl"

    @property
    def states(self) -> Path:
        """The file of the initial states."""
        return package_folder() / "init_files" / f"libero_{self.suite}" / f"{self.name}.pruned_init"


def package_folder() -> Path:
    """Where LIBERO is installed."""
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise SimulatorError("LIBERO is not installed")
    return Path(spec.submodule_search_locations[0]) / "libero"


def libero_task(task: str) -> LiberoTask:
    """The task behind a name such as "object-3"."""
    suite, index = task.split("-")
    tree = ast.parse((package_folder() / _TASK_MAP).read_text())
    tables = (node.value for node in tree.body if isinstance(node, ast.Assign))
    names = ast.literal_eval(next(tables))[f"libero_{suite}"]
    return LiberoTask(suite, names[int(index)])


@functools.lru_cache(maxsize=8)
def initial_states(file: Path) -> np.ndarray:
    """The (50, n) float64 simulator states in `file`, one per row.

    Raises:
        SimulatorError: the file is missing or holds something else.
    """
    # the files are pickles: another process reads them and sends plain numbers
    done = subprocess.run([sys.executable, "-I", _READER, file], capture_output=True)
    if done.returncode:
        reason = done.stderr.decode().strip().splitlines()[-1:]
        raise SimulatorError(
            f"{file} holds no initial states ({' '.join(reason)}); install "
            "LIBERO again: pip install --force-reinstall --no-deps hf-libero==0.1.4"
        )
    states = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    if states.ndim != 2 or len(states) != STATES or states.dtype != np.float64:
        raise SimulatorError(f"{file}: expected {STATES} rows of float64, not {states.shape}")
    states.setflags(write=False)  # the cache hands out the same array
    return states
