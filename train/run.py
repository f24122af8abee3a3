"""Run folders: settings, metrics, the newest whole checkpoint, and who may write."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock, Timeout

from vp_agent.errors import AgentFolderError, ConfigError, OutputExistsError, VPAgentError
from vp_agent.files import sha256, write_json
from vp_agent.folder import check_manifest, fingerprint
from vp_agent.locate import locate
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
        path = self.folder / "config.json"
        if not settings.resume:
            if any(entry.name != LOCK for entry in self.folder.iterdir()):
                raise OutputExistsError(f"{self.folder} exists; give --resume or another --out")
            write_json(path, wanted)
            return
        # A setting that came after the run began had its default in it.
        defaults = {field.name: field.default for field in fields(settings)}
        defaults |= {"processes": 1, "init_fingerprint": wanted.get("init_fingerprint")}
        before = json.loads(json.dumps(defaults, default=str)) | json.loads(path.read_text())
        if before["processes"] != processes:
            raise ConfigError(
                f"--resume: the run in {self.folder} has {before['processes']} processes, this "
                f"launch {processes}; which samples a step sees depends on it: accelerate launch "
                f"--num_processes {before['processes']}"
            )
        for name in sorted(wanted.keys() - FREE_ON_RESUME):
            if before[name] != wanted[name]:
                raise ConfigError(
                    f"--resume: {name} is {wanted[name]!r}, the run in {self.folder} has "
                    f"{before[name]!r}; use the same value or another --out"
                )

    def checkpoint(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None before the first; broken newer ones are named."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            problem = broken(folder)
            if problem is None:
                return folder
            print(f"{folder.name} is passed over: {problem}", file=sys.stderr)
        return None

    def keep(self, checkpoint: Path, settings: TrainSettings) -> None:
        """Makes a whole new checkpoint the latest and drops what the settings do not keep."""
        self._point_to(checkpoint)
        for old in sorted(self.folder.glob("step-*"))[: -settings.keep]:
            step = int(old.name.removeprefix("step-"))
            if settings.keep_every is None or step % settings.keep_every:
                # Out of sight first: a kill in between must not leave half a checkpoint.
                shutil.rmtree(old.rename(self.folder / f".{old.name}.old"))

    def _point_to(self, checkpoint: Path) -> None:
        pointer = self.folder / "latest.tmp"
        with open(pointer, "w") as file:
            file.write(checkpoint.name)
            file.flush()
            os.fsync(file.fileno())
        pointer.replace(self.folder / "latest")

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def take_up(self) -> Path | None:
        """Clears away what a killed process left; returns the checkpoint to go on from."""
        for rest in [*self.folder.glob(".step-*"), *self.folder.glob("*.tmp")]:
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
        latest = self.latest()
        if latest is not None:
            self._point_to(latest)
        else:
            (self.folder / "latest").unlink(missing_ok=True)
        step = 0 if latest is None else int(latest.name.removeprefix("step-"))
        for newer in self.folder.glob("step-*"):  # broken, or it would be the latest
            if int(newer.name.removeprefix("step-")) > step:
                shutil.rmtree(newer)
        self._forget_after(step)
        return latest

    def _forget_after(self, step: int) -> None:
        """Drops metrics of steps that a killed run logged after its last checkpoint."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            lines = [x for x in path.read_text().splitlines() if x.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            partial = path.with_suffix(".tmp")
            partial.write_text("".join(f"{line}\n" for line in kept))
            partial.replace(path)


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


def broken(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole."""
    try:
        about = json.loads((checkpoint / "trainer.json").read_text())
        check_manifest(checkpoint / "agent")
        state = checkpoint / "trainer.safetensors"
        # Checkpoints of old runs have no hash of it.
        if sha256(state) != about.get("sha256", sha256(state)):
            return f"{state.name} was altered (its sha256 differs)"
    except (OSError, ValueError, AgentFolderError) as error:
        return str(error)
    return None
