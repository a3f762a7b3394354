"""The beginning of a call in fastjson2's binary form (JSONB): Dubbo 3 writes each value after its size."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo.attachments import RequestFront
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader

# First bytes of values.
_SHORT: Final[i64] = 0x49
_SHORT_END: Final[i64] = 0x78
_ASCII: Final[i64] = 0x79
_UTF8: Final[i64] = 0x7A
_NULL: Final[i64] = 0xAF


class Fastjson2Body(RequestFront):
    """The body of a request in fastjson2, read up to the method."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings before the arguments. Raises ValueError if they are malformed."""
        super().__init__()
        self._body = body
        self._at: i64 = 0
        self.dubbo = self._text()
        self.service = self._text()
        self.version = self._text()
        self.method = self._text()

    def at_map(self) -> Hessian2Reader:
        raise Hessian2Error("attachments can only be read in hessian 2, but this message is in fastjson2")

    def _text(self) -> bytes | None:
        """Reads a string; returns None for null."""
        body = self._body
        start: i64 = self._at + 4
        if start >= len(body):
            raise ValueError("missing string")
        end: i64 = start + int.from_bytes(body[start - 4 : start], "big")
        if end <= start or end > len(body):
            raise ValueError("truncated string")
        self._at = end
        tag: i64 = body[start]
        if tag == _NULL and end == start + 1:
            return None
        if _SHORT <= tag <= _SHORT_END and end - start - 1 == tag - _SHORT:
            return body[start + 1 : end]
        if tag in (_ASCII, _UTF8) and end - start > 2:
            # A length of 1 to 3 bytes follows, which is redundant.
            lead: i64 = body[start + 1]
            if lead < 0x30:
                return body[start + 2 : end]
            if lead < 0x48:
                return body[start + (3 if lead < 0x40 else 4) : end]
        raise ValueError(f"0x{tag:02x} where a string is expected")
