"""`redis_rate_limit`, pymosn's own: a number of requests in a period, counted in Redis for all workers and machines."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMIT_UNAVAILABLE, RATE_LIMITED
from pymosn.core.secrets import Secret
from pymosn.filters.settings import Duration, StrictBlock, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.redis_counters import Count, RedisCounters, RedisOptions, RedisUnavailable
from pymosn.filters.stream.request_key import RequestKey

NAME: Final = "redis_rate_limit"
ON_ERROR: Final = ("deny", "allow")
#: Fields of the IETF's drafts on rate limits, in seconds and requests.
LIMIT, REMAINING, RESET = "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"
#: The shortest and the longest period, in seconds.
SHORTEST, LONGEST = 0.001, 366 * 86400.0
#: The longest wait for Redis, in seconds.
LONGEST_WAIT: Final = 60.0


class RateSettings(StrictBlock, kw_only=True):
    """The rate: what a route may have of its own."""

    requests: Annotated[int, own("requests allowed in each `per`, for all workers and machines together")] = 0
    per: Annotated[Duration, own("the period; it begins with a key's first request")] = 1.0
    key: Annotated[str, own("all, client (IP address; of IPv6 its /64), path or header")] = "client"
    header: Annotated[str, own("name of the header for `key: header`; a filter before this one must have checked it")] = ""
    without_header: Annotated[str, own("requests without the header: client (counted by address) or reject (401)")] = (
        "client"
    )
    name: Annotated[str, own("limits with the same name share counters; empty: those with the same rate")] = ""
    status: Annotated[int, own("")] = 429
    body: Annotated[str, own("")] = ""


class Settings(RateSettings, kw_only=True):
    """`redis_rate_limit`: requests per key, counted in Redis."""

    url: Annotated[str, own("redis://HOST:PORT/DB, rediss:// (TLS) or unix://PATH; no user information")] = (
        "redis://127.0.0.1:6379/0"
    )
    username: Annotated[str, own("")] = ""
    password: Annotated[Secret[str], own("")] = ""
    ca_file: Annotated[str, own("PEM file of the authorities for rediss://; empty: those of the system")] = ""
    timeout: Annotated[Duration, own("maximum wait of a request for Redis, connecting included")] = 0.25
    max_connections: Annotated[int, own("per worker; further requests wait for one")] = 16
    on_redis_error: Annotated[str, own("deny (503) or allow")] = "deny"
    prefix: Annotated[str, own("beginning of the keys in Redis")] = "pymosn:limit:"
    response_headers: Annotated[bool, own("add RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset")] = False


class RouteSettings(RateSettings, kw_only=True):
    """`per_filter_config.redis_rate_limit`."""

    disabled: Annotated[bool, own("requests of this route are not counted")] = False


def is_plain(text: str) -> bool:
    """Whether a part of a key in Redis can be read and written by hand."""
    return text.isascii() and text.isprintable()


class Rate:
    """A checked rate."""

    def __init__(self, settings: RateSettings, is_disabled: bool = False) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.is_disabled = is_disabled
        self.key = RequestKey(settings.key, settings.header, settings.without_header, problems)
        if not is_disabled:
            problems.require(settings.requests >= 1, ".requests", "must be 1 or more")
        text = f"must be {SHORTEST:g} to {LONGEST:g} seconds"
        problems.require(SHORTEST <= settings.per <= LONGEST, ".per", text)
        problems.status(".status", settings.status, 400)
        problems.require(is_plain(settings.name), ".name", "must be printable ASCII")
        problems.end()
        self.requests = settings.requests
        self.milliseconds = round(settings.per * 1000)
        self.name = settings.name or f"{self.requests}-{self.milliseconds}ms"
        self.status = settings.status
        self.body = settings.body


class _Counted:
    """The state of an exchange."""

    def __init__(self, rate: Rate, count: Count) -> None:
        self.rate = rate
        self.count = count

    def headers(self) -> list[tuple[str, str]]:
        """The headers of the response."""
        left = max(0, self.rate.requests - self.count.requests)
        reset = math.ceil(self.count.seconds_left)
        return [(LIMIT, str(self.rate.requests)), (REMAINING, str(left)), (RESET, str(reset))]


class RedisRateLimitFilter(StreamFilter):
    """Rejects requests beyond the rate of their key.

    Cost per request: a task and a round trip to Redis. While Redis is not available, no request waits for it.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        problems.require(find_spec("redis") is not None, "", "redis_rate_limit needs redis: pip install 'pymosn[redis]'")
        problems.end()
        self._rate = Rate(settings)
        problems.require(0 < settings.timeout <= LONGEST_WAIT, ".timeout", f"must be up to {LONGEST_WAIT:g} seconds, not 0")
        problems.require(1 <= settings.max_connections <= 10000, ".max_connections", "must be 1 to 10000")
        problems.require(is_plain(settings.prefix), ".prefix", "must be printable ASCII")
        problems.one_of(".on_redis_error", settings.on_redis_error, ON_ERROR)
        if settings.ca_file:
            problems.require(os.access(settings.ca_file, os.R_OK), ".ca_file", f"cannot be read: {settings.ca_file!r}")
        options = RedisOptions(
            settings.url,
            settings.username,
            settings.password,
            settings.ca_file,
            settings.timeout,
            settings.max_connections,
        )
        options.check(problems)
        problems.end()
        self._options = options
        self._prefix = settings.prefix
        self._allows = settings.on_redis_error == "allow"
        self._adds_headers = settings.response_headers
        self._counters: RedisCounters | None = None

    async def start(self) -> None:
        self._counters = RedisCounters(self._options, self.context)

    async def stop(self) -> None:
        if self._counters is not None:
            await self._counters.aclose()

    async def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = self.context.route_config(exchange, NAME)
        rate = of_route if isinstance(of_route, Rate) else self._rate
        if rate.is_disabled:
            return None
        key = f"{self._prefix}{rate.name}:{rate.key.of(exchange)}"
        assert self._counters is not None
        try:
            count = await self._counters.add(key, rate.milliseconds)
        except RedisUnavailable as error:
            return self._on_unavailable(exchange, str(error))
        counted = _Counted(rate, count)
        exchange.state[NAME] = counted
        if count.requests <= rate.requests:
            return None
        self.context.counter("limited").value += 1
        exchange.failure = RATE_LIMITED
        return Reply(rate.status, rate.body, {"retry-after": str(max(1, math.ceil(count.seconds_left)))})

    def _on_unavailable(self, exchange: Exchange, detail: str) -> Reply | None:
        self.context.counter("failed").value += 1
        if self._allows:
            return None
        exchange.failure = RATE_LIMIT_UNAVAILABLE
        exchange.failure_detail = detail
        return Reply(503, "", {"retry-after": "1"})

    def on_response(self, exchange: Exchange) -> None:
        counted = exchange.state.get(NAME)
        if self._adds_headers and isinstance(counted, _Counted):
            for name, value in counted.headers():
                exchange.response_head.headers.set(name, value)


def _of_route(settings: RouteSettings) -> Rate:
    return Rate(settings, settings.disabled)


_NOTE: Final = "pymosn's own: requests per key, counted in Redis; also of a route; needs the extra pymosn[redis]"
SPEC: Final = FilterSpec(NAME, Settings, RedisRateLimitFilter, _NOTE, route=RouteSpec(RouteSettings, _of_route), guards=True)
