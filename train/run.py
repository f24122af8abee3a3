"""Run folders: settings, metrics, the newest whole checkpoint, and who may write."""

import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock, Timeout

from vp_agent.errors import AgentFolderError, ConfigError, OutputExistsError, VPAgentError
from vp_agent.files import MANIFEST, holds_anything, read_object, sha256, write_json, write_text
from vp_agent.folder import check_manifest, fingerprint, is_beside
from vp_agent.locate import locate
from vp_agent.train.checkpoint import altered, doubtful, step_name
from vp_agent.train.contents import content_hashes
from vp_agent.train.dataset_source import locate_dataset
from vp_agent.train.launch import on_first
from vp_agent.train.settings import TrainSettings

LOCK = ".lock"
# What may differ between a run and its continuation; threads and device change the rounding.
FREE_ON_RESUME = {"resume", "save_every", "eval_every", "log_every", "keep", "threads", "device"}
FREE_ON_RESUME |= {"keep_every", "log_with", "out", "recipe", "show"}


class RunBusyError(VPAgentError, RuntimeError):
    """Another process writes this run folder."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder: config.json (settings), metrics.jsonl, step-XXXXXXXX/, latest."""

    folder: Path

    def start(self, settings: TrainSettings, *, processes: int) -> None:
        """Writes config.json, or checks that --resume continues the same run.

        Raises:
            OutputExistsError: the folder holds something and --resume was not given.
            ConfigError: a setting that matters differs from the run's.
        """
        wanted = json.loads(json.dumps(asdict(settings), default=str))  # paths, tuples
        wanted["processes"] = processes
        if settings.init is not None and not settings.from_svd:
            wanted["init_fingerprint"] = fingerprint(locate(settings.init))
        wanted["data_fingerprints"] = data_fingerprints(settings)
        path = self.folder / "config.json"
        if not settings.resume:
            if holds_anything(self.folder):
                raise OutputExistsError(f"{self.folder} exists; give --resume or another --out")
            write_json(path, wanted)
            return
        # A setting that came after the run began had its default in it.
        defaults = {field.name: field.default for field in fields(settings)}
        for name in ("init_fingerprint", "data_fingerprints"):
            defaults[name] = wanted.get(name)
        defaults["processes"] = 1
        fix = "put it back from a copy, or train in another --out"
        noted = read_object(path, error=ConfigError, fix=fix)
        before = json.loads(json.dumps(defaults, default=str)) | noted
        if before["processes"] != processes:
            raise ConfigError(
                f"--resume: the run in {self.folder} has {before['processes']} processes, this "
                f"launch {processes}; which samples a step sees depends on it: accelerate launch "
                f"--num_processes {before['processes']}"
            )
        for name in sorted(wanted.keys() - FREE_ON_RESUME - {"data_fingerprints"}):
            if before[name] != wanted[name]:
                raise ConfigError(
                    f"--resume: {name} is {wanted[name]!r}, the run in {self.folder} has "
                    f"{before[name]!r}; use the same value or another --out"
                )
        noted = before["data_fingerprints"]
        if not isinstance(noted, list) or len(noted) != len(settings.datasets):
            raise ConfigError(f"{path} is damaged (data_fingerprints is {noted!r:.80}); {fix}")
        fingerprints = zip(
            settings.datasets,
            wanted["data_fingerprints"],
            data_fingerprints(settings, contents=False),  # as runs from before had them
            noted,
            strict=True,
        )
        for data, now, now_by_size, then in fingerprints:
            if then not in (now, now_by_size):
                raise ConfigError(
                    f"--resume: {data} or its key map has changed since the run in {self.folder} "
                    "began; put back what it was, or train on it in another --out"
                )

    def checkpoint(self, step: int) -> Path:
        return self.folder / step_name(step)

    def checkpoints(self) -> list[Path]:
        """The checkpoints there are, whole or not, oldest first."""
        found = [x for x in self.folder.glob("step-*") if x.name.removeprefix("step-").isdigit()]
        return sorted(found, key=_step)

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None before the first; broken newer ones are named.

        Raises:
            AgentFolderError: there are checkpoints and none is whole, or one cannot be judged.
        """
        problems = []
        for folder in reversed(self.checkpoints()):
            problem = broken(folder)
            if problem is None:
                return folder
            print(f"{folder.name} is passed over: {problem}", file=sys.stderr)
            problems.append(f"{folder.name}: {problem}")
        if problems:
            raise AgentFolderError(
                f"{self.folder} has no whole checkpoint to go on from ({'; '.join(problems)}); "
                "nothing was deleted: put the files back from a copy, or begin again at step 1: "
                f"rm -r {self.folder}/step-*"
            )
        return None

    def keep(self, checkpoint: Path, settings: TrainSettings) -> None:
        """Makes a whole new checkpoint the latest and drops what the settings do not keep."""
        self._point_to(checkpoint)
        for old in self.checkpoints()[: -settings.keep]:
            if settings.keep_every is None or _step(old) % settings.keep_every:
                # Out of sight first: a kill in between must not leave half a checkpoint.
                _remove(old.rename(self.folder / f".{old.name}.old"))

    def _point_to(self, checkpoint: Path) -> None:
        write_text(self.folder / "latest", checkpoint.name)

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def take_up(self) -> Path | None:
        """Clears away what a killed process left; returns the checkpoint to go on from."""
        latest = self.latest()  # first, as it may refuse
        for rest in {*self.folder.glob(".step-*"), *self.folder.glob(".*.tmp-*")}:
            _remove(rest)
        if latest is not None:
            self._point_to(latest)
        else:
            (self.folder / "latest").unlink(missing_ok=True)
        step = 0 if latest is None else _step(latest)
        for newer in self.checkpoints():  # broken, or it would be the latest
            if _step(newer) > step:
                _remove(newer)
        self._forget_after(step)
        return latest

    def _forget_after(self, step: int) -> None:
        """Drops metrics of steps that a killed run logged after its last checkpoint."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            if lines and not lines[-1].endswith("}"):
                lines.pop()  # a kill cut it off
            places = (f"{path}:{number}" for number in count(1))
            kept = [x for x, place in zip(lines, places, strict=False) if _logged(x, place) <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))


@contextmanager
def open_run(settings: TrainSettings, accelerator: Accelerator) -> Iterator[Run]:
    """The run folder, to this training alone until the block ends or its process does.

    Raises:
        RunBusyError: another training writes it.
    """
    run = Run(folder=settings.out)
    lock = FileLock(run.folder / LOCK, timeout=0)  # flock: it dies with its process

    def start() -> None:
        if settings.resume and not (run.folder / "config.json").is_file():
            raise ConfigError(f"{run.folder} is not a run folder; drop --resume to start one")
        run.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise RunBusyError(
                f"another process trains in {run.folder}; wait for it or give another --out"
            ) from None
        run.start(settings, processes=accelerator.num_processes)

    try:
        on_first(accelerator, start)
        yield run
    finally:
        lock.release()


def _remove(path: Path) -> None:
    """Deletes a file, a folder or a link, but nothing that a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint; a `ValueError` if it is damaged."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(f"{path.name} is no file")
    try:
        values = json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError(f"{path.name} is no JSON that anybody writes") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return values


def _logged(line: str, place: str) -> int:
    """The step of a line of metrics.jsonl."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    step = values.get("step") if isinstance(values, dict) else None
    if type(step) is not int:
        raise ConfigError(
            f"{place} is damaged: expected a JSON object with its step, came {line!r:.80}; "
            "remove that line to resume"
        )
    return step


def broken(checkpoint: Path) -> str | None:
    """What is damaged in a checkpoint, or None if it is whole.

    Raises:
        AgentFolderError: it cannot be read, or holds something else, which is no damage.
    """
    agent = checkpoint / "agent"
    try:
        about = _object(checkpoint / "trainer.json")
        known = {MANIFEST, *_object(agent / MANIFEST)}
        found = {str(x.relative_to(agent)) for x in agent.rglob("*") if x.is_file()}
        strays = [agent / name for name in sorted(found - known) if not is_beside(name)]
        if not strays:
            check_manifest(agent)
            damage = altered(checkpoint, about)
            if damage is not None:
                return damage
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    except OSError as error:
        raise AgentFolderError(
            f"{checkpoint} cannot be read ({error}); nothing was changed: give the command again "
            "when it can be, or move the checkpoint away"
        ) from error
    if strays:
        raise AgentFolderError(
            f"{agent} holds files that no agent has; nothing was changed: "
            f"rm {shlex.join(map(str, strays))}, and give the command again"
        )
    doubt = doubtful(checkpoint, about)
    if doubt is not None:
        raise AgentFolderError(doubt)
    return None


def data_fingerprints(settings: TrainSettings, *, contents: bool = True) -> list[str]:
    """Of every dataset a hash: what is in its files (or their sizes), and its key map's words."""
    maps = settings.key_map or ("",)
    maps = maps * len(settings.datasets) if len(maps) == 1 else maps
    pairs = zip(settings.datasets, maps, strict=True)
    return [_data_fingerprint(*pair, contents=contents) for pair in pairs]


def _data_fingerprint(data: Path, key_map: str, *, contents: bool) -> str:
    root, digest = locate_dataset(data)[0], hashlib.sha256()
    meta = root / "meta"
    for path in sorted([*meta.rglob("*.json"), *meta.rglob("*.parquet")]):
        digest.update(f"{path.relative_to(root)} {sha256(path)}\n".encode())
    files = sorted([*(root / "data").rglob("*.parquet"), *(root / "videos").rglob("*.mp4")])
    if contents:
        known = content_hashes(root, files)
    else:
        known = {str(path.relative_to(root)): path.stat().st_size for path in files}
    for name, what in known.items():
        digest.update(f"{name} {what}\n".encode())
    if key_map.endswith(".json"):
        digest.update(Path(key_map).read_bytes())
    return digest.hexdigest()[:16]
