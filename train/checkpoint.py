"""Checkpoints: an agent folder with the averaged weights, and what an exact resume needs."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn

from vp_agent.card import model_card
from vp_agent.errors import ConfigError, OutputExistsError
from vp_agent.files import atomic_dir, write_json
from vp_agent.folder import load_agent, write_agent
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.settings import TrainSettings

# What may differ between a run and its continuation; threads and device change the rounding.
FREE_ON_RESUME = {"resume", "save_every", "eval_every", "log_every", "keep", "threads", "device"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder: config.json (settings), metrics.jsonl, step-XXXXXXXX/, latest."""

    folder: Path

    def start(self, settings: TrainSettings) -> None:
        """Makes the folder, or checks that --resume continues the same run.

        Raises:
            OutputExistsError: the folder exists and --resume was not given.
            ConfigError: a setting that matters differs from the run's.
        """
        wanted = json.loads(json.dumps(asdict(settings), default=str))  # paths, tuples
        path = self.folder / "config.json"
        if settings.resume:
            if not path.is_file():
                raise ConfigError(f"{self.folder} is not a run folder; drop --resume to start one")
            # A setting that came after the run began had its default in it.
            defaults = {field.name: field.default for field in fields(settings)}
            before = defaults | json.loads(path.read_text())
            for name in sorted(wanted.keys() - FREE_ON_RESUME):
                if before[name] != wanted[name]:
                    raise ConfigError(
                        f"--resume: {name} is {wanted[name]!r}, the run in {self.folder} has "
                        f"{before[name]!r}; use the same value or another --out"
                    )
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise OutputExistsError(f"{self.folder} exists; give --resume or another --out")
        write_json(path, wanted)

    def checkpoint(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None before the first."""
        pointer = self.folder / "latest"
        return self.folder / pointer.read_text().strip() if pointer.is_file() else None

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Drops metrics of steps that a killed run logged after its last checkpoint."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            lines = [x for x in path.read_text().splitlines() if x.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            path.write_text("".join(f"{line}\n" for line in kept))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of what the stage trains."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@contextmanager
def averaged(parameters: Iterable[nn.Parameter], ema: EMAModel | None) -> Iterator[None]:
    """Within the block the model has its averaged weights."""
    if ema is None:
        yield
        return
    parameters = list(parameters)
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)


def save_checkpoint(
    run: Run,
    step: int,
    model: VideoPolicy,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
    *,
    keep: int,
) -> None:
    """Writes step-XXXXXXXX whole or not at all, points `latest` at it, prunes older ones."""
    parameters = trainable(model)
    state = {f"raw/{name}": p.detach().cpu().clone() for name, p in parameters.items()}
    for name, p in parameters.items():
        for key, value in optimizer.state[p].items():
            state[f"{key}/{name}"] = value.detach().cpu().clone()
    with averaged(parameters.values(), ema), atomic_dir(run.checkpoint(step)) as tmp:
        (tmp / "agent").mkdir()
        about = {"Checkpoint": f"step {step} of the last stage"}
        write_agent(model, tmp / "agent", card=model_card(model.config, about=about))
        save_file(state, tmp / "trainer.safetensors")
        write_json(tmp / "trainer.json", {"step": step})
    pointer = run.folder / "latest.tmp"
    pointer.write_text(run.checkpoint(step).name)
    pointer.replace(run.folder / "latest")
    for old in sorted(run.folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path, model: VideoPolicy, optimizer: torch.optim.Optimizer, ema: EMAModel | None
) -> int:
    """Restores weights, optimiser and average bit for bit; returns the step."""
    state = load_file(folder / "trainer.safetensors")
    step = json.loads((folder / "trainer.json").read_text())["step"]
    parameters = trainable(model)
    averaged = dict(load_agent(folder / "agent").named_parameters())
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(state[f"raw/{name}"])
            optimizer.state[p] = {
                key: state[f"{key}/{name}"].to(p.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        if ema is not None:
            for shadow, name in zip(ema.shadow_params, parameters, strict=True):
                shadow.copy_(averaged[name])
            ema.optimization_step = step
    return step
