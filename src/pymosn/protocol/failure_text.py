"""The text of local replies in RPC protocols."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: The text after the status, as MOSN writes it.
_REASONS: Final[dict[int, bytes]] = {
    400: b"bad request",
    403: b"permission denied",
    404: b"router unavailable",
    500: b"internal error",
    502: b"no health upstream",
    503: b"upstream overflow",
    504: b"timeout",
}


def failure_text(status: i64) -> bytes:
    """The text for a failure: `404|router unavailable`."""
    return b"%d|%s" % (status, _REASONS.get(int(status), b"unknown"))
