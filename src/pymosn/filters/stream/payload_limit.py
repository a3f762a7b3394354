"""MOSN's `payload_limit`: requests whose body is too long are refused (section 13)."""

from __future__ import annotations

from typing import Any

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import BODY_TOO_LARGE, Failure
from pymosn.core.message import UNKNOWN_LENGTH, BodyTooLarge
from pymosn.filters.stream.problems import Problems

NAME = "payload_limit"


class Limit:
    """At most `size` bytes, 0 for no limit; `failure` is what a longer body leads to."""

    def __init__(self, config: Any) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.size: int = config.max_entity_size
        status: int = config.http_status or BODY_TOO_LARGE.status
        if self.size < 0:
            problems.add(".max_entity_size", "must be 0 or more")
        problems.status(".http_status", status)
        problems.end()
        self.failure = Failure(BODY_TOO_LARGE.reason, status, BODY_TOO_LARGE.flag)


class PayloadLimitFilter(StreamFilter):
    """A body whose length is announced is refused before it is read; another one when it has grown too long.

    Per request: one comparison; for a body of unknown length one more for each piece. Nothing is kept in memory.
    """

    changes_length = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._limit = Limit(config)

    @staticmethod
    def for_route(config: Any) -> Limit:
        """`per_filter_config.payload_limit` as the filter wants it. Raises FilterConfigError."""
        return Limit(config)

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
        own = exchange.route_config(NAME)
        return own if isinstance(own, Limit) else self._limit
