"""One worker's data path within this process: a client, the real layers 2 to 4, an upstream, and no sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.network import Dialer, DialReceiver, NetworkFilter, Peer
from pymosn.api.routing import Route
from pymosn.api.stream import ListenerFacts
from pymosn.api.stream_filter import FilterContext, StreamFilter
from pymosn.api.tracer import Tracer
from pymosn.config.schema import ProxyConfig
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.forwarding import ForwardingOptions
from pymosn.core.log import Log
from pymosn.core.overload import OverloadState
from pymosn.core.timers import TimerWheel
from pymosn.filters.errors import describe
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.stream.registry import protocols
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan

#: Name of the only cluster.
SERVICE: Final = "service"
#: Timeout of a round, in seconds.
ROUND_TIMEOUT: Final = 60.0


class BenchError(Exception):
    """The measurement is impossible; the text is the reason."""


class Transport:
    """The event loop's side of a connection. Reports writes and the close."""

    def __init__(self, ip: str, on_write: Callable[[bytes], None], on_close: Callable[[], object]) -> None:
        self._peer = (ip, 50000)
        self._on_write = on_write
        self._on_close = on_close

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return {"peername": self._peer, "sockname": ("127.0.0.1", 80)}.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self._on_write(data)

    def writelines(self, parts: list[bytes]) -> None:
        self._on_write(parts[0])

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write_eof(self) -> None:
        self._on_close()

    def close(self) -> None:
        self._on_close()

    def abort(self) -> None:
        self._on_close()


class Ends(AccessLog):
    """Reports the end of each exchange."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        #: Number of exchanges by status; 0 for those without a response.
        self.statuses: dict[int, int] = {}

    def log(self, exchange: Exchange) -> None:
        status = 0 if exchange.response is None else int(exchange.response.status)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._on_end()


class Line(Dialer):
    """A client with one connection, a chain of filters, and an upstream with one connection; sequential requests.

    As the proxy's dialer it connects to the upstream immediately.
    """

    def __init__(
        self, filters: Mapping[str, StreamFilter], request: bytes, response: bytes, tracer: Tracer | None = None
    ) -> None:
        """`request`, `response`: the bytes that the client and the upstream send each time."""
        self.clock = Clock()
        self.metrics = Metrics()
        self._request = request
        self._response = response
        self._response_to_head = response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        self._wheel = TimerWheel(self.clock)
        self._numbers = ConnectionIds()
        runtime = self._make_runtime()
        runtime.tracer = tracer
        clients = ClusterClients(runtime)
        named = []
        for name, entry in filters.items():
            group = self.metrics.group("filter", ("filter", name))
            try:
                entry.context = FilterContext(name, runtime.log, clients, self.clock, group, all_metrics=self.metrics)
                named.append(FilterHandle(name, entry, self.metrics))
            except BaseException as error:  # of an attribute of its class
                raise BenchError(f"the filter failed to start: {describe(error)}") from error
        stats = DownstreamStats(self.metrics.group("downstream", ("listener", "bench")))
        self.ends = Ends(self._on_end)
        http1 = runtime.protocols.get("Http1")
        assert http1 is not None
        facts = ListenerFacts(idle_timeout=90.0, overload=OverloadState())
        options = ProxyOptions(
            listener_name="bench",
            protocols=[http1],
            protocol_options={"Http1": http1.options(ProxyConfig().extend_config.of("Http1"), facts)},
            slot=_slot(),
            filters=StreamFilters(named),
            stats=stats,
            access_logs=[self.ends],
            forwarding=ForwardingOptions(x_forwarded=False, x_request_id=False, trusts_peer=False, trusted_hops=0),
            reason_header=False,
            stream_idle_timeout=300.0,
            tunnel_idle_timeout=600.0,
            idle_timeout=90.0,
            detection_timeout=15.0,
        )
        listener = Listener("bench", "", ProxyFactory(runtime, options), stats, self._numbers, self.clock, self._wheel)
        self._client = listener._accept()
        self._upstream: TcpConnection | None = None
        self._left = 0
        # Whose turn it is: the upstream's or the client's.
        self._upstream_is_next = False
        self._client_is_next = True
        self._is_answered = self._is_head = False
        self._is_running = False
        self._end: asyncio.Future[None] | None = None
        transport = Transport("192.0.2.1", lambda data: None, self._on_client_closed)
        self._client.connection_made(transport)  # type: ignore[arg-type]

    def _make_runtime(self) -> Runtime:
        known = protocols()
        clusters = Clusters()
        runtime = Runtime(self.clock, self._wheel, self.metrics, Log(), known, clusters)
        kind = balancers().get("LB_ROUNDROBIN")
        assert kind is not None
        plan = ClusterPlan(SERVICE, (HostPlan("192.0.2.2:80"),), idle_timeout=60.0)
        maker = PoolMaker(known, self, self._wheel)
        clusters.activate({SERVICE: Cluster(plan, kind, maker, self.metrics, None)})
        return runtime

    async def run(self, count: int) -> float:
        """Sends `count` sequential requests and returns the seconds of CPU per request. Raises BenchError."""
        self._left = count
        self._end = asyncio.get_running_loop().create_future()
        started = time.process_time()
        self._pump()
        try:
            async with asyncio.timeout(ROUND_TIMEOUT):
                await self._end
        except TimeoutError:
            raise BenchError(
                f"no response within {ROUND_TIMEOUT:g} s: a filter waits for an event that cannot occur here"
            ) from None
        seconds = time.process_time() - started
        self._wheel.advance()
        return seconds / count

    def _pump(self) -> None:
        """Moves bytes until all requests are done, or the event loop is needed, as for an `async` filter."""
        self._is_running = True
        while True:
            if self._upstream_is_next:
                self._upstream_is_next = self._is_answered = (
                    False  # a filter's subrequest may have been the first of several
                )
                assert self._upstream is not None
                self._upstream.data_received(self._response_to_head if self._is_head else self._response)
            elif self._client_is_next and self._left > 0:
                self._left -= 1
                self._client_is_next = self._is_answered = False
                self._client.data_received(self._request)
            else:
                break
        self._is_running = False
        if self._client_is_next and self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _wake(self) -> None:
        if not self._is_running:
            self._is_running = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _on_end(self) -> None:
        self._client_is_next = True
        self._wake()

    def _on_client_closed(self) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_exception(BenchError("the proxy closed the client's connection: is the request valid?"))

    # ---- the upstream

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        connection = TcpConnection(self._numbers.next(), [network_filter], ConnectionOwner(), self.clock, self._wheel)
        lose = partial(asyncio.get_running_loop().call_soon, connection.connection_lost, None)
        transport = Transport("192.0.2.2", partial(self._on_upstream_bytes, connection), lose)
        connection.connection_made(transport)  # type: ignore[arg-type]
        receiver.on_dialed(connection)

    def _on_upstream_bytes(self, connection: TcpConnection, data: bytes) -> None:
        # The client's bytes all arrive in this iteration: the first ones schedule the response, which follows the last.
        if not self._is_answered:
            self._upstream = connection
            self._is_head = data.startswith(b"HEAD ")
            self._is_answered = self._upstream_is_next = True
            self._wake()


def _slot() -> TableSlot:
    slot = TableSlot("bench")
    slot.table = RouteTable("bench")
    slot.table.add(VirtualHost("bench", ["*"], [Route("bench", AnyRequest(), Forward(SERVICE, 60.0))]))
    return slot
