"""Hashes that are the same in every process, for the hash balancers."""

from __future__ import annotations

import hashlib
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Selection
from pymosn.upstream.selection import draw

#: All values stay below 2**63, where machine integers and Python's agree.
MASK: Final[i64] = 0x7FFFFFFFFFFFFFFF
FIRST_FACTOR: Final[i64] = 0x3F58476D1CE4E5B9
SECOND_FACTOR: Final[i64] = 0x14D049BB133111EB
STEP: Final[i64] = 0x1E3779B97F4A7C15


def mix(value: i64) -> i64:
    """Spreads `value` over 0 to 2**63 - 1, so that close values end up far apart."""
    mixed = value & MASK
    mixed = ((mixed ^ (mixed >> 30)) * FIRST_FACTOR) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * SECOND_FACTOR) & MASK
    return mixed ^ (mixed >> 31)


def request_hash(selection: Selection) -> i64:
    """The request's hash, well mixed; random if it has none."""
    if selection.has_hash:
        return mix(selection.hash_value)
    # With a constant, every request without a hash would go to the same host.
    return mix(draw(MASK >> 10))


def digest(text: str) -> list[int]:
    """Eight evenly distributed numbers from 0 to 2**63 - 1 for a text."""
    data = hashlib.blake2b(text.encode()).digest()
    return [int.from_bytes(data[at : at + 8], "big") >> 1 for at in range(0, 64, 8)]
