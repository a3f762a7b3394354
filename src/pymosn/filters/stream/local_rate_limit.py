"""`local_rate_limit`, pymosn's own: a token bucket for all requests, or for each client, path or value of a header."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated, Final
from weakref import WeakKeyDictionary

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.grpc import RESOURCE_EXHAUSTED
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMITED
from pymosn.filters.settings import AnyMap, Block, Duration, StrictBlock, Unsigned, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.rate_descriptors import Descriptor, RateLimits
from pymosn.filters.stream.request_key import KEYS, short
from pymosn.upstream.limits import worker_share

NAME: Final = "local_rate_limit"
#: The filter whose settings of a route have Envoy's `rate_limits`.
RATE_LIMITS: Final = "ratelimit"


class DescriptorEntry(StrictBlock, kw_only=True):
    """One part of a descriptor."""

    key: Annotated[str, own("")] = ""
    value: Annotated[str, own("")] = ""


class DescriptorLimit(StrictBlock, kw_only=True):
    """A bucket for the requests with a descriptor."""

    entries: Annotated[list[DescriptorEntry], own("equal to all that `rate_limits` make of a request")] = []
    requests: Annotated[int, own("requests allowed in each `per`; each worker has its share")] = 0
    per: Annotated[Duration, own("")] = 1.0
    burst: Annotated[Unsigned, own("how many at once; 0: `requests`")] = 0


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
    response_headers: Annotated[dict[str, str], own("of rejections")] = {}
    resource_exhausted: Annotated[bool, own("gRPC calls are rejected with RESOURCE_EXHAUSTED, not UNAVAILABLE")] = False
    only_routes: Annotated[bool, own("no limit but on routes with their own settings")] = False
    unlimited: Annotated[bool, own("of a route: no limit")] = False
    descriptors: Annotated[list[DescriptorLimit], own("further buckets, by descriptors in Envoy's sense")] = []
    rate_limits: Annotated[list[AnyMap], own("Envoy's: what makes the descriptors; default: those of the route")] = []
    stage: Annotated[Unsigned, own("only descriptors of this stage")] = 0
    always_default: Annotated[bool, own("also take a token of the bucket of all requests if there is one by descriptor")] = (
        True
    )


class Rate:
    """Checked settings: a number of requests in a period, and how many of them at once."""

    def __init__(self, settings: Settings, problems: Problems | None = None, path: str = "") -> None:
        """Raises FilterConfigError; with `problems` they are added to these."""
        found = problems or Problems()
        self.settings = settings
        self.burst = settings.burst or settings.requests
        self._key = settings.key
        self._header = settings.header.lower()
        self.is_limited = not settings.only_routes and not settings.unlimited
        self.by_descriptor: dict[Descriptor, Rate] = {}
        self.limits = RateLimits(settings.rate_limits, f"{path}.rate_limits", found) if settings.rate_limits else None
        found.require(settings.requests >= 1 or not self.is_limited, f"{path}.requests", "must be 1 or more")
        found.require(settings.per > 0, f"{path}.per", "must be greater than 0")
        found.require(settings.max_keys >= 1, f"{path}.max_keys", "must be 1 or more")
        found.one_of(f"{path}.key", self._key, KEYS)
        if self._key == "header":
            found.header(f"{path}.header", self._header)
        elif self._key in KEYS:
            found.require(not self._header, f"{path}.header", "only valid with `key: header`")
        found.status(f"{path}.status", settings.status, 400)
        found.changed_headers(f"{path}.response_headers", list(settings.response_headers))
        for i, limit in enumerate(settings.descriptors):
            inner = f"{path}.descriptors[{i}]"
            found.require(limit.entries, f"{inner}.entries", "must not be empty")
            values = tuple((entry.key, entry.value) for entry in limit.entries)
            part = Settings(requests=limit.requests, per=limit.per, burst=limit.burst)
            self.by_descriptor[values] = Rate(part, found, inner)
        if problems is None:
            found.end()

    def key_of(self, exchange: Exchange) -> str:
        """The key of a request's bucket; requests without the header share one. Raises RepeatedField."""
        if self._key == "client":
            return exchange.remote_ip
        if self._key == "path":
            return short(exchange.request.path)
        if self._key == "header":
            return short(exchange.request.headers.single(self._header) or "")
        return ""

    def rates_of(self, exchange: Exchange) -> list[Rate]:
        """The rates that a request is counted by: those of its descriptors, and its own."""
        if not self.is_limited:
            return []
        if not self.by_descriptor:
            return [self]
        limits: object = self.limits or exchange.route_config(RATE_LIMITS)
        found: list[Rate] = []
        if isinstance(limits, RateLimits):
            descriptors = limits.descriptors(exchange, self.settings.stage)
            found = [self.by_descriptor[item] for item in descriptors if item in self.by_descriptor]
        return [*found, self] if self.settings.always_default or not found else found


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
        of_route = self.context.route_config(exchange, NAME)
        rate = of_route if isinstance(of_route, Rate) else self._rate
        for part in rate.rates_of(exchange):
            wait = self._wait_for(part, exchange)
            if wait > 0.0:
                return self._reject(exchange, rate.settings, wait)
        return None

    def _wait_for(self, rate: Rate, exchange: Exchange) -> float:
        buckets = self._buckets.get(rate)
        if buckets is None:
            buckets = self._buckets[rate] = Buckets(rate, self.context.workers, self.context.worker)
        return buckets.wait_for(rate.key_of(exchange), self.context.clock.now)

    def _reject(self, exchange: Exchange, settings: Settings, wait: float) -> Reply:
        self.context.counter("limited").value += 1
        exchange.failure = RATE_LIMITED
        headers = {"retry-after": str(math.ceil(wait)), **settings.response_headers}
        if settings.resource_exhausted and exchange.request.has_call_status:
            headers["grpc-status"] = str(int(RESOURCE_EXHAUSTED))
        return Reply(settings.status, settings.body, headers)


_NOTE: Final = "pymosn's own: token buckets; also of a route"
SPEC: Final = FilterSpec(NAME, Settings, LocalRateLimitFilter, _NOTE, route=RouteSpec(Settings, Rate), guards=True)
