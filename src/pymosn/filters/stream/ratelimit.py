"""`ratelimit`, pymosn's own: the rate limit service of Envoy (envoy.service.ratelimit.v3) counts requests."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.grpc import RESOURCE_EXHAUSTED
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.errors import reason
from pymosn.core.failure import ACCESS_DENIED, RATE_LIMITED
from pymosn.core.headers import FRAMING, HeaderError, lower_name
from pymosn.core.log import WARN
from pymosn.core.proto_wire import Fields, message, text
from pymosn.filters.settings import AnyMap, Duration, StrictBlock, Unsigned, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.grpc_call import CallError, GrpcTarget, call
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.rate_descriptors import Descriptor, RateLimits

NAME: Final = "ratelimit"
METHOD: Final = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
OVER_LIMIT: Final = 2
_FOR_CLIENT: Final = "ratelimit response headers"


class Settings(StrictBlock, kw_only=True):
    """`ratelimit`: a service counts requests by their descriptors, and decides when there are too many."""

    grpc: Annotated[GrpcTarget | None, own("the service")] = None
    timeout: Annotated[Duration, own("")] = 0.02
    domain: Annotated[str, own("name of these limits in the service")] = ""
    rate_limits: Annotated[list[AnyMap], own("Envoy's: what makes the descriptors, instead of those of the route")] = []
    stage: Annotated[Unsigned, own("only descriptors of this stage")] = 0
    status: Annotated[int, own("of rejections")] = 429
    response_headers: Annotated[dict[str, str], own("of rejections")] = {}
    resource_exhausted: Annotated[bool, own("gRPC calls are rejected with RESOURCE_EXHAUSTED, not UNAVAILABLE")] = False
    no_limited_header: Annotated[bool, own("rejections do not have `x-envoy-ratelimited: true`")] = False
    failure_mode_deny: Annotated[bool, own("reject requests when the service does not answer")] = False
    status_on_error: Annotated[int, own("then with this status")] = 500


class RouteSettings(StrictBlock, kw_only=True):
    """`per_filter_config.ratelimit`."""

    rate_limits: Annotated[list[AnyMap], own("Envoy's: what makes the descriptors of requests of this route")] = []


class RateLimitFilter(StreamFilter):
    """Asks the service about each request that has descriptors. Without an answer it passes.

    Cost per request: a task and a gRPC call; without descriptors the conditions of the route only.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        self._settings = settings
        target = settings.grpc or GrpcTarget()
        self._target = target
        problems.require(target.cluster, ".grpc.cluster", "the cluster of the service is missing")
        problems.require(settings.domain, ".domain", "must not be empty")
        problems.require(settings.timeout > 0, ".timeout", "must be greater than 0")
        problems.status(".status", settings.status, 400)
        problems.status(".status_on_error", settings.status_on_error, 400)
        problems.changed_headers(".response_headers", list(settings.response_headers))
        self._limits = RateLimits(settings.rate_limits, ".rate_limits", problems) if settings.rate_limits else None
        problems.end()

    def on_route(self, exchange: Exchange) -> Awaitable[Reply | None] | None:
        limits: object = self._limits or self.context.route_config(exchange, NAME)
        if not isinstance(limits, RateLimits):
            return None
        descriptors = limits.descriptors(exchange, self._settings.stage)
        return self._ask(exchange, descriptors) if descriptors else None

    async def _ask(self, exchange: Exchange, descriptors: list[Descriptor]) -> Reply | None:
        settings, target = self._settings, self._target
        body = text(1, settings.domain) + b"".join(map(_encoded, descriptors))
        try:
            client = self.clusters[target.cluster]
            metadata = [*target.metadata.items()]
            answer = Fields(await call(client, METHOD, body, settings.timeout, target.authority, metadata, exchange))
            code = answer.number(1)
            for_client, for_upstream = _headers(answer, 3), _headers(answer, 4)
            text_of_denial = answer.raw(5)
        except (CallError, KeyError, HeaderError, ValueError) as error:
            return self._on_failed(exchange, reason(error))
        if code == OVER_LIMIT:
            return self._reject(exchange, for_client, text_of_denial)
        for name, value in for_upstream:
            exchange.request.headers.add(name, value)
        if for_client:
            exchange.state[_FOR_CLIENT] = for_client
        return None

    def _reject(self, exchange: Exchange, for_client: list[tuple[str, str]], body: bytes) -> Reply:
        settings = self._settings
        self.context.counter("limited").value += 1
        exchange.failure = RATE_LIMITED
        headers = [*for_client, *settings.response_headers.items()]
        if not settings.no_limited_header:
            headers.append(("x-envoy-ratelimited", "true"))
        if settings.resource_exhausted and exchange.request.has_call_status:
            headers.append(("grpc-status", str(int(RESOURCE_EXHAUSTED))))
        return Reply(settings.status, body, headers)

    def on_response(self, exchange: Exchange) -> None:
        added = exchange.state.get(_FOR_CLIENT)
        if isinstance(added, list):
            for name, value in added:
                exchange.response_head.headers.add(name, value)

    def _on_failed(self, exchange: Exchange, detail: str) -> Reply | None:
        self.context.counter("failed").value += 1
        self.context.write(f"no decision from cluster {self._target.cluster!r}: {detail}", WARN)
        if not self._settings.failure_mode_deny:
            return None
        exchange.failure = ACCESS_DENIED
        exchange.failure_detail = detail
        return Reply(self._settings.status_on_error)


def _encoded(descriptor: Descriptor) -> bytes:
    return message(2, b"".join(message(1, text(1, key) + text(2, value)) for key, value in descriptor))


def _headers(answer: Fields, number: int) -> list[tuple[str, str]]:
    """A list of HeaderValue."""
    found: list[tuple[str, str]] = []
    for item in answer.items(number):
        name = item.text(1)
        if name[:1] != ":" and lower_name(name) not in FRAMING:
            found.append((name, (item.raw(2) or item.raw(3)).decode("latin-1")))
    return found


def _of_route(settings: RouteSettings) -> RateLimits:
    problems = Problems()
    found = RateLimits(settings.rate_limits, ".rate_limits", problems)
    problems.end()
    return found


def _clusters(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.grpc is not None:
        yield "grpc.cluster", settings.grpc.cluster


_NOTE: Final = "pymosn's own: the rate limit service of Envoy; descriptors of routes and virtual hosts"
_ROUTE: Final = RouteSpec(RouteSettings, _of_route)
SPEC: Final = FilterSpec(NAME, Settings, RateLimitFilter, _NOTE, route=_ROUTE, clusters=_clusters, guards=True)
