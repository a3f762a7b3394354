"""Changes that a listener's configuration makes to local replies: to their status, headers and body."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead, UnreadableHeaders
from pymosn.proxy.content_choice import MediaType, preferred
from pymosn.routing.changes import ChangeLevel

#: Bytes of a body that a format makes; variables may be long. A reply with a longer one has no body.
LONGEST_BODY: Final = 1024 * 1024


class ReplyBodyFormat:
    """Makes the bodies of replies. `make`: the body for an exchange and the body that the reply has without a format."""

    def __init__(self, make: Callable[[Exchange, bytes], bytes], content_type: bytes, is_page: bool = False) -> None:
        """`is_page`: not for the messages of gRPC calls."""
        self.make = make
        self.content_type = content_type
        self.is_page = is_page


class ReplyBodies:
    """One or several formats, of which the request's Accept chooses one, by their content types."""

    def __init__(self, formats: list[ReplyBodyFormat]) -> None:
        """`formats`: not empty; in the order of preference."""
        self._formats = formats
        self._types = [MediaType(made.content_type.decode("latin-1")) for made in formats]

    def apply(self, reply: LocalReply, exchange: Exchange) -> None:
        """Changes the body of a reply, and its content type. Where there is a choice, Vary is added."""
        made = self._formats[0]
        has_choice = len(self._formats) > 1
        if exchange.request.has_call_status and (has_choice or made.is_page):
            return
        if has_choice:
            accept: str | None = None
            with suppress(UnreadableHeaders):
                accept = exchange.request.headers.joined("accept")
            made = self._formats[preferred(accept, self._types)]
            reply.headers.add_raw(b"vary", b"Accept")
        body = made.make(exchange, reply.body)
        reply.body = body if len(body) <= LONGEST_BODY else b""
        if reply.body:
            reply.headers.remove_raw(b"content-type")
            reply.headers.add_raw(b"content-type", made.content_type)


class ReplyMapping:
    """Changes to replies that fulfill a condition, or to all if it is None. Whatever else is None stays unchanged."""

    def __init__(
        self,
        condition: Callable[[Exchange], bool] | None,
        status: int | None,
        body: bytes | None,
        bodies: ReplyBodies | None,
        headers: ChangeLevel | None,
    ) -> None:
        self.condition = condition
        self.status = status
        self.body = body
        self.bodies = bodies
        self.headers = headers


class LocalReply:
    """A local reply before its head is made."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class LocalReplies:
    """The mappings of a listener, of which the first one that applies is used, and the form of the other replies."""

    def __init__(self, mappings: list[ReplyMapping], bodies: ReplyBodies | None) -> None:
        self._mappings = mappings
        self._bodies = bodies

    def apply(self, reply: LocalReply, exchange: Exchange, now: float) -> None:
        """Changes a reply. `now`: the time, for conditions on the duration."""
        exchange.finished = now
        exchange.response = ResponseHead(reply.status, reply.headers)
        bodies = self._bodies
        for mapping in self._mappings:
            if mapping.condition is not None and not mapping.condition(exchange):
                continue
            bodies = mapping.bodies or bodies
            self._map(mapping, reply, exchange)
            break
        if bodies is not None:
            bodies.apply(reply, exchange)

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
