"""`audit`: was it the video or the actions? Recorded episodes, their pairs, one rule, one page."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from vp_agent.errors import ConfigError
from vp_agent.evaluation.agreement import (
    Followed,
    Latents,
    Match,
    Thresholds,
    Verdict,
    calibrate,
    compare,
    followed,
    judge,
)
from vp_agent.evaluation.auc import auc
from vp_agent.evaluation.audit_page import write_page
from vp_agent.evaluation.pairs import RecordingError, read_pairs
from vp_agent.evaluation.reading import read_evaluation, unsealed
from vp_agent.evaluation.record import EpisodeRecord
from vp_agent.files import atomic_file, write_json

_MEASURES = ("psnr", "copy_psnr", "ssim", "latent")
_SCORES: dict[str, Callable[[Followed], float | None]] = {  # more of it is more agreement
    "drift": lambda plan: -plan.drift,
    "start": lambda plan: plan.start,
    "psnr": lambda plan: plan.psnr,
    "ssim": lambda plan: plan.ssim,
    "latent": lambda plan: None if plan.latent is None else -plan.latent,
}


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Compares what was imagined with what happened, and says which of the two failed."""

    folder: tyro.conf.Positional[Path]
    """Folder that `vp-agent eval --out` made, with recorded episodes (`--record N`)."""
    agent: str | None = None
    """The agent that flew; gives the distance in its autoencoder's latents too."""
    threshold: float | None = None
    """Drift in dB above which a plan was not followed, instead of what successes calibrate."""
    start_threshold: float | None = None
    """PSNR in dB of its first frame below which a plan begins elsewhere, likewise."""
    task: str | None = None
    """Only this task of a suite."""
    show: int = 6
    """Episodes of each group on the page: the first ones, not picked."""

    def __post_init__(self) -> None:
        if self.show < 0:
            raise ConfigError(f"show must be at least 0, not {self.show}")


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One recorded episode."""

    name: str
    success: bool
    steps: int
    matches: list[Match]
    plans: list[Followed]


def audit(settings: AuditSettings) -> dict[str, Any]:
    """Writes audit.csv, audit.json and audit.html into the folder; returns audit.json's content.

    Raises:
        EvaluationError: the folder holds no evaluation that can be read.
        RecordingError: no episode was recorded, or a recording lacks a part.
        ConfigError: `agent` is not the one that flew.
    """
    folder = settings.folder
    flown = read_evaluation(folder).ended
    if settings.task is not None:
        flown = [record for record in flown if record.task == settings.task]
    recorded = [record for record in flown if record.film is not None]
    recorded.sort(key=lambda record: record.film or "")  # workers write in any order
    if not recorded:
        raise RecordingError(
            f"{folder} holds no recorded episode{_of(settings.task)} ({len(flown)} in the journal);"
            " expected the --out folder of `vp-agent eval --record N`"
        )
    latents = None if settings.agent is None else _latents(settings.agent, recorded)
    episodes = _measure(folder, recorded, latents)
    thresholds = _thresholds(settings, episodes)
    verdicts = [thresholds and judge(episode.plans, thresholds) for episode in episodes]
    results = {
        "agent": recorded[0].agent,
        "tasks": sorted({record.task for record in recorded}),
        "n": len(episodes),
        "successes": sum(episode.success for episode in episodes),
        "note": unsealed(flown),
        "not_recorded": len(flown) - len(recorded),
        "plans": sum(len(episode.plans) for episode in episodes),
        "thresholds_db": None if thresholds is None else asdict(thresholds),
        "successes_flagged": {
            mostly: sum(
                episode.success and verdict is not None and verdict.mostly == mostly
                for episode, verdict in zip(episodes, verdicts, strict=True)
            )
            for mostly in ("elsewhere", "unfollowed")
        },
        "video_elsewhere": _failures(episodes, verdicts, "elsewhere"),
        "video_followed": _failures(episodes, verdicts, "followed"),
        "actions": _failures(episodes, verdicts, "unfollowed"),
        "no_verdict": _failures(episodes, verdicts, None),
        "auc": _aucs(episodes),
        "by_view": _by_view(episodes),
        "episodes": [
            {
                "name": episode.name,
                "success": episode.success,
                "steps": episode.steps,
                "verdict": None if verdict is None else asdict(verdict),
                "plans": [asdict(plan) for plan in episode.plans],
            }
            for episode, verdict in zip(episodes, verdicts, strict=True)
        ],
    }
    _write_csv(folder / "audit.csv", episodes)
    write_json(folder / "audit.json", results)
    write_page(folder, results, show=settings.show)
    return results


def describe_audit(results: dict[str, Any]) -> str:
    """Two lines for a terminal."""
    failures = results["n"] - results["successes"]
    if results["thresholds_db"] is None:
        split = (
            f"{failures} failures not split: too few successful plans to calibrate with "
            "(give --threshold DB)"
        )
    else:
        elsewhere, followed = len(results["video_elsewhere"]), len(results["video_followed"])
        split = (
            f"{failures} failures: the video was wrong in {elsewhere + followed} (it began "
            f"elsewhere in {elsewhere}, was followed in {followed}), the actions were not right "
            f"in {len(results['actions'])}"
        )
    early = results["auc"]["early"].get("drift")
    predicts = "no AUC: one outcome only"
    if early is not None:
        predicts = (
            f"agreement against success: AUC {early['area']:.2f} "
            f"(95 % {early['low']:.2f}-{early['high']:.2f}, "
            f"first {results['auc']['early']['plans']} plans)"
        )
    note = f"\nnote: {results['note']}" if results["note"] else ""
    return f"{results['n']} recorded episodes, {results['plans']} plans; {split}\n{predicts}{note}"


def _of(task: str | None) -> str:
    return "" if task is None else f" of {task!r}"


def _measure(
    folder: Path, records: Sequence[EpisodeRecord], latents: Latents | None
) -> list[Audited]:
    matches = {}
    for record in tqdm(records, unit="ep", disable=None):
        name = Path(record.film or "").stem
        matches[name] = compare(read_pairs(folder, name), latents=latents)
    last = max(match.frame for episode in matches.values() for match in episode)
    return [
        Audited(
            name=name,
            success=bool(record.success),
            steps=record.steps or 0,
            matches=episode,
            plans=followed(episode, last=last),
        )
        for record, (name, episode) in zip(records, matches.items(), strict=True)
    ]


def _latents(agent: str, records: Sequence[EpisodeRecord]) -> Latents:
    import torch

    from vp_agent.folder import fingerprint, load_agent
    from vp_agent.locate import locate

    folder = locate(agent)
    flown, given = records[0].agent, fingerprint(folder)
    if flown != given:
        raise ConfigError(
            f"these episodes were flown by the agent {flown}, but {agent} is {given}; give the "
            "agent that flew, or leave --agent out (then without the latent distance)"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_agent(folder, device=device)

    def latents(images: Sequence[np.ndarray]) -> np.ndarray:
        pixels = torch.from_numpy(np.stack(images)).to(device).float().movedim(-1, -3)
        return model.target_latents(model.encode_frames(pixels / 127.5 - 1)).cpu().numpy()

    return latents


def _thresholds(settings: AuditSettings, episodes: Sequence[Audited]) -> Thresholds | None:
    found = calibrate([episode.plans for episode in episodes if episode.success])
    drift, start = settings.threshold, settings.start_threshold
    if found is None:
        return None if drift is None else Thresholds(start=start, drift=drift)
    return Thresholds(
        start=found.start if start is None else start,
        drift=found.drift if drift is None else drift,
    )


def _failures(
    episodes: Sequence[Audited], verdicts: Sequence[Verdict | None], mostly: str | None
) -> list[str]:
    return [
        episode.name
        for episode, verdict in zip(episodes, verdicts, strict=True)
        if not episode.success and (verdict.mostly if verdict else None) == mostly
    ]


def _aucs(episodes: Sequence[Audited]) -> dict[str, Any]:
    """By the first plans, as many as every episode has, and by all."""
    full = [episode for episode in episodes if episode.plans]
    fewest = min((len(episode.plans) for episode in full), default=0)
    return {
        kind: {
            "plans": plans,
            **{name: asdict(auc(*both)) for name, both in _scores(full, plans) if all(both)},
        }
        for kind, plans in (("early", fewest), ("whole", None))
    }


def _scores(
    episodes: Sequence[Audited], plans: int | None
) -> Iterable[tuple[str, tuple[list[float], list[float]]]]:
    """Mean scores of the successful and of the failed episodes, by measure."""
    for name, score in _SCORES.items():
        both: tuple[list[float], list[float]] = ([], [])
        for episode in episodes:
            known = [value for plan in episode.plans[:plans] if (value := score(plan)) is not None]
            if known:
                both[not episode.success].append(fmean(known))
        yield name, both


def _by_view(episodes: Sequence[Audited]) -> list[dict[str, Any]]:
    """Means over all pairs by view and horizon, of successes and failures apart."""

    def key(row: tuple[bool, Match]) -> tuple[str, int, bool]:
        return row[1].view, row[1].frame, not row[0]

    rows = [(episode.success, match) for episode in episodes for match in episode.matches]
    return [
        {
            "view": view,
            "frame": frame,
            "success": not failed,
            **_means([match for _, match in group]),
        }
        for (view, frame, failed), group in groupby(sorted(rows, key=key), key=key)
    ]


def _means(matches: Sequence[Match]) -> dict[str, Any]:
    means: dict[str, Any] = {"n": len(matches)}
    for name in _MEASURES:
        values = [value for match in matches if (value := getattr(match, name)) is not None]
        means[name] = fmean(values) if values else None
    return means


def _write_csv(path: Path, episodes: Sequence[Audited]) -> None:
    names = [field.name for field in fields(Match)]
    with atomic_file(path) as tmp, open(tmp, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "success", *names])
        for episode in episodes:
            for match in episode.matches:
                numbers = [getattr(match, name) for name in names]
                rounded = [round(x, 5) if isinstance(x, float) else x for x in numbers]
                writer.writerow([episode.name, episode.success, *rounded])
