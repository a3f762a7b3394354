"""Limits of header blocks."""

from __future__ import annotations

from mypy_extensions import i64


class HeadLimits:
    """Limits of a head or of trailers. Immutable, shared by connections.

    `head`: bytes of the fields as HTTP/1 lines, pseudo-header fields included; `fields`: how many; `body`: bytes of a
    request's content that `content-length` may announce, 0 for no limit.
    """

    def __init__(self, head: i64, fields: i64, body: i64) -> None:
        self.head: i64 = head
        self.fields: i64 = fields
        self.body: i64 = body
