"""Recipes: the paper's trainings and ablations as flags of `vp-agent train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vp_agent.errors import ConfigError, UnknownNameError, closest

SVD = "stabilityai/stable-video-diffusion-img2vid-xt"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fields of `TrainSettings`, where they come from, and what the user still has to give."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


# Table 5 and section 4, and what only the published code says. A batch of 32 is eight GPUs with 4.
PUBLISHED = {
    "steps": 368_866,
    "batch_size": 4,
    "lr": 1e-5,
    "head_lr": 5e-5,
    "mixed_precision": "fp16",
    "weight_decay": 0.0,
    "clip_norm": float("inf"),
    "ema_decay": 0.0,
    "dropout_per_slot": True,
    "sample_latents": True,
    "action_padding": "zero",
    "mask_padding": False,
    "jitter": True,
    "cache": False,  # new pixel noise on the condition images of every sample
    "save_every": 10_000,
    "eval_every": 10_000,
}

# Appendix A.3 and, for what it does not say, UMI's code. A batch of 768 is eight GPUs with 96.
BASELINE = {
    "preset": "svd-robocasa",
    "batch_size": 96,
    "lr": 3e-5,  # of pretrained encoders a tenth
    "head_lr": 3e-4,
    "betas": (0.95, 0.999),
    "weight_decay": 1e-6,
    "lr_schedule": "cosine",
    "warmup_steps": 2000,
    "clip_norm": float("inf"),
    "ema_decay": 0.9999,
    "mask_padding": False,
    "jitter": True,
    "save_every": 10_000,
    "eval_every": 10_000,
}


def _row(source: str, *, needs: tuple[str, ...] = (), **changes: Any) -> Recipe:
    trains_unet = changes["stage"] in ("video", "joint")
    published = PUBLISHED | ({"gradient_checkpointing": True} if trains_unet else {})
    return Recipe(source=source, values=published | changes, needs=needs)


def _from_svd(source: str, stage: str, preset: str, **changes: Any) -> Recipe:
    return _row(source, stage=stage, preset=preset, init=SVD, **changes)


RECIPES = {
    "joint": _from_svd("Table 5, Joint Training", "joint", "svd-robocasa"),
    "joint-stop-gradient": _from_svd(
        "section 3.3: the action loss stays out of the U-Net; otherwise Table 5, Joint Training",
        "joint",
        "svd-robocasa",
        stop_action_gradient=True,
    ),
    "two-stage-video": _from_svd(
        "Table 5, 2-Stage Training, and Half Tasks, first stage", "video", "svd-robocasa"
    ),
    "two-stage-action": _row(
        "Table 5, 2-Stage Training, second stage", stage="action", needs=("init",)
    ),
    "no-video-tuning": _from_svd("Table 5, No Video Tuning", "none", "svd-robocasa"),
    "joint-horizon16": _from_svd(
        "Table 5, Joint Training (16 Steps)", "joint", "svd-robocasa-horizon16"
    ),
    "joint-horizon0": _from_svd(
        "Table 5, Joint Training (0 Steps)", "joint", "svd-robocasa-horizon0"
    ),
    "half-tasks-action": _row(
        "Table 5, 2-Stage Training (Half Tasks), second stage; the paper draws 12 of 24 tasks and "
        "does not name them",
        stage="action",
        needs=("init", "tasks_with_actions"),
    ),
    "libero10-video": _from_svd(
        "Table 5, 2-Stage Training (Libero10), first stage", "video", "svd-libero10", steps=170_000
    ),
    "libero10-action": _row(
        "Table 5, 2-Stage Training (Libero10), second stage",
        stage="action",
        steps=140_000,
        needs=("init",),
    ),
    "real-256x192": _from_svd(
        "Table 5, Joint Training (Real World), first part",
        "joint",
        "svd-real-256x192",
        steps=331_500,
    ),
    "real-448x320": _row(
        "Table 5, Joint Training (Real World), second part",
        stage="joint",
        resolution=(320, 448),
        steps=92_960,
        needs=("init",),
    ),
    "dp-resnet": Recipe(
        source="appendix A.3, DP-ResNet; the paper gives no number of steps",
        values=BASELINE | {"policy": "dp-resnet", "encoder": "microsoft/resnet-18"},
        needs=("steps",),
    ),
    "dp-clip": Recipe(
        source="appendix A.3, DP-CLIP; the paper gives no number of steps",
        values=BASELINE | {"policy": "dp-clip", "encoder": "openai/clip-vit-base-patch16"},
        needs=("steps",),
    ),
    "video-24gb": Recipe(
        source="ours: the video stage within 24 GB of GPU memory",
        values={
            "stage": "video",
            "preset": "svd-robocasa",
            "init": SVD,
            "batch_size": 1,
            "accumulation": 32,
            "lora_rank": 64,
            "lr": 1e-4,
            "gradient_checkpointing": True,
            "mixed_precision": "bf16",
            "cache": False,
        },
    ),
    "action-24gb": Recipe(
        source="ours: the action stage within 24 GB of GPU memory",
        values={
            "stage": "action",
            "batch_size": 4,
            "accumulation": 8,
            "action_draws": 4,
            "mixed_precision": "bf16",
        },
        needs=("init",),
    ),
}


def with_recipe(arguments: Sequence[str]) -> list[str]:
    """Flags of `vp-agent train`, after those of the recipe that they name, if they name one.

    Raises:
        UnknownNameError: there is no such recipe.
        ConfigError: the recipe needs a flag that is not there.
    """
    words = [word for argument in arguments for word in _split(argument)]
    if "--recipe" not in words:
        return list(arguments)
    name = next(iter(words[words.index("--recipe") + 1 :]), "")
    if name not in RECIPES:
        raise UnknownNameError(
            f"no recipe {name!r}{closest(name, RECIPES)}; recipes: {', '.join(RECIPES)}"
        )
    recipe = RECIPES[name]
    missing = [flag for flag in map(_flag, recipe.needs) if flag not in words]
    if missing:
        raise ConfigError(f"--recipe {name} ({recipe.source}) also needs {', '.join(missing)}")
    # Yours win: a flag that you give is left out of the recipe's, whatever its sign.
    given = {word[2:].removeprefix("no-") for word in words if word.startswith("--")}
    ours = {key: value for key, value in recipe.values.items() if _flag(key)[2:] not in given}
    return [*arguments, *(word for key, value in ours.items() for word in _words(key, value))]


def _split(argument: str) -> list[str]:
    """`--some_flag=value` as tyro reads it: `--some-flag` and the value."""
    if not argument.startswith("--"):
        return [argument]
    flag, *value = argument.split("=", 1)
    return [flag.replace("_", "-"), *value]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _words(key: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [_flag(key) if value else "--no-" + _flag(key)[2:]]
    return [_flag(key), *map(str, value if isinstance(value, tuple) else (value,))]
