"""Settings every test shares."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Two test processes on two cores: more threads each would only wait for one another.
for name in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["VP_AGENT_CONFIG"] = ""  # a vp-agent.toml of the checkout would change where tests run


@pytest.fixture(scope="session")
def python310() -> str:
    candidates = [shutil.which("python3.10")]
    candidates += map(str, (Path.home() / ".pyenv/versions").glob("3.10*/bin/python3.10"))
    for python in filter(None, candidates):
        # pyenv leaves a python3.10 on the path that fails when 3.10 is not selected
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python 3.10 interpreter (python3.10 on the path or under ~/.pyenv)")


@pytest.fixture
def bfloat16() -> None:
    """Skips a test of bfloat16 where torch was told to do without part of the processor.

    oneDNN packs a matrix for the instructions there are, ATen then lacks the kernel that it left
    out and stops: "pack_vnni2 is only supported when avx512 is supported".
    """
    lowered = os.environ.get("ATEN_CPU_CAPABILITY", "avx512")
    if lowered != "avx512":
        pytest.skip(f"bfloat16 needs the real instruction set; ATEN_CPU_CAPABILITY is {lowered}")


@pytest.fixture(scope="session")
def agent_folder(tmp_path_factory) -> Path:
    """A small agent, saved; not to be changed."""
    from small import small_model

    from vp_agent.folder import save_agent

    path = tmp_path_factory.mktemp("agents") / "small"
    save_agent(small_model(), path, card="# a test agent\n")
    return path


@pytest.fixture
def agent(agent_folder):
    from vp_agent import VideoPolicyAgent

    return VideoPolicyAgent.from_pretrained(agent_folder, device="cpu")


@pytest.fixture(scope="session")
def two_tasks(tmp_path_factory) -> Path:
    """A small dataset; not to be changed."""
    from foreign_data import write_dataset

    return write_dataset(tmp_path_factory.mktemp("two-tasks") / "data", tasks=("push", "pull"))


@pytest.fixture
def root(two_tasks, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(two_tasks, tmp_path / "data"))
