"""Latents of a whole dataset in memory-mapped files beside it, keyed by what they depend on.

Encoding a frame costs more than a training step of a small model, and its latent never changes: one
pass, then training reads a few kilobytes per sample. What a sample would draw anew every time
(colours, the noise on the condition images) is drawn a few times per frame instead: the variants.
"""

# N frames of the dataset, T frames of an episode or window, B batch, V views, C latent channels
# h w latent height/width, H W pixels

import hashlib
import json
import mmap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vp_agent.errors import DatasetError
from vp_agent.files import atomic_file
from vp_agent.folder import AnyPolicy
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.randomness import mix
from vp_agent.torch_defaults import normal
from vp_agent.train import jitter
from vp_agent.train.contents import content_files, content_hashes
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.decoding import check_decoding
from vp_agent.train.shelf import ABOUT, Shelf, differences, fill
from vp_agent.train.windows import to_signed

FOLDER = "vp_cache"
# Encoded together: 8 of the paper's images, for which the encoder wants 1.3 GiB.
PIXELS_AT_ONCE = 8 * 256 * 256


@dataclass(frozen=True, kw_only=True)
class Variants:
    """The cached copies of a frame: how many, and in what they differ."""

    count: int = 1
    jitter: bool = False  # colours, of every copy but the first, by episode and view

    @staticmethod
    def of(model: VideoPolicy, *, count: int, jitter: bool) -> "Variants":
        """`count` copies where a sample's latents are random, else one."""
        random = jitter or model.config.image_noise
        return Variants(count=count if random else 1, jitter=jitter)


def _depends_on(model: VideoPolicy, data: Demonstrations) -> dict[str, Any]:
    """All that the plain latents depend on, what is long as a hash."""
    return {
        "vae": _hash_encoder(model.vae),
        "videos": _hash_files(data),
        "views": [data.config.views, data.layout.views],
        "turning of images": data.flips,
        "resolution": data.config.resolution,
    }


def _name(about: dict[str, Any], variant: str) -> str:
    return _hash([json.dumps([about, variant], sort_keys=True).encode()])


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _hash_weights(module: nn.Module) -> str:
    weights = sorted(module.state_dict().items())
    return _hash(name.encode() + x.cpu().float().numpy().tobytes() for name, x in weights)


def _hash_encoder(vae: nn.Module) -> str:
    parts = (vae.get_submodule("encoder"), getattr(vae, "quant_conv", None))
    return _hash(_hash_weights(part).encode() for part in parts if part is not None)


def _hash_files(data: Demonstrations) -> str:
    contents = content_hashes(data.root, content_files(data.root))
    listed = json.dumps(contents, sort_keys=True)
    return _hash([(data.root / "meta" / "info.json").read_bytes(), listed.encode()])


class LatentCache:
    """Latent moments of every frame, and where they differ of every condition image.

    Made on first use, together with the other processes of a run.
    """

    def __init__(
        self,
        model: VideoPolicy,
        data: Demonstrations,
        variants: Variants = Variants(),
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data, self.variants = data, variants
        check_decoding(data, rank=rank, world=world)
        targets, conditions = shelves(model, data, variants)
        if rank == 0 and not targets[0].is_whole:
            _say_why(targets[0])
        fill(data, [*targets, *conditions], rank=rank, world=world, help_others=True)
        self._targets = [shelf.open() for shelf in targets]
        self._conditions = [shelf.open() for shelf in conditions]
        self.moments_NVChw = self._targets[0]

    def windows(self, ids_B: np.ndarray, variant_B: np.ndarray | None = None) -> Tensor:
        """Moments (B, V, T, 2C, h, w) of the windows that start at `ids_B`."""
        frames_BT = self.data.frame_ids(ids_B)
        return read_rows(self._targets, frames_BT, variant_B).transpose(1, 2)

    def conditions(self, ids_B: np.ndarray, variant_B: np.ndarray | None = None) -> Tensor:
        """Moments (B, V, 2C, h, w) of the condition images at `ids_B`."""
        return read_rows(self._conditions or self._targets, ids_B, variant_B)


def read_rows(
    arrays: Sequence[np.ndarray], rows: np.ndarray, variant_B: np.ndarray | None = None
) -> Tensor:
    """Float32 rows `rows` (B, ...) of memory-mapped arrays, each sample's of its variant."""
    if variant_B is None or len(arrays) == 1:
        picked = arrays[0][rows]
    else:
        picked = np.stack([arrays[k][row] for k, row in zip(variant_B, rows, strict=True)])
    for array in arrays:
        # What was read stays in the system's page cache, but no longer counts as this process's.
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    return torch.from_numpy(picked).float()


def shelves(
    model: VideoPolicy, data: Demonstrations, variants: Variants
) -> tuple[list[Shelf], list[Shelf]]:
    """The arrays of the targets and, if condition images have latents of their own, of those."""
    channels, height, width = model.config.latent_shape
    shape = (len(data), len(data.config.views), 2 * channels, height, width)
    noise = model.config.image_noise
    about = _depends_on(model, data)
    key = _name(about, variant="")
    own_vae = "" if model.condition_vae is None else _hash_encoder(model.condition_vae)

    def shelf(variant: str, encode: Callable[[Tensor, int], Tensor]) -> Shelf:
        folder = data.root / FOLDER / _name(about, variant)
        return Shelf(folder=folder, shape=shape, about={**about, "variant": variant}, encode=encode)

    def colours(k: int) -> str:
        return f"jitter {k} {jitter.STRENGTHS}" if variants.jitter and k else ""

    def images(frames_VTCHW: Tensor, episode: int, k: int) -> Tensor:
        if colours(k):
            generators = (_seeded(key, "jitter", k, episode, v) for v in range(shape[1]))
            clips = zip(frames_VTCHW, generators, strict=True)
            frames_VTCHW = torch.stack([jitter.jitter_clip(x, generator=g) for x, g in clips])
        return to_signed(frames_VTCHW)

    def target(k: int) -> Shelf:
        def encode(frames_VTCHW: Tensor, episode: int) -> Tensor:
            return _encode(model.encode_frames, images(frames_VTCHW, episode, k), model.device)

        return shelf(colours(k), encode)

    def condition(k: int) -> Shelf:
        def encode(frames_VTCHW: Tensor, episode: int) -> Tensor:
            frames = images(frames_VTCHW, episode, k)
            generator = _seeded(key, "noise", k, episode)
            frames = frames + noise * normal(frames.shape, generator)
            return _encode(model.encode_condition, frames, model.device)

        return shelf(f"condition {k} {noise} {colours(k)} {own_vae}", encode)

    own_condition = bool(noise) or model.condition_vae is not None
    return (
        [target(k) for k in range(variants.count if variants.jitter else 1)],
        [condition(k) for k in range(variants.count if own_condition else 0)],
    )


def _seeded(*parts: int | str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(mix(*parts))


def _encode(encode: Callable[[Tensor], Tensor], frames: Tensor, device: torch.device) -> Tensor:
    """Moments (T, V, 2C, h, w) of images (V, T, 3, H, W)."""
    views = [encode_in_blocks(lambda part: encode(part.to(device)), view) for view in frames]
    return torch.stack(views, dim=1)


def encode_in_blocks(encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What `encode` makes of images (N, 3, H, W), in memory that does not grow with N."""
    at_once = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
    return torch.cat([encode(part) for part in images.split(at_once)])


def _say_why(shelf: Shelf) -> None:
    """What in the caches that are there does not fit, before a new one is made."""
    for path in sorted(shelf.folder.parent.glob(f"*/{ABOUT}")):
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            print(f"{path.parent} is damaged ({error}), not used; delete it: rm -r {path.parent}")
            continue
        if found.get("variant", "") == "":
            wrong = ", ".join(differences(shelf.about, found))
            print(f"{path.parent} is of another {wrong}; encoding anew")


def encode_instructions(model: AnyPolicy, data: Demonstrations, *, cache: bool) -> Tensor:
    """Tokens (tasks, 1, D) of the dataset's instructions, kept beside it if `cache`."""
    if not cache:
        return _encode_texts(model, data.tasks)
    about = [data.tasks, sorted(model.tokenizer.get_vocab().items())]
    name = _hash([json.dumps(about).encode(), _hash_weights(model.text_encoder).encode()])
    path = data.root / FOLDER / f"text-{name}.npy"
    if not path.is_file():
        with atomic_file(path) as tmp:
            np.save(tmp, _encode_texts(model, data.tasks).cpu().float().numpy())
    try:
        return torch.from_numpy(np.load(path)).to(model.device)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"{path} is damaged ({error}); delete it, and the next run makes it anew: rm {path}"
        ) from error


def _encode_texts(model: AnyPolicy, texts: list[str]) -> Tensor:
    parts = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    return torch.cat([model.encode_text(part) for part in parts])
