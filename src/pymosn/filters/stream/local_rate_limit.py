"""`local_rate_limit`, pymosn's own: a token bucket for all requests, or for each client, path or value of a header."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Final
from weakref import WeakKeyDictionary

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMITED
from pymosn.filters.stream.problems import Problems
from pymosn.upstream.limits import worker_share

NAME: Final = "local_rate_limit"
ALL: Final = "all"
CLIENT: Final = "client"
PATH: Final = "path"
HEADER: Final = "header"
KEYS: Final = (ALL, CLIENT, PATH, HEADER)


class Rate:
    """So many requests in so many seconds, and how many of them at once."""

    def __init__(self, config: Any) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.requests: int = config.requests
        self.period: float = config.per
        self.burst: int = config.burst or config.requests
        self.key: str = config.key
        self.header: str = config.header.lower()
        self.max_keys: int = config.max_keys
        self.status: int = config.status
        self.body: str = config.body
        if self.requests < 1:
            problems.add(".requests", "must be 1 or more")
        if self.period <= 0:
            problems.add(".per", "must be more than 0")
        if self.max_keys < 1:
            problems.add(".max_keys", "must be 1 or more")
        if self.key not in KEYS:
            problems.add(".key", f"must be one of {', '.join(KEYS)}, not {self.key!r}")
        elif self.key == HEADER:
            problems.header(".header", self.header)
        elif self.header:
            problems.add(".header", "has a meaning with key: header only")
        problems.status(".status", self.status, 400)
        problems.end()

    def key_of(self, exchange: Exchange) -> str:
        """Whose bucket a request takes from; those without the header share one."""
        if self.key == CLIENT:
            return exchange.remote_ip
        if self.key == PATH:
            return exchange.request.path
        if self.key == HEADER:
            return exchange.request.headers.get(self.header, "") or ""
        return ""


class Buckets:
    """One worker's buckets of a rate: the tokens of each, and when they were counted."""

    def __init__(self, rate: Rate, workers: int, worker: int) -> None:
        self._max_keys = rate.max_keys
        self._per_second = worker_share(rate.requests, workers, worker) / rate.period
        self._burst = float(worker_share(rate.burst, workers, worker))
        # The one used last is at the end. The first has been filling for the longest time, so it is the one to forget.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_for(self, key: str, now: float) -> float:
        """Takes a token: 0.0, or the seconds until there will be one."""
        tokens, then = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._per_second)
        wait = 0.0
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            wait = (1.0 - tokens) / self._per_second
        self._buckets[key] = (tokens, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait


class LocalRateLimitFilter(StreamFilter):
    """Answers requests for which there is no token. Each worker has its part of the numbers.

    Per request: two operations on a dict. A key takes about 250 bytes; there are never more than `max_keys`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._rate = Rate(config)
        self._buckets: WeakKeyDictionary[Rate, Buckets] = WeakKeyDictionary()

    @staticmethod
    def for_route(config: Any) -> Rate:
        """`per_filter_config.local_rate_limit` as the filter wants it. Raises FilterConfigError."""
        return Rate(config)

    def on_route(self, exchange: Exchange) -> Reply | None:
        own = exchange.route_config(NAME)
        rate = own if isinstance(own, Rate) else self._rate
        buckets = self._buckets.get(rate)
        if buckets is None:
            buckets = self._buckets[rate] = Buckets(rate, self.context.workers, self.context.worker)
        wait = buckets.wait_for(rate.key_of(exchange), self.context.clock.now)
        if wait == 0.0:
            return None
        self.context.counter("limited").value += 1
        exchange.failure = RATE_LIMITED
        return Reply(rate.status, rate.body, {"retry-after": str(math.ceil(wait))})
