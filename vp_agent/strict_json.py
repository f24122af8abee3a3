"""JSON read strictly (agent folders, journals, datasets): every key once, finite numbers."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vp_agent.errors import AgentFolderError

LARGEST_FILE = 32 << 20  # bytes; CLIP's tokenizer.json has 3.6 million


def read_strictly(path: Path) -> dict[str, Any]:
    """The JSON object in a file of an agent folder.

    Readers of JSON disagree about keys that come twice, NaN and 1e999, so none may be there.

    Raises:
        AgentFolderError: the file is missing, too large, or holds anything else.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("there is no such file")
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it is larger than {LARGEST_FILE >> 20} MiB")
        value = json.loads(
            path.read_text("utf-8"),
            object_pairs_hook=once,
            parse_constant=no_constant,
            parse_float=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (OSError, ValueError, RecursionError) as error:
        raise AgentFolderError(f"{path} cannot be read: {error}; get the folder again") from error
    if not isinstance(value, dict):
        raise AgentFolderError(f"{path} holds no JSON object; get the folder again")
    return value


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values, for `object_pairs_hook`; no key may come twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
    return values


def no_constant(text: str) -> float:
    """Refuses NaN and Infinity, for `parse_constant`."""
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number
