"""What was written is read back: a new dataset is opened and checked before it gets its name."""

from pathlib import Path

from vp_agent.errors import DatasetError

# Findings on what the demonstrations are, not on how they were written; and LeRobot's statistics,
# whose standard deviations are of float32's rounding where numbers hardly change.
_ABOUT_DATA = ("constant action", "action range", "lengths", "duplicate episode", "statistics")


def confirm_written(root: Path, *, shown_as: Path) -> None:
    """Opens the dataset that was just written to `root`, which is to appear as `shown_as`.

    Raises:
        DatasetError: it cannot be opened, or is not what was to be written.
    """
    from vp_agent.train.check import find_damage  # PyAV: not for --help
    from vp_agent.train.dataset_source import check_files

    try:
        check_files(root)
        found = [x for x in find_damage(root, videos=False) if x.check not in _ABOUT_DATA]
    except DatasetError as error:
        reason = str(error)
    else:
        reason = str(found[0]) if found else ""
    if reason:
        raise DatasetError(
            f"{shown_as} was written, but cannot be read back: "
            f"{reason.replace(str(root), str(shown_as)).replace(root.name, shown_as.name)}"
        )
