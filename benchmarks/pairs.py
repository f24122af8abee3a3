"""What storing pairs of frames as H.264 costs: bytes, and error in dB, at several qualities.

    MUJOCO_GL=osmesa python benchmarks/pairs.py

Frames of robosuite's Lift under random actions; the frame before stands for the imagined one.
"""

import contextlib
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import gymnasium as gym
import numpy as np

import vp_agent  # noqa: F401 (registers the environments)
from vp_agent.evaluation.agreement import psnr
from vp_agent.evaluation.film import Film

PAIRS = 30
CAMERAS = {64: ("gripper", "left"), 256: ("gripper", "left", "right")}


def frames(side: int) -> list[np.ndarray]:
    """All views side by side, every fourth control step."""
    views = CAMERAS[side]
    env = gym.make("Robosuite-Lift-v0", views=views, resolution=(side, side))
    env.reset(seed=1)
    rng, shots = np.random.default_rng(0), []
    for _ in range(PAIRS + 1):
        actions = rng.normal(0, 0.5, (4, 7)).clip(-1, 1).astype(np.float32)
        observation = [env.step(action)[0] for action in actions][-1]
        shots.append(np.concatenate([observation["pixels"][view] for view in views], axis=1))
    env.close()
    return shots


def stored(pairs: list[np.ndarray], path: Path, *, pix_fmt: str, quality: int) -> list[np.ndarray]:
    """The pairs as they come back from the file."""
    with Film(path, fps=5, pix_fmt=pix_fmt, quality=quality) as film:
        for pair in pairs:
            film.add(pair)
    back = av.open(str(path))
    with contextlib.closing(back):
        return [frame.to_ndarray(format="rgb24") for frame in back.decode(video=0)]


def main() -> None:
    """Prints a markdown table."""
    print(
        "| views | format | quality | kB per pair | error, dB (worst) | PSNR, dB | off by at most |"
    )
    print("|---|---|---|---|---|---|---|")
    for side, views in CAMERAS.items():
        shots = frames(side)
        pairs = [np.concatenate([now, before]) for before, now in pairwise(shots)]
        truth = [psnr(*np.split(pair, 2)) for pair in pairs]
        for pix_fmt in ("yuv420p", "yuv444p"):
            for quality in (4, 10, 18):
                with TemporaryDirectory() as tmp:
                    path = Path(tmp) / "pairs.mp4"
                    back = stored(pairs, path, pix_fmt=pix_fmt, quality=quality)
                    size = path.stat().st_size / len(pairs) / 1e3
                errors = [psnr(a, b) for a, b in zip(pairs, back, strict=True)]
                shifts = [abs(psnr(*np.split(b, 2)) - t) for b, t in zip(back, truth, strict=True)]
                print(
                    f"| {len(views)} of {side}x{side} | {pix_fmt} | {quality} | {size:.1f} | "
                    f"{np.mean(errors):.1f} ({min(errors):.1f}) | {np.mean(truth):.1f} | "
                    f"{max(shifts):.2f} |"
                )


if __name__ == "__main__":
    main()
