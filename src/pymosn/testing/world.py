"""Filters, clusters and a clock for tests, and the ways to send requests through them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypedDict, TypeVar, Unpack

from pymosn.api.exchange import Exchange
from pymosn.api.network import Dialer
from pymosn.api.routing import Route
from pymosn.api.stream import (
    StreamProtocol,
)
from pymosn.api.stream_filter import FilterContext, StreamFilter
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.headers import Headers, headers_from
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.filters.stream.python import typed_config
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.testing.fakes import PATIENCE, PROTOCOL, Client, Ends, FakeClock, Lines, Protocol, request_head, rounds
from pymosn.testing.messages import Request, Response, WithBody
from pymosn.testing.options import proxy_options
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Clusters, PoolMaker, make_cluster
from pymosn.upstream.plan import ClusterPlan, HostPlan

#: The cluster that requests go to unless a filter chooses another.
SERVICE: Final = "service"

Made = TypeVar("Made", bound=StreamFilter)


class Result(WithBody):
    """What became of a request: the reply, what went upstream, and how it ended."""

    def __init__(self, sender: Client, upstream: list[Request], exchange: Exchange, log: list[str]) -> None:
        super().__init__(sender.pieces)
        head = sender.head
        self.status: int = 0 if head is None else int(head.status)
        self.headers: Headers = headers_from(None) if head is None else head.headers
        self.trailers: Headers | None = sender.trailers
        #: Requests that upstreams got, in order, the filters' own among them.
        self.upstream = upstream
        #: The word of the failure that ended it; empty when none did.
        self.reason: str = "" if exchange.failure is None else exchange.failure.reason
        #: Whether the reply broke off before its end.
        self.was_reset: bool = sender.was_reset
        self.exchange = exchange
        #: Lines of the process log.
        self.log = log

    def __repr__(self) -> str:
        return f"<Result {self.status} {self.text[:60]!r}{f' {self.reason}' if self.reason else ''}>"


Answer = Response | Callable[[Request], Response | Awaitable[Response]]


class World:
    """Filters in a chain, clusters of made-up hosts, and a clock that moves when told."""

    def __init__(
        self,
        filters: StreamFilter | Sequence[StreamFilter],
        upstream: Answer | None = None,
        clusters: Mapping[str, Answer] | None = None,
        route_config: Mapping[str, object] | None = None,
        client_ip: str = "192.0.2.1",
        on_error: str = "",
        timeout: float = -1.0,
        workers: int = 1,
    ) -> None:
        """`upstream`: what the cluster `service` answers, where all requests go. `clusters`: others, by name.

        `route_config`: `per_filter_config` of the route. `on_error`, `timeout`: of all filters, in place of their own.

        `workers`: how many there are said to be, of which this is the first.
        """
        self.filters = [filters] if isinstance(filters, StreamFilter) else list(filters)
        self._log = Lines()
        #: Lines of the process log.
        self.log: list[str] = self._log.lines
        self.clock = FakeClock()
        self.metrics = Metrics()
        self._answers: dict[str, Answer] = {SERVICE: upstream or Response(), **(clusters or {})}
        self._upstream: list[Request] = []
        self._wheel = TimerWheel(self.clock)
        self._client_ip = client_ip
        self._runtime = self._make_runtime()
        route = Route("test", AnyRequest(), Forward(SERVICE, 60.0), None, dict(route_config) if route_config else None)
        slot = TableSlot("test")
        slot.table = RouteTable("test")
        slot.table.add(VirtualHost("test", ["*"], [route]))
        clients = ClusterClients(self._runtime)
        named: list[FilterHandle] = []
        for entry in self.filters:
            name = type(entry).__name__
            group = self.metrics.group("filter", ("filter", name))
            entry.context = FilterContext(name, self._runtime.log, clients, self.clock, group, workers, 0)
            named.append(FilterHandle(name, entry, self.metrics, on_error, timeout))
        stats = DownstreamStats(self.metrics.group("downstream", ("listener", "test")))
        self._ends = Ends()
        chain = StreamFilters(named)
        self._options = proxy_options(slot=slot, filters=chain, stats=stats, access_logs=[self._ends])

    def _make_runtime(self) -> Runtime:
        protocols: Registry[StreamProtocol] = Registry("protocol")
        protocols.add(PROTOCOL, Protocol(self._answer))
        clusters = Clusters()
        maker = PoolMaker(protocols, Dialer(), self._wheel)
        kind = balancers().get("LB_RANDOM")
        assert kind is not None
        plans = [ClusterPlan(name, (HostPlan(f"{name}:80"),)) for name in self._answers]
        clusters.replace({plan.name: make_cluster(plan, kind, maker, self.metrics, None) for plan in plans})
        return Runtime(self.clock, self._wheel, self.metrics, self._log, protocols, clusters)

    async def _answer(self, cluster: str, request: Request) -> Response:
        self._upstream.append(request)
        answer = self._answers[cluster]
        if isinstance(answer, Response):
            return answer
        made = answer(request)
        return await made if inspect.isawaitable(made) else made

    async def start(self) -> None:
        """Calls `start` of the filters."""
        for entry in self.filters:
            await entry.start()

    async def stop(self) -> None:
        """Ends their tasks and calls `stop`."""
        for entry in self.filters:
            await entry.context.end_tasks()
            await entry.stop()

    async def send(self, request: Request) -> Result:
        """Sends a request and waits for the end of the exchange. TimeoutError when that does not come."""
        self._upstream = []
        client = Client(self._client_ip, request.method)
        driver = ExchangeDriver(self._runtime, self._options, client, PROTOCOL)
        pieces = request.pieces
        driver.on_request(request_head(request), b"", not pieces and request.trailers is None)
        for number, piece in enumerate(pieces):
            await client.may_go_on()
            if not client.is_over.is_set():
                driver.on_data(piece, number == len(pieces) - 1 and request.trailers is None)
        if request.trailers is not None and not client.is_over.is_set():
            driver.on_trailers(request.trailers.copy())
        async with asyncio.timeout(PATIENCE):
            await client.is_over.wait()
        return Result(client, self._upstream, driver.exchange, self.log)

    async def advance(self, seconds: float) -> None:
        """Lets time pass for timeouts; what waits for the event loop has its turn too."""
        await rounds()
        self.clock.now += seconds + 0.05
        self._wheel.advance()
        await rounds()

    def counter(self, filter_name: str, key: str) -> int:
        """A counter of a filter: `calls`, `errors`, `skipped`, `timeouts`, or one of its own."""
        return int(self.metrics.group("filter", ("filter", filter_name)).counter(key).value)


class Wishes(TypedDict, total=False):
    """What `World` takes beside the filters."""

    upstream: Answer | None
    clusters: Mapping[str, Answer] | None
    route_config: Mapping[str, object] | None
    client_ip: str
    on_error: str
    timeout: float
    workers: int


async def send(filters: StreamFilter | Sequence[StreamFilter], request: Request, **wishes: Unpack[Wishes]) -> Result:
    """Sends one request through filters; starts and stops them. `wishes`: as `World` takes them."""
    world = World(filters, **wishes)
    await world.start()
    try:
        return await world.send(request)
    finally:
        await world.stop()


def run(filters: StreamFilter | Sequence[StreamFilter], request: Request, **wishes: Unpack[Wishes]) -> Result:
    """`send` for tests that are no coroutines."""
    return asyncio.run(send(filters, request, **wishes))


def make(kind: type[Made], config: Mapping[str, object] | None = None) -> Made:
    """A filter made as the proxy makes it: with its `Config`. Raises FilterConfigError for one that does not fit."""
    return kind(typed_config(kind.Config, dict(config or {})))
