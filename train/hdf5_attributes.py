"""Attributes of HDF5 files as text, numbers and JSON: bytes, arrays of one, empty ones.

h5py gives what a writer chose to store: text as str, `np.bytes_` or an array of one; nothing as
`h5py.Empty`. Whatever cannot be read as what it should be is refused by its name.
"""

import json
from typing import Any

import numpy as np

from vp_agent.errors import DatasetError, need


def read_text(group: Any, name: str, *, place: str) -> str:
    """An attribute as text; empty where there is none or it is empty."""
    value = _value(group, name, place=place)
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode().rstrip("\0")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{place}: {name} is no UTF-8 text ({error})") from error
    if not isinstance(value, str):
        raise DatasetError(f"{place}: {name} is {_shown(value)}, expected text")
    return checked_text(value, f"{place}: {name}")


def read_object(group: Any, name: str, *, place: str) -> dict[str, Any]:
    """What an attribute says in JSON; empty where there is none, or it is empty or null."""
    text = read_text(group, name, place=place)
    if not text.strip():
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{place}: {name} is no JSON ({error}); download the file again"
        ) from error
    return told_object(told, f"{place}: {name}")


def told_object(value: Any, what: str) -> dict[str, Any]:
    """A JSON object; empty for null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DatasetError(f"{what} is {_shown(value)}, expected a JSON object")
    return value


def told_text(value: Any, what: str) -> str:
    """A JSON text, alone or in a list of one; empty for null and for an empty list."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatasetError(f"{what} is {_shown(value)}, expected text")
    return checked_text(value, what)


def checked_text(text: str, what: str) -> str:
    """The text, which can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # h5py and JSON let halves of characters through
        raise DatasetError(f"{what} is no UTF-8 text ({error})") from error
    return text


def _value(group: Any, name: str, *, place: str) -> Any:
    h5py: Any = need("h5py", extra="hdf5")
    if name not in group.attrs:
        return None
    try:
        value = group.attrs[name]
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{place}: {name} cannot be read ({error}); download the file again"
        ) from error
    if isinstance(value, np.ndarray):
        if value.size > 1:
            raise DatasetError(f"{place}: {name} is an array of {value.size}, expected one value")
        value = value.reshape(-1)[0] if value.size else None
    if value is None or isinstance(value, h5py.Empty):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"
