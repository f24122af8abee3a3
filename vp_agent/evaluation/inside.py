"""Files of an evaluation folder; none outside it is read, shown or copied, not by a link either."""

from pathlib import Path


def file_inside(folder: Path, name: str) -> Path | None:
    """The file `name` of a folder; None if there is none or it lies elsewhere."""
    path, root = (folder / name).resolve(), folder.resolve()
    return path if path.is_file() and path.is_relative_to(root) else None
