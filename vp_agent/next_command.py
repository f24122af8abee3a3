"""What to type next: the command that usually follows a verb of `vp-agent`."""

from pathlib import Path
from typing import Any


def fly(agent: object, env: str = "Robosuite-Lift-v0") -> list[str]:
    """An evaluation of an agent."""
    return ["eval", "--agent", str(agent), "--env", env, "--out", "outputs/eval"]


def after_train(settings: Any) -> list[str]:
    """The action stage after the video stage, the video stage after the VAE, then an evaluation."""
    if settings.plan or settings.show:
        return []
    if settings.learns_actions:
        return fly(settings.out)
    stage = "action" if settings.stage == "video" else "video"
    start = ["train", "--stage", stage, "--init", str(settings.out)]
    return [*start, *_data(settings.datasets), "--out", f"outputs/{stage}"]


def after_check(settings: Any) -> list[str]:
    """What a training on the dataset would cost."""
    if settings.json:
        return []
    start = ["train", "--plan", "--stage", "joint", "--preset", "tiny-lift"]
    return [*start, *_data((settings.root,)), "--out", "outputs/joint"]


def after_stats(settings: Any) -> list[str]:
    """A check of the dataset."""
    return [] if settings.json else ["data", "check", str(settings.root)]


def after_cache(settings: Any) -> list[str]:
    """The training that the latents are for."""
    data = (settings.data,) if isinstance(settings.data, Path) else settings.data
    flags = [f"--{name}" for name in ("init", "preset") if getattr(settings, name) is not None]
    start = [word for flag in flags for word in (flag, str(getattr(settings, flag[2:])))]
    return ["train", "--stage", "video", *start, *_data(data), "--out", "outputs/video"]


def after_bench(settings: Any) -> list[str]:
    """A flight of the agent, or the training of one from the preset."""
    if settings.agent is not None:
        return fly(settings.agent)
    return ["train", "--help"]


def after_report(settings: Any) -> list[str]:
    """The paired comparison of several, or why episodes of one failed."""
    return ["compare" if len(settings.folders) > 1 else "audit", *map(str, settings.folders)]


def _data(datasets: tuple[Path, ...]) -> list[str]:
    return ["--data", *map(str, datasets)]
