"""`vp-agent convert`: a released checkpoint becomes an agent folder, whole or not at all."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vp_agent.agent_config import structure
from vp_agent.card import model_card
from vp_agent.checkpoints.extract import HEADS, Extracted
from vp_agent.checkpoints.settings import ConvertSettings
from vp_agent.config import ActionStats, VideoPolicyConfig
from vp_agent.errors import (
    AgentFolderError,
    ConfigError,
    DatasetError,
    MissingExtraError,
    OutputExistsError,
)
from vp_agent.files import atomic_dir, sha256
from vp_agent.folder import write_description, write_part
from vp_agent.model.text import clip_tokenizer
from vp_agent.model.video_policy import blank_policy, init_heads
from vp_agent.presets import preset

TERMS = (
    "under its authors' terms (their code: CC BY-NC 4.0), derived from Stable Video Diffusion "
    "(Stability AI's own licence) and OpenCLIP ViT-H-14 (MIT)"
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """An agent folder made from a checkpoint, and what its user should know about it."""

    folder: Path
    about: dict[str, str]


def convert(settings: ConvertSettings) -> Conversion:
    """Writes the agent folder.

    Raises:
        OutputExistsError: `out` exists.
        AgentFolderError: the checkpoint cannot be read or is of another shape.
        ConfigError: the action statistics do not fit.
    """
    if settings.out.exists():
        raise OutputExistsError(f"{settings.out} exists; remove it or give another --out")
    if not settings.checkpoint.is_file():
        raise AgentFolderError(f"there is no file {settings.checkpoint}; expected a .ckpt")
    config = preset(settings.preset)
    if settings.action_stats is not None:
        config = config.replace(
            action_stats=read_action_stats(settings.action_stats, width=config.action_dim)
        )
    tokenizer = clip_tokenizer(clip_vocabulary())
    with atomic_dir(settings.out) as tmp:
        found = _extract_elsewhere(settings.checkpoint, config, tmp)
        config = config.replace(
            condition_encoder=found.condition_encoder,
            origin=f"{settings.checkpoint.name} (sha256 {sha256(settings.checkpoint)}), {TERMS}",
        )
        model = blank_policy(config, tokenizer=tokenizer)
        if not found.heads:
            init_heads(model, seed=settings.seed)
            for part in HEADS:
                write_part(model.get_submodule(part).state_dict(), tmp, part)
        about = describe(found, config)
        write_description(model, tmp, card=model_card(config, about=about))
    return Conversion(folder=settings.out, about=about)


def describe(found: Extracted, config: VideoPolicyConfig) -> dict[str, str]:
    """Rows for the model card and the terminal."""
    train = "vp-agent train --stage action --init"
    head = "converted; its actions have the range of --action-stats"
    if not found.heads:
        head = f"untrained (fresh weights), it cannot act; train it: {train} THIS_FOLDER"
    elif config.action_stats is None:
        head = (
            "converted, but it cannot act without its actions' range: convert with --action-stats"
        )
    share = f"weights differ by at most {found.encoder_difference:.1e} of the largest"
    return {
        "Checkpoint": "stage 2 or joint" if found.heads else "stage 1 (video alone)",
        "Action head": head,
        "Condition images": f"own encoder ({share})"
        if found.condition_encoder
        else f"encoder shared with the targets ({share})",
        "Left out": f"{found.unused} tensors (the condition VAE's decoder, CLIP's logit scale)",
    }


def read_action_stats(path: Path, *, width: int) -> ActionStats:
    """The range of every action dimension, from a LeRobot dataset folder or a JSON file.

    Raises:
        DatasetError: there is no such file, or it is no JSON.
        ConfigError: it has other fields, another width, or a range that is empty or not finite.
    """
    file = path / "meta" / "stats.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{file} cannot be read ({error}); --action-stats wants a LeRobot dataset folder or a "
            'JSON file {"min": [...], "max": [...]}'
        ) from error
    if path.is_dir():
        action = values.get("action", {})
        values = {name: action.get(name) for name in ("min", "max")}
    try:
        stats = structure(values, ActionStats)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    if len(stats.min) != width:
        raise ConfigError(f"{file}: {len(stats.min)} action dimensions, the policy has {width}")
    return stats


def clip_vocabulary() -> Path:
    """The file of CLIP's vocabulary, which open-clip-torch brings.

    Raises:
        MissingExtraError: open-clip-torch is not installed.
    """
    package = find_spec("open_clip")  # found and not imported: that takes seconds
    if package is None or package.origin is None:
        raise MissingExtraError(
            "CLIP's vocabulary comes with open-clip-torch, which is not installed: "
            "pip install 'vp-agent[convert]'"
        )
    return Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")


def _extract_elsewhere(checkpoint: Path, config: VideoPolicyConfig, folder: Path) -> Extracted:
    """Runs `extract` in a process of its own: nothing in a foreign pickle can touch this one."""
    done = subprocess.run(
        [sys.executable, "-m", "vp_agent.checkpoints.extract", str(checkpoint), str(folder)],
        input=json.dumps(config.to_dict()),
        stdout=subprocess.PIPE,
        text=True,
        # -m would else look for modules in the working folder first
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        check=False,
    )
    if done.returncode:
        raise AgentFolderError(
            f"the process that reads {checkpoint} ended with code {done.returncode}; its own words "
            "are above"
        )
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise AgentFolderError(answer["error"])
    return Extracted(**answer)
