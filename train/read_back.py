"""What was written is read back: a new dataset passes the gate before it gets its name."""

from pathlib import Path

from vp_agent.errors import DatasetError


def confirm_written(root: Path, *, shown_as: Path) -> None:
    """Opens the dataset that was just written to `root`, which is to appear as `shown_as`.

    Raises:
        DatasetError: it cannot be opened, or is not what was to be written.
    """
    from vp_agent.train.gate import open_dataset  # PyAV: not for --help

    try:
        open_dataset(root)
    except DatasetError as error:
        reason = str(error).replace(str(root), str(shown_as)).replace(root.name, shown_as.name)
        raise DatasetError(f"{shown_as} was written, but cannot be read back: {reason}") from error
