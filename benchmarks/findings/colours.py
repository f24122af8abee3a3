"""How far an agent's autoencoder tells the Tabletop colours apart, by swapping two cubes' colours.

python benchmarks/findings/colours.py --agent packaged:lift

Each scene is drawn twice, the second time with the colours of two cubes exchanged and nothing else
changed. The figure is the rms difference of the latents, over the cells in which pixels changed, in
units of the latents' standard deviation. Below 0.3 a policy cannot be asked for a colour.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

import vp_agent
from vp_agent.envs.tabletop_words import COLOURS

_CHANGED = 32  # of 255, in some channel: a pixel of a cube that has another colour
_SHARE = 0.25  # of a cell's pixels


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    agent: str
    """Agent folder or packaged:NAME."""
    scenes: int = 16
    """Seeds 0 and up."""


def swaps(scenes: int, env_kwargs: dict[str, Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    """(pair of colours, view, both pictures (2, H, W, 3)) of every scene, pair and view."""
    env: Any = gym.make("Tabletop-All-v0", **env_kwargs).unwrapped
    for seed in range(scenes):
        before = env.reset(seed=seed)[0]["pixels"]
        scene = env.sim_env
        where = {colour: place for place, colour in scene.colours.items()}
        for one, other in combinations(COLOURS, 2):
            geoms = [scene._cube_geoms[where[colour]] for colour in (one, other)]
            rgba = scene.sim.model.geom_rgba
            rgba[geoms[0]], rgba[geoms[1]] = rgba[geoms[1]].copy(), rgba[geoms[0]].copy()
            after = env._observation()["pixels"]
            rgba[geoms[0]], rgba[geoms[1]] = rgba[geoms[1]].copy(), rgba[geoms[0]].copy()
            for view in before:
                yield f"{one}-{other}", view, np.stack([before[view], after[view]])
    env.close()


def latent_shift(
    encode: Callable[[np.ndarray], np.ndarray], pairs_N2HWC: np.ndarray
) -> tuple[float, float]:
    """Rms difference of the latents of two pictures where they differ, and the latents' std.

    `encode` gives latents (N, C, h, w) of pictures uint8 (N, H, W, 3).
    """
    before, after = encode(pairs_N2HWC[:, 0]), encode(pairs_N2HWC[:, 1])
    rows, columns = before.shape[-2:]
    changed = np.abs(np.diff(pairs_N2HWC.astype(int), axis=1)[:, 0]).max(-1) > _CHANGED
    count, height, width = changed.shape
    blocks = changed.reshape(count, rows, height // rows, columns, width // columns)
    cells = blocks.mean(axis=(2, 4)) >= _SHARE
    difference = np.moveaxis(after - before, 1, -1)[cells]
    return float(np.sqrt((difference**2).mean())), float(before.std())


def main(settings: Settings) -> None:
    """Prints one Markdown table row per pair of colours and view."""
    agent = vp_agent.VideoPolicyAgent.from_pretrained(settings.agent, device="cpu")
    model = agent.model

    @torch.no_grad()
    def encode(images_NHWC: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float() / 127.5 - 1
        return model.target_latents(model.encode_frames(images)).numpy()

    views, resolution = agent.config.views, agent.config.resolution
    kwargs = {"views": views, "resolution": resolution, "render_quality": "fast"}
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for pair, view, pictures in swaps(settings.scenes, kwargs):
        groups.setdefault((pair, view), []).append(pictures)
    print("| swap | view | rms / std | latent std |\n|---|---|---|---|")
    for (pair, view), pictures in sorted(groups.items()):
        rms, std = latent_shift(encode, np.stack(pictures))
        print(f"| {pair} | {view} | {rms / std:.2f} | {std:.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Settings))
