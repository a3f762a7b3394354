"""TLS alerts (RFC 8446 section 6): their names, and a record for one that is sent before a handshake."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

HANDSHAKE_FAILURE: Final[i64] = 40
DECODE_ERROR: Final[i64] = 50
PROTOCOL_VERSION: Final[i64] = 70
INTERNAL_ERROR: Final[i64] = 80
UNRECOGNIZED_NAME: Final[i64] = 112
NO_APPLICATION_PROTOCOL: Final[i64] = 120


def alert_record(code: i64) -> bytes:
    """A fatal alert as a record without encryption, for a connection whose handshake has not begun."""
    return bytes((0x15, 3, 3, 0, 2, 2, int(code)))
