"""Which RoboCasa is installed, and what it lacks: looked up without importing a simulator."""

import importlib.util
import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vp_agent.envs.families import Missing
from vp_agent.errors import SimulatorError

STANDIN_MANIFEST = "STANDIN_MANIFEST.txt"  # written by a generator of placeholder assets
DOCS = "docs/robocasa.md"
DOWNLOAD = "robocasa.scripts.download_kitchen_assets"  # RoboCasa's own script
_INSTALL = "vp-agent install robocasa sims/robocasa"


@dataclass(frozen=True)
class _Pack:
    """One asset pack: its name in the download script, its folder, and a file it brings."""

    name: str
    folder: str
    example: str


@dataclass(frozen=True)
class _Release:
    """What one version of RoboCasa asks for; `numpy` and `mujoco` are asserted at its import."""

    numpy: tuple[str, ...]
    mujoco: str
    robosuite: str  # at least
    packs: tuple[_Pack, ...]
    typed_download: bool  # its download script can fetch single packs


RELEASES = {
    "0.2": _Release(
        numpy=("1.23.2", "1.23.3", "1.23.5"),
        mujoco="3.2.6",
        robosuite="1.5.0",
        packs=(
            _Pack("textures", "textures", "*/*.png"),
            _Pack("fixtures", "fixtures", "microwaves/**/*.obj"),
            _Pack("objaverse", "objects/objaverse", "*/*/model.xml"),
        ),
        typed_download=False,
    ),
    "1.0": _Release(
        numpy=("2.2.5",),
        mujoco="3.3.1",
        robosuite="1.5.2",
        packs=(
            _Pack("tex", "textures", "*/*.png"),
            _Pack("fixtures_lw", "fixtures", "sinks/*/model.xml"),
            _Pack("objs_objaverse", "objects/objaverse", "*/*/model.xml"),
            _Pack("objs_lw", "objects/lightwheel", "*/*/model.xml"),
        ),
        typed_download=True,
    ),
}
_TEXTURES_0_2 = _Pack("generative_textures", "generative_textures", "*/*.png")
_TEXTURES_1_0 = _Pack("tex_generative", "generative_textures", "*/*.png")


@dataclass(frozen=True)
class Install:
    """A RoboCasa that was found.

    Attributes:
        version: such as "0.2.0".
        assets: its folder of textures, fixtures and objects.
    """

    version: str
    assets: Path

    @property
    def is_1_0(self) -> bool:
        return self.series == "1.0"

    @property
    def series(self) -> str:
        return ".".join(self.version.split(".")[:2])

    @property
    def standin(self) -> bool:
        """Whether the assets are placeholders, with which no score means anything."""
        return (self.assets / STANDIN_MANIFEST).exists()


def find() -> Install | None:
    """The RoboCasa of this interpreter, or None."""
    spec = importlib.util.find_spec("robocasa")
    if spec is None or spec.origin is None:  # no origin: a folder that only has this name
        return None
    package = Path(spec.origin)
    found = re.search(r'^__version__ = "([^"]+)"', package.read_text(encoding="utf-8"), re.M)
    return Install(found[1] if found else "unknown", package.parent / "models/assets")


def missing(
    *, relax_version_checks: bool = False, generative_textures: bool = False
) -> Missing | None:
    """Why RoboCasa cannot run in this interpreter, and what to type; None if it can.

    Looks at files and package metadata only (milliseconds).

    Args:
        relax_version_checks: accept other NumPy and MuJoCo versions than RoboCasa asserts.
        generative_textures: ask for the pack of generated textures too.
    """
    install = find()
    if install is None:
        return Missing("RoboCasa is not installed", f"{_INSTALL}   (or by hand: {DOCS})")
    release = RELEASES.get(install.series)
    if release is None:
        return Missing(
            f"RoboCasa {install.version} is installed; 0.2 (the paper's) and 1.0 are served",
            "git checkout v0.2   (in the RoboCasa checkout)",
        )
    return (
        _wrong_robosuite(install, release)
        or (None if relax_version_checks else _broken_pin(install, release))
        or _missing_assets(install, release, generative_textures, relax_version_checks)
        or _read_only(install)
    )


def required(*, relax_version_checks: bool, generative_textures: bool) -> Install:
    """The RoboCasa that is installed and complete, or a `SimulatorError` that says what to do."""
    lack = missing(
        relax_version_checks=relax_version_checks, generative_textures=generative_textures
    )
    install = find()
    if lack or install is None:
        raise SimulatorError(f"{lack.what}. To fix it: {lack.fix}" if lack else "no RoboCasa")
    return install


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _wrong_robosuite(install: Install, release: _Release) -> Missing | None:
    found = _version("robosuite")
    if found is not None and _numbers(found) >= _numbers(release.robosuite):
        return None
    what = f"RoboCasa {install.version} needs robosuite >= {release.robosuite}; " + (
        f"{found} is installed" if found else "it is not installed"
    )
    if install.is_1_0:
        source = "'robosuite @ git+https://github.com/ARISE-Initiative/robosuite@master'"
        return Missing(what, f"pip install {source}")
    return Missing(what, "pip install robosuite==1.5.1")


def _broken_pin(install: Install, release: _Release) -> Missing | None:
    for package, wanted in (("numpy", release.numpy), ("mujoco", (release.mujoco,))):
        found = _version(package)
        if found not in wanted:
            return Missing(
                f"RoboCasa {install.version} asserts {package} {' or '.join(wanted)}; "
                f"{found or 'none'} is installed",
                f"give RoboCasa a virtual environment of its own ({DOCS}), or pass "
                "relax_version_checks=True to gym.make",
            )
    return None


def _missing_assets(
    install: Install, release: _Release, generative: bool, relaxed: bool
) -> Missing | None:
    extra = (_TEXTURES_1_0 if install.is_1_0 else _TEXTURES_0_2,) if generative else ()
    lacking = [
        pack
        for pack in (*release.packs, *extra)
        if next((install.assets / pack.folder).glob(pack.example), None) is None
    ]
    if not lacking:
        return None
    # RoboCasa's script imports RoboCasa, with its version checks; ours calls it without them
    download = f"python -m {'vp_agent.envs.robocasa_import' if relaxed else DOWNLOAD}"
    if release.typed_download:
        download += f" --type {' '.join(pack.name for pack in lacking)}"
    packs = ", ".join(f"{pack.name} (in {install.assets / pack.folder})" for pack in lacking)
    return Missing(f"RoboCasa {install.version} lacks the asset packs {packs}", download)


def _read_only(install: Install) -> Missing | None:
    objects = install.assets / "objects/objaverse"
    model = next(objects.glob("*/*/model.xml"))
    if os.access(model.parent, os.W_OK):
        return None
    return Missing(
        f"{model.parent} is read-only; RoboCasa writes a temporary file next to a model it loads",
        f"chmod -R u+w {objects}",
    )
