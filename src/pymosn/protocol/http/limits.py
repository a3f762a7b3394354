"""Limits of messages."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64


class HttpLimits:
    """Limits of one side. Immutable, shared by connections.

    `head`: bytes of a head or of trailers; those of HTTP/2 count as lines of HTTP/1, pseudo-header fields included.
    `fields`: how many fields. `body`: bytes of a request's content; 0 means no limit.
    """

    def __init__(self, head: i64, fields: i64, body: i64) -> None:
        self.head: i64 = head
        self.fields: i64 = fields
        self.body: i64 = body


#: Limits for responses: generous, since an upstream's cookies and policies are long.
RESPONSE_LIMITS: Final = HttpLimits(head=64 * 1024, fields=256, body=0)
