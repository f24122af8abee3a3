"""Open a LeRobot dataset: the one gate, which checks all that can be checked without decoding."""

from collections.abc import Callable
from pathlib import Path

from vp_agent.errors import DatasetError
from vp_agent.train import check_clips, check_files, check_values
from vp_agent.train.check_files import AGAIN, Found
from vp_agent.train.dataset_files import DatasetFiles, Unreadable
from vp_agent.train.dataset_source import locate_dataset

# What spoils whoever learns from the dataset: it is not opened.
GATE_CHECKS: dict[str, Callable[[DatasetFiles], Found]] = {
    "unreadable file": check_files.unreadable,
    "format": check_files.format_version,
    "missing file": check_files.missing_files,
    "widths": check_values.widths,
    "views": check_files.views,
    "episode table": check_files.episode_table,
    "data files": check_files.data_order,
    "row indices": check_files.row_indices,
    "timestamps": check_files.timestamps,
    "clip bounds": check_clips.clip_bounds,
    "totals": check_files.totals,
    "instructions": check_files.instructions,
    "not finite": check_values.finite,
    "statistics": check_values.statistics,
    "video headers": check_clips.video_headers,
    "stored images": check_clips.stored_images,
    "notes": check_files.notes,
}
# Of a streamed dataset only the tables of meta/ are here.
META_CHECKS = {
    name: GATE_CHECKS[name] for name in ("format", "views", "episode table", "clip bounds")
}


def open_dataset(data: Path) -> DatasetFiles:
    """A LeRobot v3 dataset, here or on the Hub, that has passed every check of the gate.

    Below a second for 1,000 episodes (benchmarks/gate.md).

    Raises:
        DatasetError: it is no dataset, or a check found something; the first finding is named.
    """
    root, name = locate_dataset(data)
    files = DatasetFiles(root, name=name)
    pass_gate(files, GATE_CHECKS)
    return files


def pass_gate(files: DatasetFiles, checks: dict[str, Callable[[DatasetFiles], Found]]) -> None:
    """Raises a `DatasetError` with the first finding of `checks`."""
    for check in checks.values():
        try:
            found = list(check(files))
        except Unreadable as damage:
            found = [(str(damage.file), damage.reason, AGAIN)]
        if found:
            where, what, fix = found[0]
            more = f"; and {len(found) - 1} more of this kind" if len(found) > 1 else ""
            raise DatasetError(
                f"{where}: {what}; {fix}{more}; all that is wrong: vp-agent data check {files.root}"
            )
