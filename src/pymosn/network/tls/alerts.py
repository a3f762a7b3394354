"""TLS alerts (RFC 8446 section 6): their names, and a record for one that is sent before a handshake."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

HANDSHAKE_FAILURE: Final[i64] = 40
DECODE_ERROR: Final[i64] = 50
UNRECOGNIZED_NAME: Final[i64] = 112
NO_APPLICATION_PROTOCOL: Final[i64] = 120


def alert_record(code: i64) -> bytes:
    """A fatal alert as a record without encryption, for a connection whose handshake has not begun."""
    return bytes((0x15, 3, 3, 0, 2, 2, int(code)))


#: Alerts that OpenSSL 3.0 has no words for.
_NAMES: Final[dict[int, str]] = {
    112: "unrecognized name",
    115: "unknown psk identity",
    116: "certificate required",
    120: "no application protocol",
}


def alert_without_name(data: bytes) -> str:
    """The name of an unencrypted alert at the beginning of `data`, for which OpenSSL gives no reason; empty without one."""
    if len(data) < 7 or data[0] != 0x15 or data[3:5] != b"\x00\x02":
        return ""
    return _NAMES.get(data[6], f"number {data[6]}")
