"""Where a dataset is, here or on the Hub, and whether it is one."""

from pathlib import Path
from typing import Any

from vp_agent.errors import DatasetError, need
from vp_agent.locate import split_revision
from vp_agent.train.dataset_files import Unreadable, read_json
from vp_agent.train.video_decoder import video_backend


def check_is_dataset(root: Path) -> None:
    """Raises a `DatasetError` if nothing of a LeRobot dataset is there."""
    if not (root / "meta").is_dir():
        raise DatasetError(f"{root} is not a LeRobot dataset ({_instead(root)}")


def _instead(root: Path) -> str:
    """What is there, and what to type."""
    if not root.exists():
        return "nothing is there); one's path is the folder that holds meta/info.json, data/"
    if root.suffix in (".hdf5", ".h5"):
        return f"but HDF5); make one of it: vp-agent data convert {root} --out DIR"
    parts = sorted(path.parent.parent for path in root.glob("*/meta/info.json"))
    if parts:
        return f"it holds some); give one: {', '.join(map(str, parts[:5]))}"
    return "no meta/info.json); make one: vp-agent collect --env Robosuite-Lift-v0 --out DIR"


def locate_dataset(data: Path) -> tuple[Path, str]:
    """Folder and name of a LeRobot v3 dataset.

    A Hub repository, "owner/name" or "owner/name@revision", is downloaded by LeRobot.

    Raises:
        DatasetError: there is no such dataset, or it is of another version.
    """
    root, name = Path(data), Path(data).resolve().name
    if not (root / "meta").is_dir():
        if root.exists() or root.is_absolute() or len(root.parts) != 2 or root.parts[0] == "..":
            check_is_dataset(root)
        name, revision = split_revision(root.as_posix())
        root = _download(name, revision)
    info = read_json(root / "meta" / "info.json")
    if not isinstance(info, dict):
        raise Unreadable(root / "meta" / "info.json", "it holds no JSON object")
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise DatasetError(
            f"{data} is a LeRobot dataset of version {version}, not v3; bring it up to date: "
            f"python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id={name} "
            "(and copy its meta/modality.json, if it has one, into the new folder)"
        )
    return root, name


def _download(repo: str, revision: str | None) -> Path:
    datasets: Any = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
    try:
        options = {"revision": revision, "video_backend": video_backend()}
        return Path(datasets.LeRobotDataset(repo, **options).root)
    except Exception as error:  # of the Hub's client, of requests and of LeRobot
        raise DatasetError(
            f"{repo} is no folder here and cannot be had from the Hub ({type(error).__name__}: "
            f"{error}); where there is a network: hf download --repo-type dataset {repo} "
            f"--local-dir {repo.split('/')[1]}, and give that folder"
        ) from error
