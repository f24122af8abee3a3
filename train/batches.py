"""Batches of a stage: which windows, and their pixels or latents."""

# B batch, V views, T frames per view, C channels, H W pixels, h w latent

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, distributed

from vp_agent.folder import AnyPolicy
from vp_agent.model.diffusion_policy import DiffusionPolicy
from vp_agent.torch_defaults import integers, normal
from vp_agent.train.dataset import Chunk, Demonstrations
from vp_agent.train.jitter import jitter_clip
from vp_agent.train.latent_cache import (
    LatentCache,
    Variants,
    encode_in_blocks,
    encode_instructions,
)
from vp_agent.train.mixture import Mixture, as_mixture
from vp_agent.train.settings import TrainSettings
from vp_agent.train.windows import to_signed

_NOTHING = torch.empty(0, dtype=torch.float32, device="cpu")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Moments (2C channels: mean, log-variance) of the frames and of the condition images.

    The vae stage has pixels instead: clips (B V, T, 3, H, W) in [-1, 1]; a Diffusion Policy the
    current images (B, V, 3, H, W).
    """

    chunk: Chunk
    text_B1D: Tensor
    has_actions_B: Tensor
    moments_BVTChw: Tensor = _NOTHING
    condition_BVChw: Tensor = _NOTHING
    clips_BTCHW: Tensor = _NOTHING
    images_BVCHW: Tensor = _NOTHING


class Batches:
    """Draws windows at random and loads them, from the latent cache where there is one."""

    def __init__(
        self, model: AnyPolicy, data: Mixture | Demonstrations, settings: TrainSettings
    ) -> None:
        self.model, self.settings = model, settings
        self.data = data if isinstance(data, Mixture) else as_mixture([data], settings)
        self.train_ids = self.data.split("train")
        if settings.needs_actions:
            self.train_ids = self.train_ids[self.data.labelled_N[self.train_ids]]
        parts = self.data.parts
        use_cache = settings.cache and settings.stage != "vae"
        self.text = torch.cat([encode_instructions(model, part, cache=use_cache) for part in parts])
        self.caches: list[LatentCache] = []
        if isinstance(model, DiffusionPolicy):  # its encoders learn: nothing to keep
            return
        self.variants = Variants.of(model, count=settings.cache_variants, jitter=settings.jitter)
        rank, world = 0, 1
        if distributed.is_initialized():
            rank, world = distributed.get_rank(), distributed.get_world_size()
        self.caches = [
            LatentCache(model, part, self.variants, rank=rank, world=world)
            for part in parts
            if use_cache
        ]

    def draw(self, generator: torch.Generator) -> np.ndarray:
        """Start frames of a batch's windows, with replacement."""
        size, weights = self.settings.batch_size, self.data.weights
        if weights is None:
            picks = integers(len(self.train_ids), (size,), generator)
            return self.train_ids[picks.numpy()]
        pools = {p: self.train_ids[at] for p, at, _ in self.data.by_part(self.train_ids)}
        shares = torch.tensor([weights[p] for p in pools], dtype=torch.float32, device="cpu")
        pool_B = torch.multinomial(shares, size, replacement=True, generator=generator)
        place_B = torch.rand(size, generator=generator, dtype=torch.float64, device="cpu")
        chosen = [list(pools.values())[p] for p in pool_B]
        return np.array([ids[int(x * len(ids))] for ids, x in zip(chosen, place_B, strict=True)])

    def load(self, ids_B: np.ndarray, *, generator: torch.Generator) -> Batch:
        """The windows that start at `ids_B`, on the model's device."""
        device, chunk = self.model.device, self.data.chunk(ids_B)
        common = {
            "chunk": Chunk(**{name: value.to(device) for name, value in vars(chunk).items()}),
            "text_B1D": self.text[chunk.task_B],
            "has_actions_B": torch.from_numpy(self.data.labelled_N[ids_B]).to(device),
        }
        if self.caches:
            moments, condition = self._cached(ids_B, generator)
            return Batch(
                moments_BVTChw=moments.to(device), condition_BVChw=condition.to(device), **common
            )
        pixels = self.data.pixels(ids_B)
        if self.settings.jitter:
            for b in np.flatnonzero(self.data.train_N[ids_B]):
                clips = [jitter_clip(view, generator=generator) for view in pixels[b]]
                pixels[b] = torch.stack(clips)
        frames = to_signed(pixels).to(device)
        if self.settings.stage == "vae":
            return Batch(clips_BTCHW=rearrange(frames, "b v t c h w -> (b v) t c h w"), **common)
        current = frames[:, :, 0]
        if isinstance(self.model, DiffusionPolicy):
            return Batch(images_BVCHW=current, **common)
        noise = normal(current.shape, generator).to(device)
        current = current + self.model.config.image_noise * noise
        return Batch(
            moments_BVTChw=_per_image(self.model.encode_frames, frames),
            condition_BVChw=_per_image(self.model.encode_condition, current),
            **common,
        )

    def _cached(self, ids_B: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Moments of the windows and of their condition images, each sample of one variant."""
        variant_B = np.zeros(len(ids_B), np.int64)
        if self.variants.count > 1:
            drawn = integers(self.variants.count, (len(ids_B),), generator)
            # Held-out windows are always seen in the same, plain variant.
            variant_B = drawn.numpy() * self.data.train_N[ids_B]
        return (
            self.data.gather(ids_B, lambda p, own, at: self.caches[p].windows(own, variant_B[at])),
            self.data.gather(
                ids_B, lambda p, own, at: self.caches[p].conditions(own, variant_B[at])
            ),
        )


def _per_image(encode: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    return encode_in_blocks(encode, frames.flatten(0, -4)).unflatten(0, frames.shape[:-3])
