"""Batches of a stage: which windows, and their pixels or latents."""

# B batch, V views, T frames per view, C channels, H W pixels, h w latent

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.dataset import Chunk, Demonstrations
from vp_agent.train.latent_cache import LatentCache
from vp_agent.train.settings import TrainSettings
from vp_agent.train.windows import to_signed

_NOTHING = torch.empty(0)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Moments (2C channels: mean, log-variance) of the frames and of the condition images.

    The vae stage has pixels instead: clips (B V, T, 3, H, W) in [-1, 1].
    """

    chunk: Chunk
    text_B1D: Tensor
    has_actions_B: Tensor
    moments_BVTChw: Tensor = _NOTHING
    condition_BVChw: Tensor = _NOTHING
    clips_BTCHW: Tensor = _NOTHING


class Batches:
    """Draws windows at random and loads them, from the latent cache where there is one."""

    def __init__(self, model: VideoPolicy, data: Demonstrations, settings: TrainSettings) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.train_ids = data.split("train")
        if settings.action_episodes is not None and settings.stage == "action":
            self.train_ids = self.train_ids[
                data.episode_N[self.train_ids] < settings.action_episodes
            ]
        self.text = model.encode_text(data.tasks)
        use_cache = settings.cache and settings.stage != "vae"
        self.cache = LatentCache(model, data) if use_cache else None

    def draw(self, generator: torch.Generator) -> np.ndarray:
        """Start frames of a batch's windows, with replacement."""
        picks = torch.randint(len(self.train_ids), (self.settings.batch_size,), generator=generator)
        return self.train_ids[picks.numpy()]

    def load(self, ids_B: np.ndarray, *, generator: torch.Generator) -> Batch:
        """The windows that start at `ids_B`, on the model's device."""
        device, chunk = self.model.device, self.data.chunk(ids_B)
        episodes, limit = self.data.episode_N[ids_B], self.settings.action_episodes
        limit = self.data.episodes if limit is None else limit
        # Held-out episodes keep their labels: they are only measured on.
        labelled = (episodes < limit) | (episodes >= self.data.train_episodes)
        common = {
            "chunk": Chunk(**{name: value.to(device) for name, value in vars(chunk).items()}),
            "text_B1D": self.text[chunk.task_B],
            "has_actions_B": torch.from_numpy(labelled).to(device),
        }
        if self.cache is not None:
            moments = self.cache.windows(ids_B).to(device)
            return Batch(moments_BVTChw=moments, condition_BVChw=moments[:, :, 0], **common)
        pixels = to_signed(self.data.pixels(ids_B)).to(device)
        if self.settings.stage == "vae":
            return Batch(clips_BTCHW=rearrange(pixels, "b v t c h w -> (b v) t c h w"), **common)
        current = pixels[:, :, 0]
        noise = torch.randn(current.shape, generator=generator).to(device)
        current = current + self.model.config.conditioning.image_noise * noise
        return Batch(
            moments_BVTChw=_per_image(self.model.encode_frames, pixels),
            condition_BVChw=_per_image(self.model.encode_condition, current),
            **common,
        )


def _per_image(encode: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    return encode(frames.flatten(0, -4)).unflatten(0, frames.shape[:-3])
