"""Fastjson2's binary form (JSONB), as far as the front of a call goes: Dubbo 3 writes each value behind its size."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo.attachments import Attachments, RequestFront
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

# First bytes of a value.
_SHORT: Final[i64] = 0x49
_SHORT_END: Final[i64] = 0x78
_ASCII: Final[i64] = 0x79
_UTF8: Final[i64] = 0x7A
_NULL: Final[i64] = 0xAF


class Fastjson2Body(RequestFront):
    """The body of a request in fastjson2: who is called, and no more."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings in front. ValueError when they are not there."""
        super().__init__()
        self._body = body
        self._at: i64 = 0
        self.dubbo = self._text()
        self.service = self._text()
        self.version = self._text()
        self.method = self._text()

    def attachments(self) -> Attachments:
        raise Hessian2Error("attachments are read in hessian 2 only, and this message is in fastjson2")

    def plain_map(self) -> i64:
        return -1

    def _text(self) -> bytes | None:
        """Reads one string; None for null."""
        body = self._body
        start: i64 = self._at + 4
        if start >= len(body):
            raise ValueError("a string is missing")
        end: i64 = start + int.from_bytes(body[start - 4 : start], "big")
        if end <= start or end > len(body):
            raise ValueError("a string is cut off")
        self._at = end
        tag: i64 = body[start]
        if tag == _NULL and end == start + 1:
            return None
        if _SHORT <= tag <= _SHORT_END and end - start - 1 == tag - _SHORT:
            return body[start + 1 : end]
        if tag in (_ASCII, _UTF8) and end - start > 2:
            # A length follows, in 1 to 3 bytes; it says no more than the size of the whole.
            lead: i64 = body[start + 1]
            if lead < 0x30:
                return body[start + 2 : end]
            if lead < 0x48:
                return body[start + (3 if lead < 0x40 else 4) : end]
        raise ValueError(f"no string begins with 0x{tag:02x}")
