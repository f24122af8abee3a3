"""Agent folders: each part in its library's layout, safetensors and JSON only, all hashed.

What LeRobot's trainer saves of the plug-in's policy (`pretrained_model`) is read as well: one
weight file, our configuration inside LeRobot's, the tokenizer, no hashes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import save_file
from torch import Tensor, nn

from vp_agent.config import TierConfig, VideoPolicyConfig
from vp_agent.diffusion_policy_config import DiffusionPolicyConfig
from vp_agent.errors import AgentConfigError, AgentFolderError, ConfigError, PlanError
from vp_agent.files import MANIFEST, atomic_dir, hash_tree, sha256, write_json
from vp_agent.locate import LEROBOT_WEIGHTS, is_lerobot_policy
from vp_agent.model.diffusion_policy import (
    DiffusionPolicy,
    blank_diffusion_policy,
    noise_schedule,
)
from vp_agent.model.text import read_tokenizer, save_tokenizer
from vp_agent.model.video_policy import VideoPolicy, blank_policy
from vp_agent.strict_json import read_strictly
from vp_agent.torch_defaults import torch_defaults
from vp_agent.trial import is_small, try_plan, try_shapes
from vp_agent.weights import read_weights

# part of the model -> its weight file, as diffusers, transformers and we name them
WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "adapter": "adapter/model.safetensors",
    "action_head": "action_head/model.safetensors",
    "condition_vae": "condition_vae/model.safetensors",
    "encoders": "encoders/model.safetensors",
}
AnyConfig = VideoPolicyConfig | DiffusionPolicyConfig
AnyPolicy = VideoPolicy | DiffusionPolicy
LEROBOT_TYPE = "vp_agent"  # of the policy, in LeRobot's config.json


def weight_files(config: AnyConfig) -> dict[str, str]:
    """Weight file of every part that an agent of this configuration has."""
    return {part: WEIGHTS[part] for part in config.parts}


def scheduler(setting: TierConfig) -> EulerDiscreteScheduler:
    """The same sampler as diffusers knows it, for those who open the folder with diffusers."""
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=setting.sigma_min,
        sigma_max=setting.sigma_max,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        timestep_spacing="leading",  # of the start noise too: sqrt(sigma_max^2 + 1)
    )


def save_agent(model: AnyPolicy, target: Path, *, card: str) -> None:
    """Writes the agent folder `target`, whole or not at all.

    Raises:
        OutputExistsError: `target` holds something that is no agent.
    """
    with atomic_dir(Path(target), replaces=MANIFEST) as tmp:
        write_agent(model, tmp, card=card)


def write_agent(model: AnyPolicy, folder: Path, *, card: str) -> None:
    """Fills an existing empty folder (inside an `atomic_dir`)."""
    for part in weight_files(model.config):
        module: nn.Module = getattr(model, part)
        write_part(module.state_dict(), folder, part)
    write_description(model, folder, card=card)


def write_part(state: Mapping[str, Tensor], folder: Path, part: str) -> None:
    """Writes one part's weights into an agent folder in the making."""
    path = folder / WEIGHTS[part]
    path.parent.mkdir()
    tensors = {key: tensor.contiguous() for key, tensor in state.items()}
    save_file(tensors, path, metadata={"format": "pt"})  # the libraries ask for the format


@torch_defaults()
def write_description(model: AnyPolicy, folder: Path, *, card: str) -> None:
    """Completes a folder that has its weights: configurations, tokenizer, card, manifest."""
    if isinstance(model, VideoPolicy):
        model.unet.save_config(folder / "unet")
        model.vae.save_config(folder / "vae")
        sampler = scheduler(model.config.tier("default"))
    else:
        sampler = noise_schedule(model.config)
        model.encoders[0].backbone.config.save_pretrained(folder / "encoders")  # type: ignore[union-attr]
    model.text_encoder.config.save_pretrained(folder / "text_encoder")
    save_tokenizer(model.tokenizer, folder / "tokenizer")
    sampler.save_pretrained(folder / "scheduler")
    write_json(folder / "config.json", model.config.to_dict())
    (folder / "README.md").write_text(card)
    write_json(folder / MANIFEST, hash_tree(folder))


def load_agent(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    resolution: tuple[int, int] | None = None,
) -> VideoPolicy:
    """`load_any_agent` where only a Video Policy will do; others are an `AgentFolderError`."""
    model = load_any_agent(folder, device=device, dtype=dtype, resolution=resolution)
    if isinstance(model, DiffusionPolicy):
        raise AgentFolderError(_not_video(folder, model.config))
    return model


@torch_defaults()
def load_any_agent(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    resolution: tuple[int, int] | None = None,
) -> AnyPolicy:
    """Reads an agent folder in full or not at all, tensor by tensor: nothing is held twice.

    Args:
        folder: what `save_agent` or LeRobot's trainer wrote.
        device: where the weights go.
        dtype: of the weights but the VAE's: its rounding would show in every latent.
        resolution: (height, width) to go on at, instead of the agent's own; its adapter needs a
            `grid`, or its action head does not fit.

    Raises:
        AgentFolderError: a file is missing, extra, altered, or holds other tensors than expected;
            config.json has an unknown field or a value that does not fit (`AgentConfigError`); or
            the network that is made of them does not plan.
        ConfigError: the agent cannot go on at `resolution`.
    """
    folder = Path(folder)
    from_lerobot = is_lerobot_policy(folder)
    if not from_lerobot:
        try:
            check_manifest(folder)
        except OSError as error:
            raise AgentFolderError(f"{folder} cannot be read: {error}") from error
    config = read_any_config(folder)
    config = config if resolution is None else config.replace(resolution=resolution)
    _check_parts(folder, config)
    tokenizer = read_tokenizer(folder / "tokenizer")
    model: AnyPolicy
    with _made_of(folder / "config.json"):
        if isinstance(config, DiffusionPolicyConfig):
            model = blank_diffusion_policy(config, tokenizer=tokenizer)
        else:
            model = blank_policy(config, tokenizer=tokenizer)
        if not is_small(model):
            try_shapes(model)
    for part, file in weight_files(config).items():
        read_weights(
            getattr(model, part),
            folder / (LEROBOT_WEIGHTS if from_lerobot else file),
            prefix=f"model.{part}." if from_lerobot else "",
            device=device,
            dtype=torch.float32 if part.endswith("vae") else dtype,
        )
    model = model.to(device).eval()  # what is not in the files: buffers
    if is_small(model):
        with _made_of(folder / "config.json"):
            try:
                try_plan(model)
            except PlanError as error:
                files = (
                    LEROBOT_WEIGHTS if from_lerobot else ", ".join(weight_files(config).values())
                )
                raise AgentFolderError(
                    f"{folder}: with these weights ({files}) {error}; get the folder again"
                ) from error
    return model


def _check_parts(folder: Path, config: AnyConfig) -> None:
    """Compares what diffusers and transformers would read in the folder with config.json."""
    parts = {"unet": "unet", "vae": "vae", "text_encoder": "text_encoder", "vision": "encoders"}
    for name, part in parts.items():
        path = folder / part / "config.json"
        arguments = json.loads(json.dumps(getattr(config, name, {})))
        for key, value in (read_strictly(path) if path.exists() else {}).items():
            if key in arguments and (value, type(value)) != (arguments[key], type(arguments[key])):
                raise AgentConfigError(
                    f"{path}: {key} is {value!r}, config.json has {arguments[key]!r}; get the "
                    "folder again"
                )


@contextmanager
def _made_of(path: Path) -> Iterator[None]:
    """What the libraries raise about a configuration becomes an `AgentConfigError`."""
    try:
        yield
    except (AgentFolderError, torch.cuda.OutOfMemoryError):
        raise  # the last is of this machine, not of the folder
    except Exception as error:  # they share no root
        raise AgentConfigError(
            f"{path}: no network that plans can be made of it ({type(error).__name__}: {error})"
        ) from error


def read_config(folder: Path) -> VideoPolicyConfig:
    """The configuration of a Video Policy's folder; others are an `AgentFolderError`."""
    config = read_any_config(folder)
    if isinstance(config, DiffusionPolicyConfig):
        raise AgentFolderError(_not_video(folder, config))
    return config


def _not_video(folder: Path, config: DiffusionPolicyConfig) -> str:
    return f"{folder} is a Diffusion Policy ({config.policy}), expected a Video Policy"


def read_any_config(folder: Path) -> AnyConfig:
    """The configuration of an agent folder."""
    path = Path(folder) / "config.json"
    values = read_strictly(path)
    ours = values.get("model") if values.get("type") == LEROBOT_TYPE else values
    if not isinstance(ours, dict):
        raise AgentConfigError(f"{path}: model must be an object, got {ours!r}")
    kind = DiffusionPolicyConfig if "policy" in ours else VideoPolicyConfig
    try:
        return kind.from_dict(ours)
    except ConfigError as error:
        raise AgentConfigError(f"{path}: {error}") from error


def check_manifest(folder: Path) -> None:
    """Compares every file of `folder` with the hashes in its manifest.

    Not the card, which people edit, and not what the Hub and git put beside (`.gitattributes`).
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise AgentFolderError(
            f"{folder} is not an agent folder: it has no {MANIFEST}; expected a folder written by "
            "save_pretrained or vp-agent train"
        )
    wanted = read_strictly(path)
    found = {name: x for name, x in hash_tree(folder).items() if not is_beside(name)}
    wanted = {name: x for name, x in wanted.items() if not is_beside(name)}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"{name} is not in the manifest" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} was altered (its sha256 is not the one in {MANIFEST})"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
    if problems:
        raise AgentFolderError(f"{folder}, by {MANIFEST}: {'; '.join(problems)}; get it again")
    for name in sorted(found):  # also of those that only diffusers or transformers would read
        if name.endswith(".json"):
            read_strictly(folder / name)


def is_beside(name: str) -> bool:
    """Whether a file of an agent folder, by its relative path, is none of the agent's own."""
    return name == "README.md" or any(part.startswith(".") for part in Path(name).parts)


def fingerprint(folder: Path) -> str:
    """Short hash of what makes the agent act: every file but the model card."""
    folder = Path(folder)
    if is_lerobot_policy(folder):
        hashes = {name: sha256(folder / name) for name in ("config.json", LEROBOT_WEIGHTS)}
        hashes |= hash_tree(folder / "tokenizer")
    else:
        hashes = read_strictly(folder / MANIFEST)
    hashes.pop("README.md", None)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
