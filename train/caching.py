"""`vp-agent data cache`: latents and instructions encoded ahead of training, by many processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vp_agent.errors import require


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Encodes datasets once for the training of one agent; killed, it goes on where it was.

    Several of these share the work when each has its own --rank of the same --world; training
    with the same datasets, views, resolution and variants then reads what they made.
    """

    data: Annotated[Path | tuple[Path, ...], tyro.conf.arg(metavar="PATH [PATH ...]")]
    """LeRobot v3 dataset folders or Hub repositories."""
    init: Path | None = None
    """Run folder, agent folder or Stable Video Diffusion, as for `vp-agent train`."""
    preset: str | None = None
    """Configuration to start from scratch with, as for `vp-agent train`."""
    text_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Text tower that goes with Stable Video Diffusion, as for `vp-agent train`."""
    views: tuple[str, ...] | None = None
    """With --preset: cameras, in canvas order, instead of the preset's."""
    resolution: tuple[int, int] | None = None
    """Height and width, instead of the preset's or the agent's."""
    key_map: tuple[str, ...] | None = None
    """How the datasets name things, as for `vp-agent train`."""
    jitter: bool = False
    """Copies with other colours, for training with --jitter."""
    cache_variants: int = 4
    """Copies of a frame, the plain one included, where --jitter or the policy's image noise makes
    them differ."""
    rank: int = 0
    """Which of the --world processes this one is, from 0."""
    world: int = 1
    """Processes that share the work; each encodes every world-th episode from its rank on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: on the GPU if there is one."""

    def __post_init__(self) -> None:
        require(
            0 <= self.rank < self.world,
            f"--rank must be in 0..{self.world - 1} for --world {self.world}, got {self.rank}",
        )


def cache(settings: CacheSettings) -> list[Path]:
    """Does this process's share; returns the folders that are whole then."""
    from vp_agent.refusals import check_sources
    from vp_agent.train.settings import TrainSettings

    train = TrainSettings(
        stage="video",
        out=Path(),
        **{
            name: getattr(settings, name)
            for name in ("data", "init", "preset", "text_encoder", "views", "resolution", "key_map")
        },
        jitter=settings.jitter,
        cache_variants=settings.cache_variants,
    )
    check_sources(train)
    # torch, not needed for what is refused
    from vp_agent.device import choose_device
    from vp_agent.train.decoding import check_decoding
    from vp_agent.train.latent_cache import Variants, encode_instructions, shelves
    from vp_agent.train.mixture import open_mixture
    from vp_agent.train.shelf import fill
    from vp_agent.train.stages import start_video_model

    device = choose_device(settings.device)
    model = start_video_model(train).to(device).requires_grad_(False).eval()
    variants = Variants.of(model, count=settings.cache_variants, jitter=settings.jitter)
    folders = []
    for part in open_mixture(train, model.config).parts:
        check_decoding(part, rank=settings.rank, world=settings.world)
        targets, conditions = shelves(model, part, variants)
        fill(part, [*targets, *conditions], rank=settings.rank, world=settings.world)
        encode_instructions(model, part, cache=True)
        for shelf in (*targets, *conditions):
            share = (
                "whole" if shelf.is_whole else f"{len(shelf.done())} of {part.episodes} episodes"
            )
            print(f"{shelf.folder}: {share}")
        folders += [shelf.folder for shelf in (*targets, *conditions) if shelf.is_whole]
    return folders
