"""Frame types, flags, settings and error codes (RFC 9113 sections 4, 6, 7 and 11; RFC 8441; RFC 9218)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: What a client sends first (RFC 9113 section 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

FRAME_HEADER: Final[i64] = 9

DATA: Final[i64] = 0
HEADERS: Final[i64] = 1
PRIORITY: Final[i64] = 2
RST_STREAM: Final[i64] = 3
SETTINGS: Final[i64] = 4
PUSH_PROMISE: Final[i64] = 5
PING: Final[i64] = 6
GOAWAY: Final[i64] = 7
WINDOW_UPDATE: Final[i64] = 8
CONTINUATION: Final[i64] = 9

END_STREAM: Final[i64] = 0x1
ACK: Final[i64] = 0x1
END_HEADERS: Final[i64] = 0x4
PADDED: Final[i64] = 0x8
HAS_PRIORITY: Final[i64] = 0x20

HEADER_TABLE_SIZE: Final[i64] = 1
ENABLE_PUSH: Final[i64] = 2
MAX_CONCURRENT_STREAMS: Final[i64] = 3
INITIAL_WINDOW_SIZE: Final[i64] = 4
MAX_FRAME_SIZE: Final[i64] = 5
MAX_HEADER_LIST_SIZE: Final[i64] = 6
ENABLE_CONNECT_PROTOCOL: Final[i64] = 8
NO_RFC7540_PRIORITIES: Final[i64] = 9

NO_ERROR: Final[i64] = 0x0
PROTOCOL_ERROR: Final[i64] = 0x1
INTERNAL_ERROR: Final[i64] = 0x2
FLOW_CONTROL_ERROR: Final[i64] = 0x3
SETTINGS_TIMEOUT: Final[i64] = 0x4
STREAM_CLOSED: Final[i64] = 0x5
FRAME_SIZE_ERROR: Final[i64] = 0x6
REFUSED_STREAM: Final[i64] = 0x7
CANCEL: Final[i64] = 0x8
COMPRESSION_ERROR: Final[i64] = 0x9
CONNECT_ERROR: Final[i64] = 0xA
ENHANCE_YOUR_CALM: Final[i64] = 0xB
INADEQUATE_SECURITY: Final[i64] = 0xC
HTTP_1_1_REQUIRED: Final[i64] = 0xD

#: Values before the peer's SETTINGS have arrived (RFC 9113 section 6.5.2), and limits.
DEFAULT_TABLE_SIZE: Final[i64] = 4096
DEFAULT_WINDOW: Final[i64] = 65535
DEFAULT_FRAME_SIZE: Final[i64] = 16384
LARGEST_FRAME_SIZE: Final[i64] = 0xFFFFFF
LARGEST_WINDOW: Final[i64] = 0x7FFFFFFF
LARGEST_STREAM_ID: Final[i64] = 0x7FFFFFFF
