"""Filters, clusters and a clock for tests, and functions that send requests through them."""

import asyncio
import math
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from pymosn.api.exchange import Exchange
from pymosn.api.stream import StreamProtocol
from pymosn.api.stream_filter import FAIL, NO_CONTEXT, SKIP, ClusterClient, FilterContext, StreamFilter
from pymosn.api.tls import TlsInfo
from pymosn.api.tracing import SpanRecord, TraceRecord
from pymosn.core.addresses import normal_ip
from pymosn.core.counters import Metrics
from pymosn.core.headers import Headers, headers_from
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.filters.typed_config import typed_config
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.records import record_of
from pymosn.observe.tracing.sampling import Sampling
from pymosn.observe.tracing.tracer import WorkerTracer
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.filtering import FilterTask
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle
from pymosn.testing import fakes
from pymosn.testing.answers import Answer, Answers
from pymosn.testing.client import Client, Ends, Http2Client
from pymosn.testing.fakes import HTTP2, PROTOCOL, FakeClock, Lines, call, rounds
from pymosn.testing.grpc import GrpcRequest
from pymosn.testing.listener import HTTP1, Listener
from pymosn.testing.messages import Request, WithBody
from pymosn.testing.mistakes import InvalidTest, Mistakes, StillWaiting, current_place, place_of_task
from pymosn.testing.upstream import HostProtocol, Hosts
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan

Made = TypeVar("Made", bound=StreamFilter)


class Result(WithBody):
    """The outcome of a request: the response, the upstream requests, and the failure if any."""

    def __init__(
        self, client: Client, upstream: list[Request], exchange: Exchange, log: list[str], spans: list[SpanRecord]
    ) -> None:
        super().__init__(client.chunks)
        head = client.head
        has_response = head is not None and head.status >= 200
        self.status: int = int(head.status) if head is not None and has_response else 0
        self.headers: Headers = head.headers if head is not None and has_response else headers_from(None)
        self.trailers: Headers | None = client.trailers
        #: Requests that the upstreams received, in order, including the filters' subrequests.
        self.upstream = upstream
        #: The reason word of the failure that ended it; empty if there was none.
        self.reason: str = "" if exchange.failure is None else exchange.failure.reason
        #: Whether the response was aborted.
        self.was_reset: bool = not client.is_complete
        self.exchange = exchange
        #: Lines of the process log.
        self.log = log
        #: The spans of the exchange, if it is traced: its own, one for each attempt, and those of filters.
        self.spans = spans

    def __repr__(self) -> str:
        return f"<Result {self.status} {self.text[:60]!r}{f' {self.reason}' if self.reason else ''}>"


class Clients(Mapping[str, ClusterClient]):
    """The clients of the clusters of one world, for subrequests of its filters."""

    def __init__(self, world: "World", clients: ClusterClients) -> None:
        # Hosts refer to filters, and are not traversed by the garbage collector.
        self._world = weakref.ref(world)
        self._clients = clients

    def is_in_use(self) -> bool:
        """Whether the world still uses its filters."""
        world = self._world()
        return world is not None and world.is_in_use()

    def __getitem__(self, name: str) -> ClusterClient:
        return self._clients[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)


class World:
    """A chain of filters, clusters of simulated hosts, and a clock that only `advance` moves.

    Requests and responses pass the proxy's real codecs and connections, without sockets, as on a listener with the default
    settings. So they are judged and changed as in the server. What differs:

    - Each request of a client, and each to a host, has a connection of its own, and hosts have no limits or health.
    - Clients accept trailers unless they send another `te`, and hosts ask for the body of a request with `Expect`.
    - A host gets the complete request before its function is called, even if that then raises `Down("connect_refused")`.
    - There are no tunnels: upgrades are ignored, and CONNECT is refused.
    - The clock moves only when `advance` is called, and there is one worker, even with another `workers`.

    `async with` starts and stops the filters. InvalidTest reports a mistake in the test; errors of filters are results.
    """

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
        http1: Mapping[str, object] | None = None,
        client_tls: TlsInfo | None = None,
        client_protocol: str = PROTOCOL,
        upstream_protocol: str = "",
        tracing: bool = False,
    ) -> None:
        """`upstream`: response of the cluster `service`, the default for all requests. `clusters`: others, by name.

        `route_config`: `per_filter_config` of the route. `on_error`, `timeout`: override those of all filters. `workers`:
        the apparent number of workers, of which this is the first. `http1`: settings of the listener, as in
        `extend_config.Http1`, with times in seconds. `client_tls`: the facts of a client with TLS. `client_protocol`,
        `upstream_protocol`: `Http1` or `Http2`; that of the upstreams is the client's unless it is set, or a filter chooses.
        `tracing`: every exchange is traced, and contexts have the format of W3C.

        Raises InvalidTest, and TypeError for a filter that the server would not accept.
        """
        self.filters = _checked_filters(filters)
        _check_options(on_error, timeout, workers, route_config, http1)
        _check_protocols(client_protocol, upstream_protocol)
        if client_ip and not normal_ip(client_ip):
            raise InvalidTest(f"client_ip must be an IP address, or empty for a unix socket, not {client_ip!r:.60}")
        self._answers = Answers(upstream, clusters)
        self._log = Lines()
        #: Lines of the process log.
        self.log: list[str] = self._log.lines
        self.clock = FakeClock()
        self.metrics = Metrics()
        self._wheel = TimerWheel(self.clock)
        self._mistakes = Mistakes()
        self._hosts = Hosts(self._answers.ask, self._mistakes, self.clock, self._wheel)
        self._client_ip = client_ip
        self._client_tls = client_tls
        self._client_kind = Http2Client if client_protocol == HTTP2 else Client
        self._upstream_protocol = upstream_protocol
        #: The finished traces, in order.
        self.traces: list[TraceRecord] = []
        self._finished = TraceBuffer(self.metrics)
        self._runtime = self._make_runtime()
        if tracing:
            self._finished.open()
            self._runtime.tracer = WorkerTracer(["w3c"], Sampling(), self._finished, self._runtime.stamps)
        self._ends = Ends()
        settings = {**HTTP1, **(http1 or {})}
        try:
            self._listener = Listener(settings)
        except ValueError as error:
            raise InvalidTest(f"http1: {error}") from None
        self._is_started = False
        self._place = ""
        self._contexts: list[FilterContext] = []
        handles = self._make_handles(on_error, timeout, workers)
        self._options = self._listener.options(handles, route_config, self.metrics, self._ends, client_protocol)
        #: The loop that runs the world, once something has been sent.
        self._loop: asyncio.AbstractEventLoop | None = None

    # ---- construction

    def _make_runtime(self) -> Runtime:
        protocols: Registry[StreamProtocol] = Registry("protocol")
        for name in (PROTOCOL, HTTP2):
            protocols.add(name, HostProtocol(self._hosts, name == HTTP2))
        clusters = Clusters()
        maker = PoolMaker(protocols, self._hosts, self._wheel)
        kind = balancers().get("LB_RANDOM")
        assert kind is not None
        speaks = self._upstream_protocol
        plans = [ClusterPlan(name, (HostPlan(f"{name}:80"),), upstream_protocol=speaks) for name in self._answers.by_name]
        clusters.activate({plan.name: Cluster(plan, kind, maker, self.metrics, None) for plan in plans})
        return Runtime(self.clock, self._wheel, self.metrics, self._log, protocols, clusters)

    def _make_handles(self, on_error: str, timeout: float, workers: int) -> list[FilterHandle]:
        """Takes the filters over. Raises InvalidTest if another world still uses one."""
        clients = Clients(self, ClusterClients(self._runtime))
        handles: list[FilterHandle] = []
        for entry in self.filters:
            name = type(entry).__name__
            before = getattr(entry, "context", NO_CONTEXT).clusters  # `__init__` may not have been called
            if isinstance(before, Clients) and before.is_in_use():
                raise InvalidTest(f"the filter {name} is used by another World, which has not been stopped")
            group = self.metrics.group("filter", ("filter", name))
            handles.append(FilterHandle(name, entry, self.metrics, on_error, timeout))
            entry.context = FilterContext(name, self._log, clients, self.clock, group, workers, 0, self.metrics)
            self._contexts.append(entry.context)
        return handles

    # ---- life cycle

    def is_in_use(self) -> bool:
        """Whether its filters are started, or handle a request."""
        return self._is_started or bool(self._ends.clients)

    async def start(self) -> None:
        """Calls `start` of the filters."""
        self._check_loop()
        if self._is_started:
            raise InvalidTest("this World was already started")
        self._is_started = True
        self._place = current_place()
        try:
            for entry in self.filters:
                await self._finish(entry.start(), f"`start` of the filter {type(entry).__name__}")
        except BaseException:
            self._is_started = False
            await self._end_tasks()
            raise

    def reopen(self) -> None:
        """Calls `on_reopen` of the filters, as SIGUSR1 does."""
        for entry in self.filters:
            entry.on_reopen()

    async def stop(self) -> None:
        """Ends the filters' tasks and calls `stop`."""
        self._check_loop()
        self._is_started = False
        await self._end_tasks()
        for entry in self.filters:
            await self._finish(entry.stop(), f"`stop` of the filter {type(entry).__name__}")
        await self._hosts.stop()
        self._mistakes.raise_first()

    async def _end_tasks(self) -> None:
        for entry in self.filters:
            await self._finish(entry.context.end_tasks(), f"a cancelled task of the filter {type(entry).__name__}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def __del__(self) -> None:
        if getattr(self, "_is_started", False):
            warnings.warn(f"a World was started and not stopped{self._place}", ResourceWarning, stacklevel=1, source=self)

    # ---- requests

    async def send(self, request: Request) -> Result:
        """Sends a request and waits for the end of the exchange.

        Raises InvalidTest for a mistake of the test, such as an upstream that returns no Response; whatever an upstream
        raises to fail the test, such as an AssertionError; and a TimeoutError that says what the exchange waits for.
        """
        self._check_use(request)
        begin = len(self._answers.received)
        client = self._client_kind(
            self._runtime, self._options, self._listener, self._client_ip, int(self._hosts.numbers.next()), request
        )
        if self._client_tls is not None:
            client.connection.tls = self._client_tls
            client.connection.scheme = "https"
        self._ends.clients[int(client.connection.id)] = client
        delivery = asyncio.ensure_future(self._deliver(client))
        try:
            await self._wait(client.end, lambda: self._explain(client))
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
            await call(client.lose)
            del self._ends.clients[int(client.connection.id)]
        driver = client.driver
        assert driver is not None
        return Result(client, self._answers.received[begin:], driver.exchange, self.log, self._take_spans())

    def _take_spans(self) -> list[SpanRecord]:
        """The spans of the last exchange."""
        offset = self._runtime.stamps.offset()
        ids = IdSource()
        made = [record_of(trace, offset, ids) for trace in self._finished.take(len(self._finished))]
        self.traces += made
        return made[-1].spans if made else []

    async def _deliver(self, client: Client) -> None:
        try:
            await client.deliver()
        except Exception as error:
            self._mistakes.add(error)

    async def advance(self, seconds: float) -> None:
        """Advances the clock for timeouts, and lets the event loop run."""
        self._check_loop()
        if not _is_number(seconds) or seconds < 0:
            raise InvalidTest(f"the clock advances by a number of seconds, not by {seconds!r:.60}")
        await rounds()
        self.clock.now += seconds + 0.05
        await call(self._wheel.advance)
        await rounds()
        self._mistakes.raise_first()

    def counter(self, filter_name: str, key: str) -> int:
        """A filter's counter: `calls`, `errors`, `skipped`, `timeouts`, or a custom one."""
        names = [type(entry).__name__ for entry in self.filters]
        if filter_name not in names:
            raise InvalidTest(f"there is no filter {filter_name!r:.60}, only {', '.join(names)}")
        return int(self.metrics.group("filter", ("filter", filter_name)).counter(key).value)

    # ---- mistakes

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise InvalidTest("this World was used in another event loop: make one for each `asyncio.run`")

    def _check_use(self, request: Request) -> None:
        self._check_loop()
        if not isinstance(request, Request):
            raise InvalidTest(f"expected a Request, not {request!r:.60}")
        if isinstance(request, GrpcRequest) and self._client_kind is Client:
            raise InvalidTest(f"a GrpcRequest is sent in HTTP/2: set client_protocol={HTTP2!r}")
        request.check()
        for entry, context in zip(self.filters, self._contexts, strict=True):
            name = type(entry).__name__
            if entry.context is not context:
                raise InvalidTest(f"the filter {name} is used by another World now")
            if not self._is_started and type(entry).start is not StreamFilter.start:
                raise InvalidTest(f"the filter {name} has a `start`: call `start` of the World first, or use `async with`")

    async def _finish(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Waits for a method of a filter."""
        task = asyncio.ensure_future(work)
        try:
            await self._wait(task, lambda: f"{what} waits{place_of_task(task)}")
        finally:
            task.cancel()
            await asyncio.wait((task,), timeout=1.0)
        await task

    async def _wait(self, awaited: asyncio.Future[Any], explain: Callable[[], str]) -> None:
        """Waits until something is done, or a mistake of the test prevents it. Raises StillWaiting."""
        failed = asyncio.ensure_future(self._mistakes.is_there.wait())
        try:
            done, _ = await asyncio.wait((awaited, failed), timeout=fakes.TEST_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed.cancel()
        self._mistakes.raise_first()
        if not done:
            advice = "No timeout will end this"
            if len(self._wheel):
                advice = "The clock moves only with `await world.advance(seconds)`, which this test may have forgotten"
            text = f"no end within {fakes.TEST_TIMEOUT:g} s: {explain()}. {advice}"
            raise StillWaiting(text, "")

    def _explain(self, client: Client) -> str:
        """What an exchange waits for."""
        driver = client.driver
        if driver is None:
            return "the proxy waits for the rest of the request's head"
        task = None if driver.context is None else driver.context.waiting
        if isinstance(task, FilterTask):
            return f"the filter {task.handle.name} waits{place_of_task(task._task)}"
        for wire in self._hosts.busy:
            if wire.response is not None:
                return f"the upstream {wire.cluster!r} has not ended its response to {wire.request!r}{wire.response.place()}"
            return f"the upstream {wire.cluster!r} has not responded to {wire.request!r}{place_of_task(wire.task)}"
        return "a response has not ended" if client.head is not None else "there is no response"


class WorldOptions(TypedDict, total=False):
    """Options of `World`."""

    upstream: Answer | None
    clusters: Mapping[str, Answer] | None
    route_config: Mapping[str, object] | None
    client_ip: str
    client_tls: TlsInfo | None
    client_protocol: str
    upstream_protocol: str
    on_error: str
    timeout: float
    workers: int
    tracing: bool
    http1: Mapping[str, object] | None


async def send(filters: StreamFilter | Sequence[StreamFilter], request: Request, **options: Unpack[WorldOptions]) -> Result:
    """Sends one request through filters, which are started and stopped. `options`: see `World`."""
    async with World(filters, **options) as world:
        return await world.send(request)


def run(filters: StreamFilter | Sequence[StreamFilter], request: Request, **options: Unpack[WorldOptions]) -> Result:
    """Like `send`, for tests that are not coroutines."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise InvalidTest("`run` cannot be used in a coroutine: use `await send(...)`")
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        sending = loop.create_task(send(filters, request, **options))
        while True:
            try:
                return loop.run_until_complete(sending)
            except SystemExit:  # of a filter's task, which has stored it: like a worker, the loop continues
                if sending.done():
                    raise


def make(kind: type[Made], config: Mapping[str, object] | None = None) -> Made:
    """Creates a filter with its `Config`, as the proxy does. Raises FilterConfigError for an invalid configuration."""
    if not isinstance(kind, type) or not issubclass(kind, StreamFilter):
        raise InvalidTest(f"expected the class of a filter, not {kind!r:.60}")
    if config is not None and not isinstance(config, Mapping):
        raise InvalidTest(f"the configuration of a filter must be a dict, not {config!r:.60}")
    return kind(typed_config(kind.Config, dict(config or {})))


def _checked_filters(filters: object) -> list[StreamFilter]:
    """The filters of a world. Raises InvalidTest for anything else."""
    entries: list[Any] = list(filters) if isinstance(filters, (list, tuple)) else [filters]
    for index, entry in enumerate(entries):
        if isinstance(entry, type):
            raise InvalidTest(f"expected an object, not the class {entry.__name__}: use make({entry.__name__}, config)")
        if not isinstance(entry, StreamFilter):
            raise InvalidTest(f"expected a filter or a list of filters, not {entry!r:.60}")
        if any(entry is other for other in entries[:index]):
            raise InvalidTest(f"the same object of {type(entry).__name__} is in the chain twice")
    return entries


def _check_options(
    on_error: object, timeout: object, workers: object, route_config: object, http1: Mapping[str, object] | None
) -> None:
    if on_error not in ("", FAIL, SKIP):
        raise InvalidTest(f"on_error must be {FAIL!r} or {SKIP!r}, not {on_error!r:.60}")
    if not _is_number(timeout):
        raise InvalidTest(f"timeout must be a number of seconds, not {timeout!r:.60}")
    if not isinstance(workers, int) or workers < 1:
        raise InvalidTest(f"workers must be a positive number, not {workers!r:.60}")
    if route_config is not None and not isinstance(route_config, Mapping):
        raise InvalidTest(f"route_config must be a dict by the names of filters, not {route_config!r:.60}")
    unknown = sorted(set(http1 or {}) - set(HTTP1))
    if unknown:
        raise InvalidTest(f"http1: unknown setting {unknown[0]!r}")


def _check_protocols(client: object, upstream: object) -> None:
    if client not in (PROTOCOL, HTTP2):
        raise InvalidTest(f"client_protocol must be {PROTOCOL!r} or {HTTP2!r}, not {client!r:.60}")
    if upstream not in ("", PROTOCOL, HTTP2):
        raise InvalidTest(f"upstream_protocol must be {PROTOCOL!r}, {HTTP2!r} or empty, not {upstream!r:.60}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
