"""Typed records from JSON or a message: each value is of its annotated kind, or refused by name.

Nothing is converted and no default hides a wrong value. It needs no package, because the
interpreter of a simulator's worker may have none.
"""

from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

Record = TypeVar("Record")


class Misfit(ValueError):
    """Values that are no record of the wanted kind; the message names the field."""


def fit(schema: type[Record], values: Any) -> Record:
    """The dataclass `schema` of these values; fields with a default may be missing.

    Raises:
        Misfit: a field is missing, unknown or of another kind.
        ValueError: what the dataclass itself says of its values.
    """
    known: tuple[Field[Any], ...] = fields(schema)  # type: ignore[arg-type]  # a dataclass
    if not isinstance(values, dict):
        raise Misfit(f"is {brief(values)}, not fields with values")
    missing = [field.name for field in known if _needed(field) and field.name not in values]
    if missing:
        raise Misfit(f"has no {', '.join(missing)}")
    unknown = values.keys() - {field.name for field in known}
    if unknown:
        raise Misfit(f"has the unknown field {min(map(str, unknown))[:100]!r}")
    for field in known:
        if field.name in values and not is_a(values[field.name], field.type):
            kind = getattr(field.type, "__name__", None) if not get_args(field.type) else None
            raise Misfit(
                f"has {field.name} = {brief(values[field.name])}, not {kind or field.type}"
            )
    return schema(**values)


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated kind. True is no number, and a whole number is a float."""
    if kind is Any:
        return True
    if isinstance(kind, UnionType):
        return any(is_a(value, each) for each in get_args(kind))
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return type(value) is list and all(is_a(item, inner[0]) for item in value)
    if origin is dict:
        return type(value) is dict and all(
            is_a(key, inner[0]) and is_a(item, inner[1]) for key, item in value.items()
        )
    if kind is float:
        return type(value) in (float, int)
    return type(value) is (NoneType if kind is None else kind)


def brief(value: Any) -> str:
    """A value in few characters: its text could be as long as a message."""
    if isinstance(value, dict | list | tuple):
        named = f" of {', '.join(map(repr, list(value)[:12]))}" if isinstance(value, dict) else ""
        return f"a {type(value).__name__} of {len(value)}{named:.200}"
    if hasattr(value, "shape") and getattr(value, "shape"):  # noqa: B009  (an array)
        return f"an array {value.shape} of {value.dtype}"
    return f"{value!r:.100}"


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
