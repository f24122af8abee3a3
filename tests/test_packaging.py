"""What is installed: every module of the tree, under one name, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = ("envs", "wrappers", "train")  # top-level folders that install under vp_agent


def _files_on_disk() -> set[str]:
    """Installed names of all files of the package, read from the tree."""
    folders = {"vp_agent": ROOT / "vp_agent"} | {f"vp_agent/{name}": ROOT / name for name in MAPPED}
    found = set()
    for name, folder in folders.items():
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            linked = name == "vp_agent" and inside.parts[0] in MAPPED
            if path.is_file() and "__pycache__" not in inside.parts and not linked:
                found.add(f"{name}/{inside.as_posix()}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    # A copy, because setuptools puts what an older tree left in build/ into the wheel too.
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("vp_agent", *MAPPED):
        shutil.copytree(
            ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tree)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (tree / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file_of_the_tree(wheel: list[str]) -> None:
    packed = {name for name in wheel if ".dist-info/" not in name}
    assert packed == _files_on_disk()


@pytest.mark.slow
def test_the_only_top_level_name_in_the_wheel_is_vp_agent(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == {"vp_agent"}


@pytest.mark.slow
def test_the_wheel_carries_the_licence(wheel: list[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


@pytest.mark.parametrize("name", MAPPED)
def test_importing_a_mapped_folder_by_its_bare_name_is_refused(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"ImportError: import vp_agent.{name}, not {name}" in done.stderr


@pytest.mark.parametrize("name", MAPPED)
def test_the_link_inside_the_package_points_to_the_mapped_folder(name: str) -> None:
    link = ROOT / "vp_agent" / name
    assert link.is_symlink(), "git must keep it as a link (core.symlinks)"
    assert link.readlink() == Path("..") / name
