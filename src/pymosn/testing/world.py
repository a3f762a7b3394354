"""Filters, clusters and a clock for tests, and functions that send requests through them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypedDict, TypeVar, Unpack

from pymosn.api.exchange import Exchange
from pymosn.api.network import Dialer
from pymosn.api.routing import Route
from pymosn.api.stream import StreamProtocol
from pymosn.api.stream_filter import FilterContext, StreamFilter
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import ForwardingOptions
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.filters.typed_config import typed_config
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.testing.fakes import PROTOCOL, TEST_TIMEOUT, Client, FakeClock, Lines, Protocol, request_head, rounds
from pymosn.testing.messages import Request, Response, WithBody
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster, PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan

#: The cluster of all requests for which no filter selects another.
SERVICE: Final = "service"

Made = TypeVar("Made", bound=StreamFilter)


class Result(WithBody):
    """The outcome of a request: the response, the upstream requests, and the failure if any."""

    def __init__(self, sender: Client, upstream: list[Request], exchange: Exchange, log: list[str]) -> None:
        super().__init__(sender.chunks)
        head = sender.head
        self.status: int = 0 if head is None else int(head.status)
        self.headers: Headers = headers_from(None) if head is None else head.headers
        self.trailers: Headers | None = sender.trailers
        #: Requests that the upstreams received, in order, including the filters' subrequests.
        self.upstream = upstream
        #: The reason word of the failure that ended it; empty if there was none.
        self.reason: str = "" if exchange.failure is None else exchange.failure.reason
        #: Whether the response was aborted.
        self.was_reset: bool = sender.was_reset
        self.exchange = exchange
        #: Lines of the process log.
        self.log = log

    def __repr__(self) -> str:
        return f"<Result {self.status} {self.text[:60]!r}{f' {self.reason}' if self.reason else ''}>"


Answer = Response | Callable[[Request], Response | Awaitable[Response]]


class World:
    """A chain of filters, clusters of simulated hosts, and a clock that only `advance` moves."""

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
        """`upstream`: response of the cluster `service`, the default for all requests. `clusters`: others, by name.

        `route_config`: `per_filter_config` of the route. `on_error`, `timeout`: override those of all filters. `workers`:
        the apparent number of workers, of which this is the first.
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
        self._options = ProxyOptions(
            listener_name="test",
            protocols=[],
            protocol_options={},
            slot=slot,
            filters=StreamFilters(named),
            stats=stats,
            access_logs=[],
            forwarding=ForwardingOptions(x_forwarded=False, x_request_id=False, trusts_peer=False, trusted_hops=0),
            reason_header=False,
            stream_idle_timeout=300.0,
            tunnel_idle_timeout=600.0,
            idle_timeout=90.0,
            detection_timeout=15.0,
        )

    def _make_runtime(self) -> Runtime:
        protocols: Registry[StreamProtocol] = Registry("protocol")
        protocols.add(PROTOCOL, Protocol(self._answer))
        clusters = Clusters()
        maker = PoolMaker(protocols, Dialer(), self._wheel)
        kind = balancers().get("LB_RANDOM")
        assert kind is not None
        plans = [ClusterPlan(name, (HostPlan(f"{name}:80"),)) for name in self._answers]
        clusters.activate({plan.name: Cluster(plan, kind, maker, self.metrics, None) for plan in plans})
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

    def reopen(self) -> None:
        """Calls `on_reopen` of the filters, as SIGUSR1 does."""
        for entry in self.filters:
            entry.on_reopen()

    async def stop(self) -> None:
        """Ends the filters' tasks and calls `stop`."""
        for entry in self.filters:
            await entry.context.end_tasks()
            await entry.stop()

    async def send(self, request: Request) -> Result:
        """Sends a request and waits for the end of the exchange. Raises TimeoutError if it does not end."""
        self._upstream = []
        client = Client(self._client_ip, request.method)
        driver = ExchangeDriver(self._runtime, self._options, client, PROTOCOL)
        chunks = request.chunks
        driver.on_request(request_head(request), b"", not chunks and request.trailers is None)
        for index, chunk in enumerate(chunks):
            await client.wait_until_resumed()
            if not client.is_over.is_set():
                driver.on_data(chunk, index == len(chunks) - 1 and request.trailers is None)
        if request.trailers is not None and not client.is_over.is_set():
            driver.on_trailers(request.trailers.copy())
        async with asyncio.timeout(TEST_TIMEOUT):
            await client.is_over.wait()
        return Result(client, self._upstream, driver.exchange, self.log)

    async def advance(self, seconds: float) -> None:
        """Advances the clock for timeouts, and lets the event loop run."""
        await rounds()
        self.clock.now += seconds + 0.05
        self._wheel.advance()
        await rounds()

    def counter(self, filter_name: str, key: str) -> int:
        """A filter's counter: `calls`, `errors`, `skipped`, `timeouts`, or a custom one."""
        return int(self.metrics.group("filter", ("filter", filter_name)).counter(key).value)


class WorldOptions(TypedDict, total=False):
    """Options of `World`."""

    upstream: Answer | None
    clusters: Mapping[str, Answer] | None
    route_config: Mapping[str, object] | None
    client_ip: str
    on_error: str
    timeout: float
    workers: int


async def send(filters: StreamFilter | Sequence[StreamFilter], request: Request, **options: Unpack[WorldOptions]) -> Result:
    """Sends one request through filters, which are started and stopped. `options`: see `World`."""
    world = World(filters, **options)
    await world.start()
    try:
        return await world.send(request)
    finally:
        await world.stop()


def run(filters: StreamFilter | Sequence[StreamFilter], request: Request, **options: Unpack[WorldOptions]) -> Result:
    """Like `send`, for tests that are not coroutines."""
    return asyncio.run(send(filters, request, **options))


def make(kind: type[Made], config: Mapping[str, object] | None = None) -> Made:
    """Creates a filter with its `Config`, as the proxy does. Raises FilterConfigError for an invalid configuration."""
    return kind(typed_config(kind.Config, dict(config or {})))
