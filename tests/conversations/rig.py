"""The conversation rig: the real layers 2 to 4 between fake peers, on a fake clock.

A test reads as the talk: a client sends, a dial is expected, the upstream answers, the client receives. Every byte that a
peer received must be asked for by the test; what is left over fails it, and so does anything that leaks (`Talk.end`).

In `one_byte` mode everything that a peer sends arrives byte by byte. The bytes that come out must be the same, except that
chunks are cut differently; `merge_chunks` makes both sides comparable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from pymosn.api import StreamFilter
from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.network import Dialer, DialReceiver, FilterChainFactory, NetworkFilter
from pymosn.api.routing import Route
from pymosn.api.upstream import NO_CONSTRAINTS
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import CONNECT_REFUSED, CONNECT_TIMEOUT, Failure
from pymosn.core.log import TRACE, Log
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.listener import ConnectionNumbers, Listener
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.proxy.tcp_proxy import TcpFallback, TcpProxyFactory
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.registry import protocols
from pymosn.stream.rpc.options import RpcOptions
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster, Clusters, PoolMaker, make_cluster
from pymosn.upstream.plan import ClusterPlan, HostPlan, LimitPlan

#: The fake wall clock stands still at the example time of RFC 9110.
WALL = 784111777.0
DATE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


class FakeClock(Clock):
    """Moves when told."""

    def tick(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL


class Lines(Log):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.level = TRACE
        self.lines: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)


class Outcomes(AccessLog):
    """Keeps what became of each exchange."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def log(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


class FakeTransport:
    """The event loop's end of a connection. What it calls back, it calls later, as a loop does."""

    def __init__(self, talk: Talk, ip: str, port: int) -> None:
        self._talk = talk
        self._peer = (ip, port)
        self.protocol: TcpConnection | None = None
        self.received = b""
        self.is_stalled = False
        self.is_full = False
        self.waiting = b""
        self.high_water = 64 * 1024
        self.is_reading = True
        self.incoming: deque[bytes] = deque()
        self.has_eof = False
        self.sent_eof = False
        self.is_closing = False
        self.is_aborted = False
        self.is_lost = False

    # ---- what the connection calls

    def set_write_buffer_limits(self, high: int) -> None:
        self.high_water = high

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return {"peername": self._peer, "sockname": ("127.0.0.1", 2046)}.get(name)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.sent_eof, "written behind a FIN"
        if self.is_closing or self.is_lost:
            return
        if not self.is_stalled:
            self.received += data
            return
        self.waiting += data
        if len(self.waiting) > self.high_water and not self.is_full:
            self.is_full = True
            self._protocol().pause_writing()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        assert not self.is_lost
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_lost
        self.is_reading = True
        self._talk.later(self.pump)

    def write_eof(self) -> None:
        self.sent_eof = True

    def close(self) -> None:
        if not self.is_closing:
            self.is_closing = True
            if not self.waiting:
                self._talk.later(self.lose)

    def abort(self) -> None:
        self.is_closing = True
        self.is_aborted = True
        self.waiting = b""
        self._talk.later(self.lose)

    # ---- what the peer does

    def _protocol(self) -> TcpConnection:
        assert self.protocol is not None
        return self.protocol

    def pump(self) -> None:
        """Gives the connection what has come, as long as it reads."""
        while self.incoming and self.is_reading and not self.is_closing:
            self._protocol().data_received(self.incoming.popleft())
            self._talk.run_later()
        if self.has_eof and not self.incoming and self.is_reading and not self.is_closing:
            self.has_eof = False
            self._protocol().eof_received()

    def drain(self) -> None:
        """The peer takes everything."""
        self.is_stalled = False
        self.received += self.waiting
        self.waiting = b""
        if self.is_closing:
            self._talk.later(self.lose)
        elif self.is_full:
            self.is_full = False
            self._protocol().resume_writing()

    def lose(self, error: Exception | None = None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.is_closing = True
            self._protocol().connection_lost(error)


class Peer:
    """One end of a conversation: a client or an upstream."""

    def __init__(self, talk: Talk, name: str, ip: str, port: int) -> None:
        self.name = name
        self._talk = talk
        self.transport = FakeTransport(talk, ip, port)

    # ---- what it does

    def sends(self, data: bytes) -> None:
        """The bytes arrive at the proxy: all at once or one by one, as the mode says."""
        pieces = [data[at : at + 1] for at in range(len(data))] if self._talk.one_byte else [data]
        self.transport.incoming.extend(pieces)
        self._talk.do(self.transport.pump)

    def sends_whole(self, data: bytes) -> None:
        """The bytes arrive at once in either mode."""
        self.transport.incoming.append(data)
        self._talk.do(self.transport.pump)

    def shuts(self) -> None:
        """Sends a FIN: no more bytes, but it still reads."""
        self.transport.has_eof = True
        self._talk.do(self.transport.pump)

    def resets(self) -> None:
        """The connection is lost at once."""
        self._talk.do(self._lose)

    def _lose(self) -> None:
        self.transport.lose(ConnectionResetError(104, "Connection reset by peer"))

    def stalls(self) -> None:
        """Takes no more bytes."""
        self.transport.is_stalled = True

    def reads(self, size: int) -> None:
        """Takes `size` of the bytes that wait."""
        transport = self.transport
        transport.received += transport.waiting[:size]
        transport.waiting = transport.waiting[size:]

    def reads_on(self) -> None:
        """Takes everything that waits."""
        self._talk.do(self.transport.drain)

    # ---- what it sees

    def receives(self, expected: bytes) -> None:
        """Exactly these bytes have come since the last look."""
        found, self.transport.received = self.transport.received, b""
        if self._talk.one_byte:
            found, expected = merge_chunks(found), merge_chunks(expected)
        assert found == expected, f"{self.name} received\n{found!r}\nnot\n{expected!r}"

    def receives_nothing(self) -> None:
        self.receives(b"")

    def takes(self) -> bytes:
        """Whatever has come since the last look."""
        found, self.transport.received = self.transport.received, b""
        return found

    def is_closed(self) -> bool:
        """Whether the proxy closed after sending everything."""
        transport = self.transport
        return transport.is_lost and not transport.is_aborted

    def is_lingering(self) -> bool:
        """Whether the proxy sent a FIN and still reads."""
        return self.transport.sent_eof and not self.transport.is_closing

    def has_fin(self) -> bool:
        """Whether the proxy said that it sends no more, and keeps the connection."""
        return self.transport.sent_eof and not self.transport.is_closing

    def is_reset(self) -> bool:
        """Whether the proxy broke the connection off."""
        return self.transport.is_aborted

    def is_open(self) -> bool:
        """Whether the proxy keeps the connection."""
        return not self.transport.is_closing and not self.transport.sent_eof

    def is_read(self) -> bool:
        """Whether the proxy reads from this peer."""
        return self.transport.is_reading


class Dial:
    """A connection that the proxy asked for."""

    def __init__(
        self, talk: Talk, address: str, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._talk = talk
        self._filter = network_filter
        self._receiver = receiver

    def connects(self, stalled: bool = False, lost: bool = False, greeting: bytes = b"") -> Peer:
        """The connection is there. `stalled`: the upstream takes nothing. Before it is told of: `lost`, or a `greeting`."""
        talk = self._talk
        peer = Peer(talk, f"upstream {self.address}", self.address.partition(":")[0], 80)
        connection = TcpConnection(talk.numbers.next(), [self._filter], ConnectionOwner(), talk.clock, talk.wheel)
        peer.transport.protocol = connection
        peer.transport.is_stalled = stalled
        talk.upstreams.append(peer)
        talk.do(lambda: connection.connection_made(peer.transport))
        if lost:
            peer.resets()
        if greeting:
            peer.sends_whole(greeting)
        talk.do(lambda: self._receiver.on_dialed(connection))
        return peer

    def fails(self, failure: Failure) -> None:
        self._talk.do(lambda: self._receiver.on_dial_failed(failure, "as the test wishes"))


class FakeDialer(Dialer):
    """Keeps dials until the test answers them."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def dial(self, address: str, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        self._talk.dials.append(Dial(self._talk, address, timeout, network_filter, receiver))


def forward(cluster: str = "service", timeout: float = 60.0) -> list[Route]:
    """Routes that send everything to one cluster."""
    return [Route("all", AnyRequest(), Forward(cluster, timeout))]


class Talk:
    """One worker's data path with everybody it talks to."""

    def __init__(self, one_byte: bool = False, **wishes: Any) -> None:
        """`wishes`: routes, table, hosts and max_connections of the cluster `service`, plan and other_plan (keywords of the
        ClusterPlan of `service` and of `other`), filters (by name), http1, and keywords of ProxyOptions.

        For RPC: protocols (names, tried in their order), rpc (RpcOptions), fallback (a NetworkFilterFactory).
        tcp: keywords of TcpOptions for a listener with only `tcp_proxy`, or with several protocols for that as fallback.
        """
        self.one_byte = one_byte
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.log = Lines()
        self.outcomes = Outcomes()
        self.numbers = ConnectionNumbers()
        self.dials: list[Dial] = []
        self.clients: list[Peer] = []
        self.upstreams: list[Peer] = []
        self._later: deque[Callable[[], None]] = deque()
        self._loop = asyncio.new_event_loop()
        known = protocols()
        self.clusters = Clusters()
        self.runtime = Runtime(self.clock, self.wheel, self.metrics, self.log, known, self.clusters)
        self.maker = PoolMaker(known, FakeDialer(self), self.wheel)
        names = ("service", "other")
        # Keywords of ClusterPlan.
        self._plans: dict[str, dict[str, Any]] = {
            "service": {"limits": LimitPlan(connections=wishes.pop("max_connections", 0)), **wishes.pop("plan", {})},
            "other": wishes.pop("other_plan", {}),
        }
        hosts = wishes.pop("hosts", ["10.0.0.1:80"])
        self.clusters.activate(
            {name: self._cluster(name, hosts if name == "service" else ["10.0.1.1:80"]) for name in names}
        )
        for cluster in self.clusters.by_name.values():
            while cluster.hosts and cluster.balancer.choose(NO_CONSTRAINTS) is not cluster.hosts[-1]:
                pass  # the first host is the next
        self.slot = TableSlot("table")
        self.slot.table = wishes.pop("table", None) or self._table(wishes.pop("routes", None) or forward())
        self.stats = DownstreamStats(self.metrics.group("downstream", ("listener", "l")))
        filters = [FilterHandle(name, entry, self.metrics) for name, entry in wishes.pop("filters", {}).items()]
        spoken = wishes.pop("protocols", ["Http1"])
        for extra in wishes.pop("extra_protocols", []):
            known.add(extra.spec.name, extra)
        rpc = wishes.pop("rpc", None) or RpcOptions()
        http1 = wishes.pop("http1", None) or Http1Options()
        fallback = wishes.pop("fallback", None)
        options = ProxyOptions(
            "l",
            [known.get(name) for name in spoken],
            {name: http1 if name == "Http1" else rpc for name in spoken},
            self.slot,
            StreamFilters(filters),
            self.stats,
            [self.outcomes],
            wishes.pop("x_forwarded", False),
            wishes.pop("x_request_id", False),
            wishes.pop("reason_header", False),
            wishes.pop("stream_idle_timeout", 300.0),
            trusts_peer=wishes.pop("trusts_peer", False),
            tunnel_idle_timeout=wishes.pop("tunnel_idle_timeout", 600.0),
            trusted_hops=wishes.pop("trusted_hops", 0),
            detection_timeout=wishes.pop("detection_timeout", 15.0),
        )
        tcp = wishes.pop("tcp", None)
        assert not wishes, f"unknown wishes {wishes}"
        factory: FilterChainFactory = ProxyFactory(self.runtime, options, fallback)
        if tcp is not None:
            bytes_options = TcpOptions(
                "l", tcp.pop("cluster", "service"), tcp.pop("routes", []), self.stats, [self.outcomes], **tcp
            )
            factory = TcpProxyFactory(self.runtime, bytes_options)
            if len(spoken) > 1:
                factory = ProxyFactory(self.runtime, options, TcpFallback(self.runtime, bytes_options))
        self.listener = Listener("l", "", factory, self.stats, self.numbers, self.clock, self.wheel)

    def _cluster(self, name: str, addresses: list[str]) -> Cluster:
        plan = ClusterPlan(name, tuple(HostPlan(address) for address in addresses), idle_timeout=60.0)
        plan = plan._replace(**self._plans[name])
        kind = balancers().get(plan.balancing.lb_type)
        assert kind is not None
        return make_cluster(plan, kind, self.maker, self.metrics, None)

    def change(self, name: str, **wishes: Any) -> None:
        """Puts another plan of a cluster in force, as a change at run time does; `wishes`: keywords of ClusterPlan."""
        before = self.clusters.by_name[name]
        plan = before.plan._replace(**wishes)
        kind = balancers().get(plan.balancing.lb_type)
        assert kind is not None
        cluster = make_cluster(plan, kind, self.maker, self.metrics, before)
        self.do(lambda: self.clusters.activate({**self.clusters.by_name, name: cluster}))

    def _table(self, routes: list[Route]) -> RouteTable:
        table = RouteTable("table")
        table.add(VirtualHost("everything", ["*"], routes))
        return table

    # ---- the fake event loop

    def later(self, callback: Callable[[], None]) -> None:
        """What an event loop would do in its next round."""
        self._later.append(callback)

    def run_later(self) -> None:
        while self._later:
            self._later.popleft()()

    def do(self, action: Callable[[], None]) -> None:
        """Lets one thing happen, and all that follows from it."""
        self._loop.run_until_complete(self._do(action))

    async def _do(self, action: Callable[[], None]) -> None:
        await self._call(action)
        for _ in range(4):  # a task needs a few rounds to start, return and tell
            await self._call(self.run_later)

    def _call(self, action: Callable[[], None]) -> asyncio.Future[None]:
        """Calls `action` as the loop calls what hears of a socket: in the next round, and inside no task."""
        done = self._loop.create_future()
        self._loop.call_soon(self._settle, action, done)
        return done

    def _settle(self, action: Callable[[], None], done: asyncio.Future[None]) -> None:
        try:
            action()
            self.run_later()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def pass_rounds(self, count: int) -> None:
        """Lets tasks go on for some rounds of the loop."""
        for _ in range(count):
            self.do(lambda: None)

    # ---- who talks

    def connect(self, ip: str = "192.0.2.7") -> Peer:
        """A client connects."""
        peer = Peer(self, f"client {len(self.clients) + 1}", ip, 40000)
        connection = self.listener._accept()
        peer.transport.protocol = connection
        self.clients.append(peer)
        self.do(lambda: connection.connection_made(peer.transport))
        return peer

    def expect_dial(self, address: str = "10.0.0.1:80") -> Peer:
        """The proxy dials `address`, and gets its connection."""
        return self.hold_dial(address).connects()

    def hold_dial(self, address: str = "10.0.0.1:80") -> Dial:
        """The proxy dials `address`; the test says later what becomes of it."""
        assert self.dials, f"no dial to {address}"
        dial = self.dials.pop(0)
        assert dial.address == address
        return dial

    def refuse_dial(self, address: str = "10.0.0.1:80") -> None:
        self.hold_dial(address).fails(CONNECT_REFUSED)

    def time_out_dial(self, address: str = "10.0.0.1:80") -> None:
        self.hold_dial(address).fails(CONNECT_TIMEOUT)

    def expect_no_dial(self) -> None:
        assert not self.dials, f"unexpected dial to {self.dials[0].address}"

    def advance(self, seconds: float) -> None:
        """Time passes, in steps of at most half a second."""
        left = seconds
        while left > 0.0:
            step = min(left, 0.5)
            left -= step
            self.clock.now += step
            self.do(self.wheel.advance)
        self.clock.now += 0.04  # the wheel may be a slot late
        self.do(self.wheel.advance)

    def drain(self) -> None:
        """The worker is about to stop."""
        self.do(self.listener.drain)

    # ---- what is known of it

    def counters(self) -> dict[str, int]:
        """The listener's counters and gauges that are not 0."""
        data = self.metrics.group("downstream", ("listener", "l")).data()
        return {key: value for key, value in {**data["counters"], **data["gauges"]}.items() if value}

    def upstream_counters(self, cluster: str = "service") -> dict[str, int]:
        data = self.metrics.group("upstream", ("cluster", cluster)).data()
        return {key: value for key, value in {**data["counters"], **data["gauges"]}.items() if value}

    def mirror_counters(self, cluster: str = "other") -> dict[str, int]:
        """What is counted of the copies for a cluster, without zeros."""
        return {key: value for key, value in self.upstream_counters(cluster).items() if key.startswith("mirror")}

    def filter_errors(self, name: str) -> int:
        return int(self.metrics.group("filter", ("filter", name)).counter("errors").value)

    def reasons(self) -> list[str]:
        """The failure word of each finished exchange; `ok` for one that did not fail."""
        return [exchange.failure.reason if exchange.failure else "ok" for exchange in self.outcomes.exchanges]

    # ---- the end

    def end(self) -> None:
        """Everybody leaves: nothing may be left over, unasked for, or counted wrong."""
        try:
            for peer in self.clients + self.upstreams:
                assert peer.transport.received == b"", f"{peer.name} received, unasked for: {peer.transport.received!r}"
            self.expect_no_dial()
            for peer in self.clients:
                peer.resets()
            self._check_exchanges()
            for peer in self.upstreams:
                if not peer.transport.is_lost:
                    assert peer.transport.is_reading or peer.transport.is_closing, f"{peer.name} was left paused"
            clusters = list(self.clusters.by_name.values())
            self.do(lambda: self.clusters.activate({}))
            self.advance(40.0)
            self._check_connections(clusters)
        finally:
            self._loop.close()

    def forget(self) -> None:
        """Everybody leaves in place of `end`, and the rig knows nothing of them any more."""
        for peer in self.clients + self.upstreams:
            peer.resets()
        for known in (self.clients, self.upstreams, self.outcomes.exchanges):
            known.clear()
        self._loop.close()

    def _check_exchanges(self) -> None:
        counters = self.counters()
        assert "request_active" not in counters
        assert "tcp_active" not in counters
        ended = sum(counters.get(name, 0) for name in ("request_total", "connection_refused", "tcp_total"))
        assert ended == len(self.outcomes.exchanges), "an exchange has not ended exactly once"
        for cluster in ("service", "other"):
            assert "request_active" not in self.upstream_counters(cluster), "an attempt leaks"
        # Each open upstream connection has one, and so has a cluster that forgets idle hosts.
        timers = len([peer for peer in self.upstreams if not peer.transport.is_lost])
        timers += len([cluster for cluster in self.clusters.by_name.values() if cluster.original is not None])
        assert len(self.wheel) <= timers, "a timer leaks"

    def _check_connections(self, clusters: list[Cluster]) -> None:
        for peer in self.upstreams:
            assert peer.transport.is_lost, f"{peer.name} is still open"
        assert "connection_active" not in self.counters()
        for name in ("service", "other"):
            assert "connection_active" not in self.upstream_counters(name)
        assert len(self.wheel) == 0
        for cluster in clusters:
            limits = cluster.limits
            for limit in (limits.connections, limits.pending, limits.requests, limits.retries):
                assert limit.active == 0, "a limit leaks"


def merge_chunks(data: bytes) -> bytes:
    """The same messages with the chunks of each chunked body made one; what is no complete message stays as it is."""
    out = b""
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        out += head + separator
        if not separator:
            break
        if b"transfer-encoding: chunked" in head.lower():
            body, data = _merge_body(rest)
            out += body
        elif b"HTTP/1.1" in rest:
            start = _next_message(rest)
            out, data = out + rest[:start], rest[start:]
        else:
            out, data = out + rest, b""
    return out


def _next_message(rest: bytes) -> int:
    """Where the next head may begin: bodies of these tests do not hold a version."""
    version = rest.index(b"HTTP/1.1")
    line = rest[:version]
    for method in (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE "):
        if method in line:
            return line.rindex(method)
    return version


def _merge_body(rest: bytes) -> tuple[bytes, bytes]:
    content = b""
    while True:
        line, separator, behind = rest.partition(b"\r\n")
        if not separator:
            return content + b"|" + line, b""
        size = int(line, 16)
        if size == 0:
            trailers, _, after = (
                rest[len(line) + 2 :].partition(b"\r\n") if behind[:2] == b"\r\n" else behind.partition(b"\r\n\r\n")
            )
            return b"%x|" % len(content) + content + b"|0|" + trailers + b"\r\n", after
        if len(behind) < size + 2:
            return content + b"|" + rest, b""
        content += behind[:size]
        rest = behind[size + 2 :]


class Recorder(StreamFilter):
    """Keeps the exchanges whose end it was told, to count how often."""

    def __init__(self) -> None:
        super().__init__({})
        self.completed: list[Exchange] = []

    def on_complete(self, exchange: Exchange) -> None:
        self.completed.append(exchange)
