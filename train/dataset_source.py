"""Where a dataset is, here or on the Hub, and whether its files are whole."""

from pathlib import Path
from typing import Any

import av
import numpy as np

from vp_agent.errors import DatasetError, need
from vp_agent.train.dataset_files import DatasetFiles, read_json
from vp_agent.train.video_decoder import video_backend


def locate_dataset(data: Path) -> tuple[Path, str]:
    """Folder and name of a LeRobot v3 dataset; a Hub repository is downloaded by LeRobot.

    Raises:
        DatasetError: there is no such dataset, or it is of another version.
    """
    root, name = Path(data), Path(data).resolve().name
    if not (root / "meta" / "info.json").is_file():
        if root.exists() or root.is_absolute() or len(root.parts) != 2 or root.parts[0] == "..":
            raise DatasetError(
                f"{data} is not a LeRobot dataset (no meta/info.json); "
                "make one: vp-agent collect --env Robosuite-Lift-v0 --out DIR"
            )
        name = root.as_posix()
        root = _download(name)
    version = str(read_json(root / "meta" / "info.json").get("codebase_version"))
    if not version.startswith("v3."):
        raise DatasetError(
            f"{data} is a LeRobot dataset of version {version}, not v3; bring it up to date: "
            f"python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id={name} "
            "(and copy its meta/modality.json, if it has one, into the new folder)"
        )
    return root, name


def _download(repo: str) -> Path:
    datasets: Any = need("lerobot.datasets.lerobot_dataset", extra="lerobot")
    try:
        return Path(datasets.LeRobotDataset(repo, video_backend=video_backend()).root)
    except Exception as error:  # of the Hub's client, of requests and of LeRobot
        raise DatasetError(
            f"{repo} is no folder here and cannot be had from the Hub ({type(error).__name__}: "
            f"{error}); where there is a network: hf download --repo-type dataset {repo} "
            f"--local-dir {repo.split('/')[1]}, and give that folder"
        ) from error


def check_files(root: Path) -> None:
    """Opens every file that the episodes need, and decodes the last frame of every video.

    Raises:
        DatasetError: one is missing, damaged or cut short; it is named.
    """
    files = DatasetFiles(root)
    info, episodes = files.info, _episodes(root)
    if not files.tasks:  # LeRobot would look for them on the Hub
        raise DatasetError(f"{root}/meta/tasks.parquet has no instruction; copy the dataset again")
    if (root / "meta" / "stats.json").is_file():
        _ = files.stats
    for path in _files(root, info["data_path"], episodes, "data"):
        for name, column in files.columns_of(path, [*files.vectors, "index"]).items():
            shape = tuple(info["features"][name]["shape"])
            if column.ndim == 2 and column.shape[1:] != shape:
                raise DatasetError(
                    f"{path}: {name} has rows of {column.shape[1]} numbers, meta/info.json says "
                    f"{shape[0]}; copy the dataset again"
                )
    for key, feature in info["features"].items():
        if feature["dtype"] != "video":
            continue
        files = _files(root, info["video_path"], episodes, f"videos/{key}", video_key=key)
        for path, rows in files.items():
            end = episodes[f"videos/{key}/to_timestamp"][rows].max()
            _decode_at(path, end - 1 / info["fps"])


def _episodes(root: Path) -> dict[str, np.ndarray]:
    """Where every episode lies: columns of meta/episodes."""
    paths = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    if not paths:
        raise DatasetError(f"{root}/meta/episodes has no parquet file; copy the dataset again")
    names = [x for x in _schema(paths[0]) if x.startswith(("data/", "videos/"))]
    tables = [_read(path, columns=names) for path in paths]
    return {name: np.concatenate([table[name] for table in tables]) for name in names}


def _files(
    root: Path, pattern: str, episodes: dict[str, np.ndarray], prefix: str, **names: str
) -> dict[Path, np.ndarray]:
    """Every file of one kind, with the rows of the episodes in it."""
    places = np.stack([episodes[f"{prefix}/{x}_index"] for x in ("chunk", "file")], axis=1)
    return {
        root / pattern.format(chunk_index=chunk, file_index=file, **names): np.flatnonzero(
            (places == (chunk, file)).all(axis=1)
        )
        for chunk, file in np.unique(places, axis=0).astype(int)
    }


def _schema(path: Path) -> list[str]:
    parquet: Any = need("pyarrow.parquet", extra="lerobot")
    try:
        return parquet.read_schema(path).names
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise DatasetError(f"{path} is damaged ({error}); copy the dataset again") from error


def _read(path: Path, *, columns: list[str]) -> Any:
    parquet: Any = need("pyarrow.parquet", extra="lerobot")
    try:
        return parquet.ParquetFile(path).read(columns=columns)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is missing or damaged ({error}); copy the dataset again"
        ) from error


def _decode_at(path: Path, seconds: float) -> None:
    """Decodes from the key frame before `seconds` to a frame at or after it."""
    try:
        with av.open(str(path)) as file:
            file.seek(int(seconds * av.time_base))
            latest = max((frame.time or 0.0 for frame in file.decode(video=0)), default=-1.0)
    except (OSError, av.FFmpegError) as error:
        raise DatasetError(
            f"{path} is missing or damaged ({error}); copy the dataset again"
        ) from error
    if latest < seconds - 1e-3:
        raise DatasetError(
            f"{path} ends at {latest:.2f} s, its episodes reach {seconds:.2f} s; "
            "copy the dataset again"
        )
