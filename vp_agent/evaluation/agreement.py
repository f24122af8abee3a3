"""How far imagination and world agree, pair by pair, plan by plan; docs/audit.md has the words."""

# H W image height/width

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vp_agent.errors import need
from vp_agent.evaluation.pairs import Pair

Latents = Callable[[Sequence[np.ndarray]], np.ndarray]  # images (H, W, 3) -> (images, numbers)

CHANCE = 0.05  # share of a successful episode's plans beyond a threshold, and level of the tests
ENOUGH_EPISODES, ENOUGH_PLANS = 5, 20  # successful ones, to calibrate with
_ROUNDING = 1 / 12  # mean square error of rounding to whole grey levels


@dataclass(frozen=True, kw_only=True)
class Match:
    """The measures of one pair in one view; decibels, but `ssim` and `latent`."""

    plan: int
    frame: int
    step: int
    view: str
    psnr: float
    copy_psnr: float
    ssim: float
    latent: float | None


@dataclass(frozen=True, kw_only=True)
class Followed:
    """How well one plan began and was followed, from its control step on; the worst view counts.

    `start` is the PSNR of its first frame, `drift` the decibels that it loses to its last executed
    frame; the others are at that frame.
    """

    plan: int
    step: int
    start: float
    drift: float
    psnr: float
    ssim: float
    latent: float | None


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """In dB: a plan of less `start` begins elsewhere, one of more `drift` was not followed."""

    start: float | None
    drift: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the rule says of an episode, and the counts that say it.

    `elsewhere` of its `plans` begin elsewhere; of the others, `unfollowed` were not followed.
    Of a failed episode, "elsewhere" and "followed" mean that the video was wrong, "unfollowed"
    that the actions were not right.
    """

    mostly: Literal["elsewhere", "followed", "unfollowed"]
    elsewhere: int
    unfollowed: int
    plans: int


def compare(pairs: Iterable[Pair], *, latents: Latents | None = None) -> list[Match]:
    """The measures of every pair of an episode, in every view.

    Args:
        pairs: in order.
        latents: the autoencoder's mean latents of some images; without, `latent` is None.
    """
    matches, start = [], None
    for pair in pairs:
        if start is None or start.plan != pair.plan:
            start = pair
        for view, executed in pair.executed.items():
            imagined = pair.imagined[view]
            distance = None
            if latents is not None:
                a, b = latents([executed, imagined])
                distance = float(np.sqrt(np.mean((a - b) ** 2)))
            match = Match(
                plan=pair.plan,
                frame=pair.frame,
                step=pair.step,
                view=view,
                psnr=psnr(imagined, executed),
                copy_psnr=psnr(start.executed[view], executed),
                ssim=_ssim(imagined, executed),
                latent=distance,
            )
            matches.append(match)
    return matches


def psnr(a_HW3: np.ndarray, b_HW3: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images in dB; 58.9 if they are equal."""
    error = np.mean((a_HW3.astype(np.float64) - b_HW3) ** 2)
    return float(10 * np.log10(255**2 / max(error, _ROUNDING)))


def _ssim(a_HW3: np.ndarray, b_HW3: np.ndarray) -> float:
    metrics = need("skimage.metrics", extra="audit")
    return float(
        metrics.structural_similarity(
            a_HW3,
            b_HW3,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
    )


def followed(matches: Sequence[Match], *, last: int) -> list[Followed]:
    """How well every plan was followed that was executed up to its imagined frame `last`."""
    at: dict[int, dict[int, list[Match]]] = {}
    for match in matches:
        at.setdefault(match.plan, {}).setdefault(match.frame, []).append(match)
    return [
        Followed(
            plan=plan,
            step=frames[0][0].step,
            start=min(match.psnr for match in frames[0]),
            drift=max(a.psnr - b.psnr for a, b in zip(frames[0], frames[last], strict=True)),
            psnr=min(match.psnr for match in frames[last]),
            ssim=min(match.ssim for match in frames[last]),
            latent=max((m.latent for m in frames[last] if m.latent is not None), default=None),
        )
        for plan, frames in at.items()
        if last in frames
    ]


def calibrate(successes: Sequence[Sequence[Followed]]) -> Thresholds | None:
    """The thresholds that fit the plans of successful episodes; None if they are too few."""
    plans = [plan for episode in successes for plan in episode]
    if sum(map(bool, successes)) < ENOUGH_EPISODES or len(plans) < ENOUGH_PLANS:
        return None
    return Thresholds(
        start=float(np.quantile([plan.start for plan in plans], CHANCE)),
        drift=float(np.quantile([plan.drift for plan in plans], 1 - CHANCE)),
    )


def judge(plans: Sequence[Followed], thresholds: Thresholds) -> Verdict | None:
    """The rule's verdict on an episode; None if no plan of it was executed to its last frame."""
    if not plans:
        return None
    lowest = -np.inf if thresholds.start is None else thresholds.start
    here = [plan for plan in plans if plan.start >= lowest]
    elsewhere = len(plans) - len(here)
    unfollowed = sum(plan.drift > thresholds.drift for plan in here)
    mostly = "followed"
    if _beyond_chance(elsewhere, len(plans)):
        mostly = "elsewhere"
    elif _beyond_chance(unfollowed, len(here)):
        mostly = "unfollowed"
    return Verdict(mostly=mostly, elsewhere=elsewhere, unfollowed=unfollowed, plans=len(plans))


def _beyond_chance(count: int, of: int) -> bool:
    if not count:
        return False
    stats = need("scipy.stats", extra="audit")
    return stats.binomtest(count, of, CHANCE, alternative="greater").pvalue < CHANCE
