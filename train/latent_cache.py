"""Latents of a whole dataset in memory-mapped files beside it, keyed by what they depend on.

Encoding a frame costs more than a training step of a small model, and without image augmentation
its latent never changes: one pass, then training reads a few kilobytes per sample.
"""

# N frames of the dataset, V views, C latent channels, h w latent height/width

import hashlib
import json

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vp_agent.errors import ConfigError
from vp_agent.files import atomic_dir, write_json
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.windows import to_signed


def cache_key(model: VideoPolicy, data: Demonstrations) -> str:
    """Hash of everything the latents depend on: VAE weights, views, resolution, dataset."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.vae.encoder.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().float().numpy().tobytes())
    if model.vae.quant_conv is not None:
        for tensor in model.vae.quant_conv.state_dict().values():
            digest.update(tensor.cpu().float().numpy().tobytes())
    info = (data.root / "meta" / "info.json").read_bytes()
    digest.update(json.dumps([data.config.views, data.config.resolution]).encode() + info)
    images = [*(data.root / "videos").rglob("*.mp4"), *(data.root / "data").rglob("*.parquet")]
    for path in sorted(images):
        stat = path.stat()
        digest.update(f"{path.relative_to(data.root)} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


class LatentCache:
    """Latent moments of every frame, (N, V, 2C, h, w) float16 on disk; made on first use."""

    def __init__(self, model: VideoPolicy, data: Demonstrations) -> None:
        if model.condition_vae is not None:
            raise ConfigError(
                "this agent encodes condition images with an encoder of their own, the cache "
                "would give it the targets' latents: train with --no-cache"
            )
        if data.config.conditioning.image_noise:
            raise ConfigError(
                "conditioning.image_noise draws new pixel noise for every sample, so latents "
                "cannot be cached: train with --no-cache"
            )
        self.data = data
        self.folder = data.root / "vp_cache" / cache_key(model, data)
        if not self.folder.is_dir():
            self._fill(model)
        self.moments_NVChw = np.load(self.folder / "moments.npy", mmap_mode="r")

    def _fill(self, model: VideoPolicy) -> None:
        channels, height, width = self.data.config.latent_shape
        shape = (len(self.data), len(self.data.config.views), 2 * channels, height, width)
        with atomic_dir(self.folder) as tmp:
            moments = np.lib.format.open_memmap(tmp / "moments.npy", "w+", np.float16, shape)
            for episode in tqdm(range(self.data.episodes), desc="latents", unit="episode"):
                rows = np.flatnonzero(self.data.episode_N == episode)
                frames = to_signed(self.data.episode_pixels(episode)).to(model.device)
                for v, view in enumerate(frames):
                    moments[rows, v] = model.encode_frames(view).cpu().numpy()
            moments.flush()
            write_json(tmp / "about.json", {"shape": shape, "dataset": self.data.root.name})

    def windows(self, ids_B: np.ndarray) -> Tensor:
        """Moments (B, V, T, 2C, h, w) of the windows that start at `ids_B`."""
        moments = self.moments_NVChw[self.data.frame_ids(ids_B)]  # (B, T, V, 2C, h, w)
        return torch.from_numpy(moments).float().transpose(1, 2)
