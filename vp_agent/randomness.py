"""Randomness as a function: every seed is made from the names of what it is for."""

import hashlib


def mix(*parts: int | str) -> int:
    """A 63-bit seed from, for example, (seed, stage, step, rank)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
