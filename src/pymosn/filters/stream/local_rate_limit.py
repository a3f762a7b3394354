"""`local_rate_limit`, pymosn's own: a token bucket for all requests, or for each client, path or value of a header."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated, Final
from weakref import WeakKeyDictionary

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMITED
from pymosn.filters.settings import Block, Duration, Unsigned, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.request_key import KEYS, short
from pymosn.upstream.limits import worker_share

NAME: Final = "local_rate_limit"


class Settings(Block, kw_only=True):
    """`local_rate_limit`: a token bucket for all requests, or for each client, path or value of a header."""

    requests: Annotated[int, own("requests allowed in each `per`; each worker has its share")] = 0
    per: Annotated[Duration, own("")] = 1.0
    burst: Annotated[Unsigned, own("how many at once; 0: `requests`")] = 0
    key: Annotated[str, own("all, client (the client's IP address; follows `trusted_hops`), path or header")] = "all"
    header: Annotated[str, own("name of the header for `key: header`; requests without it share a bucket")] = ""
    max_keys: Annotated[int, own("buckets in a worker; the least recently used one is dropped")] = 10000
    status: Annotated[int, own("")] = 429
    body: Annotated[str, own("")] = ""


class Rate:
    """Checked settings: a number of requests in a period, and how many of them at once."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.settings = settings
        self.burst = settings.burst or settings.requests
        self._key = settings.key
        self._header = settings.header.lower()
        problems.require(settings.requests >= 1, ".requests", "must be 1 or more")
        problems.require(settings.per > 0, ".per", "must be greater than 0")
        problems.require(settings.max_keys >= 1, ".max_keys", "must be 1 or more")
        problems.one_of(".key", self._key, KEYS)
        if self._key == "header":
            problems.header(".header", self._header)
        elif self._key in KEYS:
            problems.require(not self._header, ".header", "only valid with `key: header`")
        problems.status(".status", settings.status, 400)
        problems.end()

    def key_of(self, exchange: Exchange) -> str:
        """The key of a request's bucket; requests without the header share one. Raises RepeatedField."""
        if self._key == "client":
            return exchange.remote_ip
        if self._key == "path":
            return short(exchange.request.path)
        if self._key == "header":
            return short(exchange.request.headers.single(self._header) or "")
        return ""


class Buckets:
    """One worker's buckets of a rate: for each key its tokens, and the time when they were counted."""

    def __init__(self, rate: Rate, workers: int, worker: int) -> None:
        settings = rate.settings
        self._max_keys = settings.max_keys
        self._per_second = worker_share(settings.requests, workers, worker) / settings.per
        self._burst = float(worker_share(rate.burst, workers, worker))
        # The most recently used one is last. The first has refilled for the longest time, so it can be dropped.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_for(self, key: str, now: float) -> float:
        """Takes a token and returns 0.0, or returns the seconds until there is one."""
        tokens, then = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._per_second)
        has_token = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if has_token else tokens, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0 if has_token else (1.0 - tokens) / self._per_second


class LocalRateLimitFilter(StreamFilter):
    """Rejects requests for which there is no token. Each worker has its share of the limits.

    Cost per request: two dict operations. A key takes about 250 bytes; there are never more than `max_keys`.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._rate = Rate(settings)
        self._buckets: WeakKeyDictionary[Rate, Buckets] = WeakKeyDictionary()

    def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = exchange.route_config(NAME)
        rate = of_route if isinstance(of_route, Rate) else self._rate
        buckets = self._buckets.get(rate)
        if buckets is None:
            buckets = self._buckets[rate] = Buckets(rate, self.context.workers, self.context.worker)
        wait = buckets.wait_for(rate.key_of(exchange), self.context.clock.now)
        if wait == 0.0:
            return None
        self.context.counter("limited").value += 1
        exchange.failure = RATE_LIMITED
        return Reply(rate.settings.status, rate.settings.body, {"retry-after": str(math.ceil(wait))})


_NOTE: Final = "pymosn's own: token buckets; also of a route"
SPEC: Final = FilterSpec(NAME, Settings, LocalRateLimitFilter, _NOTE, route=RouteSpec(Settings, Rate), guards=True)
