"""MOSN's `payload_limit`: rejects requests with too long a body (section 13)."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import BODY_TOO_LARGE, Failure
from pymosn.core.message import UNKNOWN_LENGTH, BodyTooLarge
from pymosn.filters.settings import Block, works
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems

NAME: Final = "payload_limit"


class Settings(Block, kw_only=True):
    """`payload_limit`; MOSN's own spelling of the key ends in a space."""

    max_entity_size: Annotated[int, works("bytes; with or without MOSN's trailing space in the key; 0 is no limit")] = 0
    http_status: Annotated[int, works("0: 413")] = 0


class Limit:
    """A limit of `size` bytes (0: no limit); `failure` is reported for longer bodies."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.size = settings.max_entity_size
        status = settings.http_status or BODY_TOO_LARGE.status
        problems.require(self.size >= 0, ".max_entity_size", "must be 0 or more")
        problems.status(".http_status", status)
        problems.end()
        self.failure = Failure(BODY_TOO_LARGE.reason, status, BODY_TOO_LARGE.flag)


class PayloadLimitFilter(StreamFilter):
    """Rejects a body with a declared length before it is read, any other when it exceeds the limit.

    Cost per request: one comparison, and one per chunk of a body of unknown length. Nothing is buffered.
    """

    changes_length = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._limit = Limit(settings)

    def on_route(self, exchange: Exchange) -> None:
        limit = self._limit_for(exchange)
        length = exchange.request.content_length
        if limit.size and length > limit.size:
            raise BodyTooLarge(limit.failure, limit.size)
        if not limit.size or length != UNKNOWN_LENGTH:
            exchange.skip_body(self)

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        limit = self._limit_for(exchange)
        if exchange.bytes_received > limit.size:
            raise BodyTooLarge(limit.failure, limit.size)

    def _limit_for(self, exchange: Exchange) -> Limit:
        of_route = self.context.route_config(exchange, NAME)
        return of_route if isinstance(of_route, Limit) else self._limit


_STREAMS: Final = "streamed; the request is aborted when it becomes too long"
DIFFERENCES: Final = (
    ("`max_entity_size` without a trailing space", "unknown key, so no limit", "the same as with the space"),
    ("body of unknown length", "buffered as a whole before it is checked", _STREAMS),
)
_ROUTE: Final = RouteSpec(Settings, Limit)
SPEC: Final = FilterSpec(NAME, Settings, PayloadLimitFilter, "also of a route", DIFFERENCES, _ROUTE, guards=True)
