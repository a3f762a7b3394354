"""Whole bodies for filters that ask for them: what of a message waits until it has ended or grown too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from mypy_extensions import i64

from pymosn.core.failure import Failure
from pymosn.core.message import BodySource, BodyTooLarge
from pymosn.proxy.filtering import FilteredExchange


class RequestBody(BodySource):
    """The body of an exchange's request."""

    def __init__(self, exchange: FilteredExchange) -> None:
        self._exchange = exchange

    def read(self, limit: int) -> Awaitable[bytes]:
        return self._exchange.read_request(limit)


class ResponseBody(BodySource):
    """The body of an exchange's reply."""

    def __init__(self, exchange: FilteredExchange) -> None:
        self._exchange = exchange

    def read(self, limit: int) -> Awaitable[bytes]:
        return self._exchange.read_response(limit)


class Reading:
    """A filter that waits for the end of a body."""

    def __init__(self, limit: int, failure: Failure) -> None:
        """`failure`: of an exchange whose filter does not care for a body of more than `limit` bytes."""
        self._limit: i64 = limit
        self._failure = failure
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_size(self, size: i64, ended: bool) -> None:
        """So much of the body is here now."""
        if self.done.done():
            return
        if size > self._limit:
            self.done.set_exception(BodyTooLarge(self._failure, int(self._limit)))
        elif ended:
            self.done.set_result(None)
