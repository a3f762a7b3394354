"""HTTP/1 as a `ProtocolSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES, ProtocolSpec

_METHODS: Final = b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT LINK UNLINK".split()


class Http1Spec(ProtocolSpec):
    """Recognises HTTP/1 by its method, as MOSN does (key reference section 5)."""

    def __init__(self) -> None:
        super().__init__("Http1", "http/1.1", False, "http")

    def match(self, data: bytes) -> i64:
        for method in _METHODS:
            start = method + b" "
            if data.startswith(start):
                return YES
            if start.startswith(data):
                return MORE
        return NO
