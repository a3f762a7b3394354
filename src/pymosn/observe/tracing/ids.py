"""Random ids of traces and spans, cut from a supply of random digits: one system call for some hundred ids."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

#: Random bytes that are fetched at once.
_SUPPLY: Final = 4096


class IdSource:
    """Hexadecimal digits of the system's random numbers. An id of zeros only, which is invalid, is too unlikely to check."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """`random_bytes`: replaced in tests."""
        self._random_bytes = random_bytes
        self._digits: bytes = b""
        self._at: i64 = 0

    def take(self, size: i64) -> bytes:
        """The next `size` digits, at most 32."""
        at = self._at
        if at + size > len(self._digits):
            self._digits = self._random_bytes(_SUPPLY).hex().encode()
            at = 0
        self._at = at + size
        return self._digits[at : at + size]
