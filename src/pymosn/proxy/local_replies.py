"""Changes that a listener's configuration makes to local replies: to their status, headers and body."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pymosn.api.exchange import Exchange
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead, UnreadableHeaders
from pymosn.routing.changes import ChangeLevel


class ReplyBodyFormat:
    """Makes the bodies of replies. `make`: the body for an exchange and the body that the reply has without a format."""

    def __init__(self, make: Callable[[Exchange, bytes], bytes], content_type: bytes) -> None:
        self.make = make
        self.content_type = content_type


class ReplyMapping:
    """Changes to replies that fulfill a condition, or to all if it is None. Whatever else is None stays unchanged."""

    def __init__(
        self,
        condition: Callable[[Exchange], bool] | None,
        status: int | None,
        body: bytes | None,
        body_format: ReplyBodyFormat | None,
        headers: ChangeLevel | None,
    ) -> None:
        self.condition = condition
        self.status = status
        self.body = body
        self.body_format = body_format
        self.headers = headers


class LocalReply:
    """A local reply before its head is made."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class LocalReplies:
    """The mappings of a listener, of which the first one that applies is used, and the format of the other replies."""

    def __init__(self, mappings: list[ReplyMapping], body_format: ReplyBodyFormat | None) -> None:
        self._mappings = mappings
        self._format = body_format

    def apply(self, reply: LocalReply, exchange: Exchange, now: float) -> None:
        """Changes a reply. `now`: the time, for conditions on the duration."""
        exchange.finished = now
        exchange.response = ResponseHead(reply.status, reply.headers)
        body_format = self._format
        for mapping in self._mappings:
            if mapping.condition is not None and not mapping.condition(exchange):
                continue
            body_format = mapping.body_format or body_format
            self._map(mapping, reply, exchange)
            break
        if body_format is not None:
            reply.body = body_format.make(exchange, reply.body)
            if reply.body:
                reply.headers.remove_raw(b"content-type")
                reply.headers.add_raw(b"content-type", body_format.content_type)

    def _map(self, mapping: ReplyMapping, reply: LocalReply, exchange: Exchange) -> None:
        if mapping.body is not None:
            reply.body = mapping.body
        if mapping.headers is not None:
            # A value may contain a header of a request that cannot be read: the reply then has no further fields.
            with suppress(UnreadableHeaders):
                mapping.headers.apply(reply.headers, exchange)
        if mapping.status is not None:
            reply.status = mapping.status
            exchange.response = ResponseHead(mapping.status, reply.headers)
