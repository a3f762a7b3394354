"""The peer's SETTINGS (RFC 9113 section 6.5)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import HTTP2_ERROR, HTTP2_FLOW_ERROR
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.frames import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_TABLE_SIZE,
    DEFAULT_WINDOW,
    LARGEST_FRAME_SIZE,
    LARGEST_WINDOW,
)

#: Streams that a peer allows which has announced no limit.
UNLIMITED: Final[i64] = 0x7FFFFFFF


@mypyc_attr(acyclic=True)
class PeerSettings:
    """What the peer has announced, in effect since its SETTINGS frame was read."""

    def __init__(self) -> None:
        #: The size of its HPACK table: the last one, and the smallest since the owner took it.
        self.table_size: i64 = DEFAULT_TABLE_SIZE
        self.least_table_size: i64 = DEFAULT_TABLE_SIZE
        self.max_streams: i64 = UNLIMITED
        self.window: i64 = DEFAULT_WINDOW
        self.frame_size: i64 = DEFAULT_FRAME_SIZE
        #: Whether it accepts an extended CONNECT (RFC 8441).
        self.has_connect = False

    def apply(self, payload: bytes, is_client: bool) -> None:
        """Applies a SETTINGS frame, whose size the decoder has checked. Raises ProtocolError for a value out of range.

        `is_client`: whether the peer is a server, which must not enable push.
        """
        self.least_table_size = self.table_size
        i: i64 = 0
        size: i64 = len(payload)
        while i + 6 <= size:
            identifier: i64 = (i64(payload[i]) << 8) | payload[i + 1]
            value: i64 = (
                (i64(payload[i + 2]) << 24) | (i64(payload[i + 3]) << 16) | (i64(payload[i + 4]) << 8) | payload[i + 5]
            )
            i += 6
            self._set(identifier, value, is_client)

    def _set(self, identifier: i64, value: i64, is_client: bool) -> None:
        if identifier == frames.HEADER_TABLE_SIZE:
            self.table_size = value
            self.least_table_size = min(self.least_table_size, value)
        elif identifier == frames.ENABLE_PUSH:
            if value > (0 if is_client else 1):
                raise ProtocolError(HTTP2_ERROR, f"SETTINGS_ENABLE_PUSH is {value}")
        elif identifier == frames.MAX_CONCURRENT_STREAMS:
            self.max_streams = min(value, UNLIMITED)
        elif identifier == frames.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ProtocolError(HTTP2_FLOW_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}")
            self.window = value
        elif identifier == frames.MAX_FRAME_SIZE:
            if value < DEFAULT_FRAME_SIZE or value > LARGEST_FRAME_SIZE:
                raise ProtocolError(HTTP2_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}")
            self.frame_size = value
        elif identifier == frames.ENABLE_CONNECT_PROTOCOL:
            if value > 1 or (value == 0 and self.has_connect):
                raise ProtocolError(HTTP2_ERROR, f"SETTINGS_ENABLE_CONNECT_PROTOCOL is {value}")
            self.has_connect = value == 1
        elif identifier == frames.NO_RFC7540_PRIORITIES and value > 1:
            raise ProtocolError(HTTP2_ERROR, f"SETTINGS_NO_RFC7540_PRIORITIES is {value}")
