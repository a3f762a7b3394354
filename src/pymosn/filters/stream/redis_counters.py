"""Counters in Redis that expire: the client of `redis_rate_limit`.

A request never waits for Redis longer than the timeout, and never at all while Redis is known not to answer. Commands run in
tasks of their own, which nothing cancels: a client that disconnects could otherwise leave half a reply on a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, NamedTuple

from pymosn.api.stream_filter import FilterContext
from pymosn.core.authority import is_host, split_authority
from pymosn.core.chars import decimal
from pymosn.core.errors import describe
from pymosn.core.headers import to_bytes, to_text
from pymosn.core.log import ERROR
from pymosn.core.uri import parse_uri
from pymosn.filters.stream.problems import Problems

#: Seconds without an attempt after the first failure, and the most after several.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
SCHEMES: Final = (b"redis", b"rediss", b"unix")


class RedisUnavailable(Exception):
    """Redis did not answer in time, or with an error."""


class Count(NamedTuple):
    """The requests of a key in its current period, and the rest of the period."""

    requests: int
    seconds_left: float


class RedisOptions(NamedTuple):
    """How to connect. `timeout`: seconds."""

    url: str
    username: str
    password: str
    ca_file: str
    timeout: float
    max_connections: int

    def check(self, problems: Problems) -> None:
        """Adds what is wrong with the URL."""
        uri = parse_uri(to_bytes(self.url))
        authority = uri.authority or b""
        is_known = uri.scheme in SCHEMES
        problems.require(is_known, ".url", f"must begin with {', '.join(f'{to_text(name)}://' for name in SCHEMES)}")
        is_unix = uri.scheme == b"unix"
        problems.require(
            uri.path if is_unix else authority, ".url", "the path is missing" if is_unix else "the host is missing"
        )
        if b"@" in authority:
            problems.add(".url", "user and password have their own keys")
        elif authority and not is_host(authority):
            problems.add(".url", f"not a host: {to_text(authority)!r}")
        problems.require(not uri.query and not uri.fragment, ".url", "options in the URL are not supported")
        problems.require(decimal(split_authority(authority).port) != 0, ".url", "the port must not be 0")
        database = to_text(uri.path.strip(b"/"))
        problems.require(is_unix or not database or _is_number(database), ".url", "the database must be a number")
        problems.require(not self.ca_file or uri.scheme == b"rediss", ".ca_file", "only valid with rediss://")
        problems.require(self.password or not self.username, ".username", "has no effect without a password")

    def client(self) -> Any:
        """A client of the library."""
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError

        options: dict[str, Any] = {"username": self.username or None, "password": self.password or None}
        if self.url.startswith("rediss:"):
            options.update(ssl_cert_reqs=ssl.CERT_REQUIRED, ssl_check_hostname=True, ssl_ca_certs=self.ca_file or None)
        pool = BlockingConnectionPool.from_url(
            self.url,
            max_connections=self.max_connections,
            timeout=self.timeout,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            # One retry, for connections that the server has closed meanwhile; not after a timeout, which would count twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
            **options,
        )
        return Redis(connection_pool=pool)


class RedisCounters:
    """Counts requests. After a failure it does not try again for a while."""

    def __init__(self, options: RedisOptions, context: FilterContext) -> None:
        self._options = options
        self._context = context
        self._redis: Any = options.client()
        self._pause = 0.0
        self._next_attempt = float("-inf")
        self._running: set[asyncio.Task[Count]] = set()

    async def aclose(self) -> None:
        """Closes all connections."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def add(self, key: str, milliseconds: int) -> Count:
        """Counts a request of `key`. `milliseconds`: the length of a period that begins now. Raises RedisUnavailable."""
        if self._context.clock.now < self._next_attempt:
            raise RedisUnavailable("Redis was not available a moment ago")
        task = asyncio.get_running_loop().create_task(self._count(key, milliseconds))
        self._running.add(task)
        task.add_done_callback(self._on_done)
        done, _ = await asyncio.wait([task], timeout=self._options.timeout)
        if not done:
            self._on_failure(f"no answer within {self._options.timeout:g} s")
        elif task.cancelled():
            self._on_failure("the command was cancelled")
        elif (error := task.exception()) is not None:
            self._on_failure(describe(error))
        else:
            self._on_success()
            return task.result()
        raise RedisUnavailable("Redis is not available")

    def _on_done(self, task: asyncio.Task[Count]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the loop logs exceptions that are never retrieved

    async def _count(self, key: str, milliseconds: int) -> Count:
        async with self._redis.pipeline(transaction=True) as transaction:
            transaction.set(key, 0, px=milliseconds, nx=True)
            transaction.incr(key)
            transaction.pttl(key)
            _, requests, left = await transaction.execute()
        if int(left) < 0:  # the expiry was removed: without one the key would stay blocked
            await self._redis.pexpire(key, milliseconds)
            left = milliseconds
        return Count(int(requests), int(left) / 1000)

    def _on_success(self) -> None:
        if self._pause:
            self._pause = 0.0
            self._next_attempt = float("-inf")
            self._context.write("Redis is available again")

    def _on_failure(self, text: str) -> None:
        now = self._context.clock.now
        if now < self._next_attempt:
            return  # a request that has waited at the same time as the one that failed first
        if not self._pause:
            self._context.write(f"Redis at {self._options.url} is not available: {text}", ERROR)
        self._pause = min(LONGEST_PAUSE, self._pause * 2) if self._pause else FIRST_PAUSE
        self._next_attempt = now + self._pause


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
