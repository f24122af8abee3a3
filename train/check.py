"""`vp-agent data check`: what is known to spoil a training run, found before it starts."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from vp_agent.train import check_agreement, check_files, check_values, check_videos
from vp_agent.train.check_files import AGAIN, Found
from vp_agent.train.dataset_files import DatasetFiles, Unreadable
from vp_agent.train.dataset_source import check_is_dataset
from vp_agent.train.gate import GATE_CHECKS

_SHOWN = 5  # findings of one kind in the report

# The gate's, and what need not spoil a training run.
TABLE_CHECKS: dict[str, Callable[[DatasetFiles], Found]] = {
    **GATE_CHECKS,
    "no view": check_files.some_view,
    "stray file": check_files.stray_videos,
    "constant action": check_values.constant,
    "action range": check_values.action_range,
    "lengths": check_values.lengths,
    "duplicate episode": check_values.duplicates,
    "actions and states": check_agreement.actions_and_states,
}
VIDEO_CHECKS: dict[str, Callable[[DatasetFiles], Found]] = {
    "undecodable": check_videos.undecodable,
    "resolution": check_videos.resolution,
    "brightness": check_videos.brightness,
    "frozen": check_videos.frozen,
    "hung": check_videos.hung,
    "turned": check_videos.turned,
    "colours": check_videos.colours,
    "exchanged views": check_videos.exchanged_views,
    "same pictures": check_videos.same_pictures,
    "actions and pictures": check_agreement.actions_and_pictures,
    "pictures and states": check_agreement.pictures_and_states,
}


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """Looks for damage in a LeRobot v3 dataset; exit code 1 if there is any."""

    root: tyro.conf.Positional[Path]
    """Folder of the dataset."""
    videos: bool = True
    """Decode every frame, which takes most of the time."""
    json: bool = False
    """Print the findings as JSON."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where it is, what it is, and how to mend it."""

    check: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.what}\n    {self.fix}"


def find_damage(root: Path, *, videos: bool = True) -> list[Finding]:
    """What is wrong with the dataset in `root`.

    Raises:
        DatasetError: it is none.
    """
    check_is_dataset(root)
    files, findings = DatasetFiles(root), []
    for name, check in (TABLE_CHECKS | VIDEO_CHECKS if videos else TABLE_CHECKS).items():
        try:
            findings += [Finding(name, *found) for found in check(files)]
        except Unreadable as damage:  # the first check has named it, unless the file is missing
            named = {finding.where for finding in findings}
            if str(damage.file) not in named:
                findings.append(Finding(name, str(damage.file), damage.reason, AGAIN))
    return findings


def check_dataset(settings: CheckSettings) -> int:
    """Prints the findings; returns the exit code."""
    findings = find_damage(settings.root, videos=settings.videos)
    if settings.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return int(bool(findings))
    for name in dict.fromkeys(finding.check for finding in findings):
        kind = [finding for finding in findings if finding.check == name]
        print(*kind[:_SHOWN], sep="\n")
        if len(kind) > _SHOWN:
            print(f"{name}: and {len(kind) - _SHOWN} more (all of them: --json)")
    checks = len(TABLE_CHECKS) + len(VIDEO_CHECKS) * settings.videos
    print(f"{settings.root}: {len(findings)} findings of {checks} checks")
    return int(bool(findings))
