"""Request ids."""

from __future__ import annotations

import os

from mypy_extensions import i64


class RequestIds:
    """Makes request ids in the form of a UUID: random per worker, counted per request. Unique, not secret."""

    def __init__(self) -> None:
        digits = os.urandom(10).hex()
        self._start: bytes = f"x-request-id: {digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-".encode()
        self._count: i64 = int.from_bytes(os.urandom(5), "big")
        self._prefix: bytes = b""
        # The last three digits come from a table: formatting a number costs more than the rest of the id.
        self._endings: list[bytes] = [b"%03x\r\n" % number for number in range(4096)]

    def next_line(self) -> bytes:
        """The header line with the next id."""
        self._count += 1
        low: i64 = self._count & 4095
        if low == 0 or len(self._prefix) == 0:
            self._prefix = self._start + (b"%09x" % (self._count >> 12))
        return self._prefix + self._endings[low]
