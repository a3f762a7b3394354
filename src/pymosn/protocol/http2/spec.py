"""HTTP/2 as a protocol: its name, its ALPN identifier, its first bytes."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES, ProtocolSpec
from pymosn.protocol.http2.frames import PREFACE


class Http2Spec(ProtocolSpec):
    """HTTP/2 over TLS (`h2`), and over TCP with prior knowledge (RFC 9113 section 3.3)."""

    def __init__(self) -> None:
        super().__init__("Http2", "h2", True, "http")

    def match(self, data: bytes) -> i64:
        if data.startswith(PREFACE):
            return YES
        return MORE if PREFACE.startswith(data) else NO
