"""Driving stream filters without a server: the proxy's own exchange between a client and upstreams that are made up.

    from pymosn.testing import Request, Response, send

    async def test_tenant():
        result = await send(Tenant({"header": "x-tenant"}), Request("GET", "/", {"x-api-key": "acme-1"}))
        assert result.status == 200
        assert result.upstream[0].headers["x-tenant"] == "acme"

`run` does the same from a plain test. A `World` keeps filters, clusters and clock over several requests.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pymosn.api.network import Connection, Dialer
from pymosn.api.protocol import ProtocolSpec
from pymosn.api.proxy import AccessLog, Exchange
from pymosn.api.routing import Route
from pymosn.api.stream import (
    ConnectionPool,
    RequestSender,
    ResponseReceiver,
    ResponseSender,
    StreamProtocol,
    Upstream,
)
from pymosn.api.stream_filter import FilterHome, StreamFilter
from pymosn.core import failure as failures
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.log import TRACE, Log
from pymosn.core.message import UNKNOWN_LENGTH, RequestHead, ResponseHead
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.filters.stream.python import typed_config
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.exchange import ProxyExchange
from pymosn.proxy.filter_chain import NamedFilter, StreamFilters
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Clusters, PoolMaker, make_cluster
from pymosn.upstream.plan import ClusterPlan, HostPlan

#: The cluster that requests go to unless a filter chooses another.
SERVICE: Final = "service"
PROTOCOL: Final = "Http1"
#: Seconds of real time after which a test that waits is given up.
PATIENCE: Final = 10.0

_FAILURES: Final = {kind.reason: kind for kind in vars(failures).values() if isinstance(kind, Failure)}

Fields = Mapping[str, str] | list[tuple[str, str]]
Body = bytes | str | Iterable[bytes | str]


class Request:
    """A request, from the client or as an upstream gets it. `pieces`: the body as it comes."""

    def __init__(self, method: str = "GET", target: str = "/", headers: Fields | None = None, body: Body = b"") -> None:
        """`target`: path and query. `body`: in pieces when it is iterable. Without a Host field it is `test.example`."""
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        self.pieces: list[bytes] = _pieces(body)
        #: Whether its length is told beforehand; False is as with chunks.
        self.is_sized = True

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"<Request {self.method} {self.path}{query}>"


class Response:
    """What an upstream answers. `delay`: rounds of the event loop before each piece of the body."""

    def __init__(self, status: int = 200, body: Body = b"ok", headers: Fields | None = None) -> None:
        self.status = status
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        self.pieces: list[bytes] = _pieces(body)
        #: Whether its length is told beforehand; a body in pieces has none.
        self.is_sized = isinstance(body, (bytes, str))


class Down(Exception):
    """Raised by an upstream of a test that does not answer: `connect_refused`, `reset_before_response`, ..."""

    def __init__(self, reason: str = "connect_refused") -> None:
        """`reason`: a word of the failure table. KeyError for another one."""
        super().__init__(reason)
        self.failure = _FAILURES[reason]


class Result:
    """What became of a request: the reply, what went upstream, and how it ended."""

    def __init__(self, sender: _Client, upstream: list[Request], exchange: Exchange, log: list[str]) -> None:
        head = sender.head
        self.status: int = 0 if head is None else int(head.status)
        self.headers: Headers = Headers() if head is None else head.headers
        self.trailers: Headers | None = sender.trailers
        self.pieces: list[bytes] = sender.pieces
        #: Requests that upstreams got, in order, the filters' own among them.
        self.upstream = upstream
        #: The word of the failure that ended it; empty when none did.
        self.reason: str = "" if exchange.failure is None else exchange.failure.reason
        #: Whether the reply broke off before its end.
        self.was_reset: bool = sender.was_reset
        self.exchange = exchange
        #: Lines of the process log.
        self.log = log

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

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
        #: Lines of the process log.
        self.log: list[str] = []
        self.clock = _StandingClock()
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
        named: list[NamedFilter] = []
        for entry in self.filters:
            name = type(entry).__name__
            group = self.metrics.group("filter", ("filter", name))
            entry.home = FilterHome(name, self._runtime.log, clients, self.clock, group, workers, 0)
            named.append(NamedFilter(name, entry, self.metrics, on_error, timeout))
        stats = DownstreamStats(self.metrics.group("downstream", ("listener", "test")))
        self._ends = _Ends()
        chain = StreamFilters(named)
        self._options = ProxyOptions("test", [], {}, slot, chain, stats, [self._ends], False, False)

    def _make_runtime(self) -> Runtime:
        protocols: Registry[StreamProtocol] = Registry("protocol")
        protocols.add(PROTOCOL, _Protocol(self._answer))
        clusters = Clusters()
        maker = PoolMaker(protocols, Dialer(), self._wheel)
        kind = balancers().get("LB_RANDOM")
        assert kind is not None
        plans = [ClusterPlan(name, (HostPlan(f"{name}:80"),)) for name in self._answers]
        clusters.replace({plan.name: make_cluster(plan, kind, maker, self.metrics, None) for plan in plans})
        return Runtime(self.clock, self._wheel, self.metrics, _Lines(self.log), protocols, clusters)

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
            await entry.home.end_tasks()
            await entry.stop()

    async def send(self, request: Request) -> Result:
        """Sends a request and waits for the end of the exchange. TimeoutError when that does not come."""
        self._upstream = []
        client = _Client(self._client_ip)
        exchange = ProxyExchange(self._runtime, self._options, client)
        exchange.protocol = PROTOCOL
        pieces = request.pieces
        exchange.on_request(_request_head(request), b"", not pieces)
        for number, piece in enumerate(pieces):
            await client.may_go_on()
            if not client.is_over.is_set():
                exchange.on_data(piece, number == len(pieces) - 1)
        async with asyncio.timeout(PATIENCE):
            await client.is_over.wait()
        return Result(client, self._upstream, exchange, self.log)

    async def advance(self, seconds: float) -> None:
        """Lets time pass for timeouts; what waits for the event loop has its turn too."""
        await _rounds()
        self.clock.now += seconds + 0.05
        self._wheel.advance()
        await _rounds()

    def counter(self, filter_name: str, key: str) -> int:
        """A counter of a filter: `calls`, `errors`, `skipped`, `timeouts`, or one of its own."""
        return int(self.metrics.group("filter", ("filter", filter_name)).counter(key).value)


async def send(filters: StreamFilter | Sequence[StreamFilter], request: Request, **wishes: Any) -> Result:
    """Sends one request through filters; starts and stops them. `wishes`: as `World` takes them."""
    world = World(filters, **wishes)
    await world.start()
    try:
        return await world.send(request)
    finally:
        await world.stop()


def run(filters: StreamFilter | Sequence[StreamFilter], request: Request, **wishes: Any) -> Result:
    """`send` for tests that are no coroutines."""
    return asyncio.run(send(filters, request, **wishes))


def make(kind: type[StreamFilter], config: Mapping[str, object] | None = None) -> StreamFilter:
    """A filter made as the proxy makes it: with its `Config`. Raises FilterConfigError for one that does not fit."""
    return kind(typed_config(kind.Config, dict(config or {})))


# ---- what stands in for the rest of the proxy


def _pieces(body: Body) -> list[bytes]:
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        return [body] if body else []
    return [piece.encode() if isinstance(piece, str) else piece for piece in body]


async def _rounds(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _request_head(request: Request) -> RequestHead:
    head = RequestHead()
    head.method = request.method
    head.path = request.path
    head.query = request.query
    head.headers = request.headers.copy()
    head.host = head.headers.get("host") or "test.example"
    head.content_length = len(request.body)
    if request.pieces:
        head.set_length(len(request.body) if request.is_sized else UNKNOWN_LENGTH)
    return head


class _StandingClock(Clock):
    def tick(self) -> float:
        return self.now


class _Lines(Log):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.level = TRACE
        self._lines = lines

    def write(self, level: int, text: str, alert: str = "") -> None:
        self._lines.append(text)


class _Ends(AccessLog):
    def log(self, exchange: Exchange) -> None:
        pass


class _Client(ResponseSender):
    """The client's end."""

    def __init__(self, ip: str) -> None:
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.trailers: Headers | None = None
        self.was_reset = False
        self.is_over = asyncio.Event()
        self._pauses = 0
        self._connection = Connection()
        self._connection.remote_ip = ip
        self._connection.remote_port = 50000
        self._connection.local_ip = "192.0.2.2"
        self._connection.local_port = 80

    async def may_go_on(self) -> None:
        """Waits as long as the proxy wants no more of the body."""
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            while self._pauses > 0 and not self.is_over.is_set():
                await asyncio.sleep(0)

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        pass

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.head = head
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data:
            self.pieces.append(data)

    def send_trailers(self, trailers: Headers) -> None:
        self.trailers = trailers

    def reset(self, failure: Failure) -> None:
        self.was_reset = True

    def release(self) -> None:
        self.is_over.set()

    def pause(self) -> None:
        self._pauses += 1

    def resume(self) -> None:
        self._pauses -= 1


Ask = Callable[[str, Request], Awaitable[Response]]


class _Protocol(StreamProtocol):
    def __init__(self, ask: Ask) -> None:
        super().__init__(ProtocolSpec(PROTOCOL, "", False))
        self._ask = ask

    def pool(self, upstream: Upstream, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return _Pool(self._ask, upstream.address.partition(":")[0])


class _Pool(ConnectionPool):
    def __init__(self, ask: Ask, cluster: str) -> None:
        self._ask = ask
        self._cluster = cluster

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        receiver.on_sender(_UpstreamStream(self._ask, self._cluster, receiver))

    def withdraw(self, receiver: ResponseReceiver) -> None:
        pass

    def close(self) -> None:
        pass


class _UpstreamStream(RequestSender):
    """One request at a made-up host."""

    def __init__(self, ask: Ask, cluster: str, receiver: ResponseReceiver) -> None:
        self._ask = ask
        self._cluster = cluster
        self._receiver = receiver
        self._connection = Connection()
        self._request = Request()
        self._task: asyncio.Task[None] | None = None
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def connection(self) -> Connection:
        return self._connection

    def is_reused(self) -> bool:
        return False

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        request = Request(head.method, f"{head.path}?{head.query}" if head.query else head.path)
        request.headers = head.headers.copy()
        self._request = request
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data:
            self._request.pieces.append(data)
        if end:
            self._task = asyncio.get_running_loop().create_task(self._reply())

    def send_trailers(self, trailers: Headers) -> None:
        self.send_data(b"", True)

    async def _reply(self) -> None:
        try:
            response = await self._ask(self._cluster, self._request)
        except Down as down:
            self._receiver.on_reset(down.failure)
            return
        head = ResponseHead(response.status, b"", response.headers.copy())
        pieces = response.pieces if self._request.method != "HEAD" else []
        if response.is_sized:
            head.set_length(sum(len(piece) for piece in pieces))
        whole = len(pieces) <= 1 and response.is_sized
        self._receiver.on_response(head, pieces[0] if whole and pieces else b"", whole)
        for piece in [] if whole else pieces:
            await self._may_go_on.wait()
            await asyncio.sleep(0)
            self._receiver.on_data(piece, False)
        if not whole:
            self._receiver.on_data(b"", True)

    def pause(self) -> None:
        self._may_go_on.clear()

    def resume(self) -> None:
        self._may_go_on.set()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
