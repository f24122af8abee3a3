"""Is LIBERO here, with its assets and its configuration? Loading it without its prompt.

python -m vp_agent.envs.libero_install downloads the assets from the Hugging Face Hub.
"""

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vp_agent.envs.families import Missing
from vp_agent.envs.libero_tasks import package_folder
from vp_agent.envs.robosuite_api import import_robosuite
from vp_agent.errors import MissingExtraError, SimulatorError, need
from vp_agent.files import write_json

ASSETS_VARIABLE = "VP_AGENT_LIBERO_ASSETS"
_HUB_DATASET = "lerobot/libero-assets"
_ROBOSUITE = "1.4.0"
_ASSET_FOLDERS = (
    "articulated_objects",
    "scenes",
    "stable_hope_objects",
    "stable_scanned_objects",
    "textures",
    "turbosquid_objects",
)
# LIBERO's pins exclude those of the other families, so it lives in a virtual environment of its own
_INSTALL = "vp-agent install libero sims/libero   (or by hand: docs/libero.md)"
_DOWNLOAD = f"python -m vp_agent.envs.libero_install (or {ASSETS_VARIABLE}=FOLDER)"


def missing() -> Missing | None:
    """What LIBERO lacks here, found without importing it; None if nothing."""
    return _missing_package() or _missing_assets()


def require_package() -> None:
    """Raises `MissingExtraError` unless LIBERO and its robosuite are installed."""
    lacking = _missing_package()
    if lacking is not None:
        raise MissingExtraError(f"{lacking.what}; {lacking.fix}")


def _missing_package() -> Missing | None:
    if _version("hf-libero") is None:
        return Missing("LIBERO is not installed", _INSTALL)
    robosuite = _version("robosuite")
    if robosuite != _ROBOSUITE:
        return Missing(f"LIBERO needs robosuite {_ROBOSUITE}, here is {robosuite}", _INSTALL)
    return None


def _missing_assets() -> Missing | None:
    try:
        if find_assets(None) is not None:
            return None
    except SimulatorError as error:
        return Missing(str(error), _DOWNLOAD)
    return Missing("LIBERO's assets are not here", _DOWNLOAD)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def find_assets(assets: str | os.PathLike[str] | None) -> Path | None:
    """The folder with LIBERO's meshes and scenes, or None if it has to be downloaded.

    Args:
        assets: A folder with them or with a folder `assets` of them; None looks at the variable
            VP_AGENT_LIBERO_ASSETS and then where LIBERO keeps them.

    Raises:
        SimulatorError: a folder was named and lacks parts.
    """
    named = assets or os.environ.get(ASSETS_VARIABLE)
    if named:
        folder = Path(named).expanduser().absolute()
        inner = folder / "assets"
        return _checked(inner if inner.is_dir() else folder)
    for folder in (package_folder() / "assets", _downloaded()):
        if folder.is_dir():
            return _checked(folder)
    return None


def _checked(folder: Path) -> Path:
    lacking = [name for name in _ASSET_FOLDERS if not (folder / name).is_dir()]
    if lacking:
        raise SimulatorError(
            f"{folder} is no folder of LIBERO's assets: it lacks {', '.join(lacking)}. "
            f"Download them: {_DOWNLOAD}"
        )
    return folder


def _downloaded() -> Path:
    return Path.home() / ".cache" / "libero" / "assets"  # where LIBERO itself looks


def download_assets() -> Path:
    """Downloads the assets to where LIBERO looks for them; goes on with an interrupted download.

    Raises:
        SimulatorError: the Hub cannot be reached.
    """
    # not LIBERO's own download, which current versions of huggingface_hub refuse
    hub: Any = need("huggingface_hub", extra="libero")
    from filelock import FileLock  # huggingface_hub needs it, too

    target = _downloaded()
    unfinished = target.with_name("assets.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name("assets.lock")):  # workers may be reset side by side
        if target.is_dir():
            return _checked(target)
        print(f"downloading LIBERO's assets ({_HUB_DATASET}) to {target}")
        try:
            hub.snapshot_download(_HUB_DATASET, repo_type="dataset", local_dir=unfinished)
        except Exception as error:  # the Hub's, the network's and the disk's errors share no root
            raise SimulatorError(
                f"LIBERO's assets cannot be downloaded ({type(error).__name__}: {error}). Try "
                f"again: {_DOWNLOAD}"
            ) from error
        os.rename(unfinished, target)
    return _checked(target)


def load_libero(assets: str | os.PathLike[str] | None) -> Any:
    """LIBERO's module of environments, set to read `assets`; downloads what is not here.

    LIBERO keeps the folder in a global of its own: call this before whatever reads it.
    """
    require_package()
    folder = find_assets(assets) or download_assets()
    _configure()
    import_robosuite()
    libero: Any = importlib.import_module("libero.libero")
    libero._assets_path_cache = str(folder)  # its configuration file has a key that it ignores
    return importlib.import_module("libero.libero.envs.env_wrapper")


def _configure() -> None:
    """Writes the configuration file without which importing LIBERO asks questions."""
    named = os.environ.get("LIBERO_CONFIG_PATH")
    if not named and (Path.home() / ".libero" / "config.yaml").is_file():
        return
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(named or Path(cache) / "vp_agent" / "libero")
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    config = folder / "config.yaml"
    if config.is_file():
        return
    package = package_folder()
    folders = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": package / "assets",
    }
    write_json(config, {key: str(folder) for key, folder in folders.items()})  # JSON is YAML


if __name__ == "__main__":
    # Also where LIBERO itself is not installed: its interpreter looks in the same place.
    print(find_assets(None) if os.environ.get(ASSETS_VARIABLE) else download_assets())
