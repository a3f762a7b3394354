"""The conversation rig: the real layers 2 to 4 between fake peers, on a fake clock.

A test reads as the talk: a client sends, a dial is expected, the upstream answers, the client receives. Every byte that a
peer received must be asked for by the test; bytes left over fail it, and so does anything that leaks (`Talk.end`).

In `one_byte` mode everything that a peer sends arrives byte by byte. The bytes that come out must be the same, except that
chunks are cut differently; `merge_chunks` makes both sides comparable.

With `over`, peers speak HTTP/1 text with the test and, on either side, HTTP/1 or HTTP/2 with the proxy (`h2_text.py`).
Conversations about HTTP/2 itself use the peers of `h2_peers.py` instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.kit import certificates
from tests.kit.fakes import FakeClock, Lines, Outcomes
from tests.kit.h2_text import TextClient, TextDialer, TextPeer
from tests.kit.messages import WALL
from tests.kit.options import http2_options, http_options, proxy_options, rpc_options, tcp_options
from tests.kit.peers import Dial, FakeDialer, Peer
from tests.kit.transport import FakeLoop

from pymosn.api import ConnectionFilter, StreamFilter
from pymosn.api.alpn import AlpnOffers
from pymosn.api.network import NO_CONNECTION, Connection, FilterChainFactory, NetworkFilterFactory
from pymosn.api.routing import Route
from pymosn.api.stream import StreamProtocol
from pymosn.api.stream_filter import FilterContext
from pymosn.api.tls import TlsInfo
from pymosn.api.upstream import NO_CONSTRAINTS
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import CONNECT_REFUSED, CONNECT_TIMEOUT
from pymosn.core.forwarding import CERT_BY_TRUST
from pymosn.core.headers import NO_HEADERS
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.core.uri import STRICT_PATHS
from pymosn.network.chain_match import ChainConditions
from pymosn.network.connection import TcpConnection
from pymosn.network.filter_chains import Chain, FilterChains
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.tls.contexts import ServerContext, ServerContexts, server_context
from pymosn.network.tls.gate import HandshakeGate
from pymosn.network.tls.settings import ServerSettings, TlsSettings
from pymosn.protocol.http.policy import STRICT
from pymosn.proxy.connection_filters import ConnectionFilterHandle, ConnectionFilters, FilteredChain
from pymosn.proxy.filtered_chain import FilteredChainFactory
from pymosn.proxy.local_replies import LocalReplies
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.proxy.tcp_proxy import TcpFallback, TcpProxyFactory
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.stream.http.options import HttpOptions
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.registry import protocols as known_protocols
from pymosn.stream.rpc.options import RpcOptions
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan, LimitPlan

#: The first host of the cluster `service`.
HOST = "10.0.0.1:80"


def forward(cluster: str = "service", timeout: float = 60.0) -> list[Route]:
    """Routes that send everything to one cluster."""
    return [Route("all", AnyRequest(), Forward(cluster, timeout))]


def table_of(routes: Sequence[Route]) -> RouteTable:
    """A table with one virtual host for every name."""
    table = RouteTable("table")
    table.add(VirtualHost("everything", ["*"], list(routes)))
    return table


class Talk:
    """One worker's data path with all its peers."""

    def __init__(
        self,
        *,
        one_byte: bool = False,
        is_secure: bool = False,
        over: tuple[str, str] | None = None,
        routes: Sequence[Route] | None = None,
        table: RouteTable | None = None,
        hosts: Sequence[str] = (HOST,),
        max_connections: int = 0,
        upstream_protocol: str = "",
        plan: Mapping[str, Any] | None = None,
        other_plan: Mapping[str, Any] | None = None,
        filters: Mapping[str, StreamFilter] | None = None,
        disabled: Sequence[str] = (),
        connection_filters: Mapping[str, type[ConnectionFilter]] | None = None,
        connection_config: Any = None,
        is_alone: bool = False,
        protocols: Sequence[str] = ("Http1",),
        extra_protocols: Sequence[StreamProtocol] = (),
        http1: HttpOptions | None = None,
        http2: Http2Options | None = None,
        rpc: RpcOptions | None = None,
        tcp: Mapping[str, Any] | None = None,
        fallback: NetworkFilterFactory | None = None,
        x_forwarded: bool = False,
        x_request_id: bool = False,
        reason_header: bool = False,
        envoy_statuses: bool = False,
        trusts_peer: bool = False,
        trusted_hops: int = 0,
        client_cert: int = int(CERT_BY_TRUST),
        forwarding: Mapping[str, Any] | None = None,
        stream_idle_timeout: float = 300.0,
        tunnel_idle_timeout: float = 600.0,
        detection_timeout: float = 15.0,
        local_replies: LocalReplies | None = None,
        empty_failures: bool = False,
        longest_exchange: float = 0.0,
        offers: AlpnOffers | None = None,
    ) -> None:
        """`is_secure`: clients speak TLS. `over`: the protocol of the clients and of the upstreams, if not HTTP/1 alone.

        `routes`: all to the cluster `service` unless given; `table`: a whole table instead.

        `hosts`, `max_connections`: of the cluster `service`; `upstream_protocol`: of both. `plan`, `other_plan`: keywords
        of the ClusterPlan of `service` and of `other`. `filters`: by name; `disabled`: those that routes enable.
        `connection_filters`: by name, all with `connection_config`; `is_alone`: no other filter follows them. `protocols`:
        names, in the order in which they are detected; `extra_protocols`: ones that are not built in.

        `tcp`: keywords of TcpOptions for a listener with only `tcp_proxy`; with several protocols, for `tcp_proxy` as their
        fallback. `fallback`: another network filter for connections in no known protocol.

        The others are keywords of ProxyOptions.
        """
        self.one_byte = one_byte
        self.is_secure = is_secure
        self.over = over
        self.loop = FakeLoop()
        self.clock = FakeClock(wall_time=WALL)
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.log = Lines()
        self.outcomes = Outcomes()
        self.numbers = ConnectionIds()
        speaks_http2 = over is not None and over[1] == "Http2"
        kind = FakeDialer if over is None else TextDialer
        dialer = kind(self.loop, self.numbers, self.clock, self.wheel, one_byte)
        dialer.speaks_http2 = speaks_http2
        self._dialer = dialer
        self.dials: list[Dial] = dialer.dials
        self.names = dialer.names
        self.upstreams: list[Peer] = dialer.upstreams
        self.clients: list[Peer] = []
        known = known_protocols()
        for extra in extra_protocols:
            known.add(extra.spec.name, extra)
        self.clusters = Clusters()
        self.runtime = Runtime(self.clock, self.wheel, self.metrics, self.log, known, self.clusters)
        self.maker = PoolMaker(known, dialer, self.wheel, log=self.log)
        chosen = {"upstream_protocol": upstream_protocol or (over[1] if over is not None else "")}
        chosen = {key: value for key, value in chosen.items() if value}
        own = {"limits": LimitPlan(connections=max_connections), **chosen, **(plan or {})}
        self._add_clusters(hosts, own, {**chosen, **(other_plan or {})})
        self.slot = TableSlot("table")
        self.slot.table = table or table_of(routes or forward())
        self.stats = DownstreamStats(self.metrics.group("downstream", ("listener", "l")))
        if over is not None and over[0] == "Http2":
            protocols = ["Http2" if name == "Http1" else name for name in protocols]
        made: dict[str, object] = {"Http1": http1 or http_options(), "Http2": http2 or http2_options(http1)}
        options = proxy_options(
            listener_name="l",
            protocols=[_protocol(known, name) for name in protocols],
            protocol_options={name: made.get(name, rpc or rpc_options()) for name in protocols},
            slot=self.slot,
            filters=StreamFilters(
                [
                    FilterHandle(name, entry, self.metrics, route_name=name, is_disabled=name in disabled)
                    for name, entry in (filters or {}).items()
                ]
            ),
            stats=self.stats,
            access_logs=[self.outcomes],
            x_forwarded=x_forwarded,
            x_request_id=x_request_id,
            reason_header=reason_header,
            envoy_statuses=envoy_statuses,
            stream_idle_timeout=stream_idle_timeout,
            trusts_peer=trusts_peer,
            tunnel_idle_timeout=tunnel_idle_timeout,
            trusted_hops=trusted_hops,
            client_cert=client_cert,
            forwarding=forwarding,
            detection_timeout=detection_timeout,
            local_replies=local_replies,
            empty_failures=empty_failures,
            longest_exchange=longest_exchange,
            offers=offers,
            paths=STRICT_PATHS if http1 is None or http1.policy is STRICT else http1.policy,
        )
        factory = self._factory(options, fallback, tcp)
        self.handles = self._connection_handles(connection_filters or {}, connection_config)
        if self.handles:
            filtered = ConnectionFilters(self.handles)
            inner = None if is_alone else factory
            chain = FilteredChain(filtered, inner, self.stats, [self.outcomes], idle_timeout=90.0)
            factory = FilteredChainFactory(self.runtime, chain)
        if is_secure:
            factory = self._secured(factory)
        self.listener = Listener("l", "", factory, self.stats, self.numbers, self.clock, self.wheel)

    def _factory(
        self, options: ProxyOptions, fallback: NetworkFilterFactory | None, tcp: Mapping[str, Any] | None
    ) -> FilterChainFactory:
        """What makes the network filters of the listener's connections."""
        if tcp is None:
            return ProxyFactory(self.runtime, options, fallback)
        rest = {"cluster": "service", "routes": [], **tcp}
        bytes_options = tcp_options(listener_name="l", stats=self.stats, access_logs=[self.outcomes], **rest)
        if len(options.protocols) == 1:
            return TcpProxyFactory(self.runtime, bytes_options)
        return ProxyFactory(self.runtime, options, TcpFallback(self.runtime, bytes_options))

    def _secured(self, factory: FilterChainFactory) -> FilterChainFactory:
        """The same behind TLS."""
        contexts = ServerContexts([_server_context()])
        options = {"speaks_http": True, "speaks_first": False, "reads_hello": False}
        chain = Chain("", ChainConditions(), factory, contexts, **options)
        return FilterChains(
            [chain],
            self.stats,
            before=[],
            gate=HandshakeGate(),
            inspector=False,
            handshake_timeout=10.0,
            idle_timeout=90.0,
        )

    def _connection_handles(
        self, filters: Mapping[str, type[ConnectionFilter]], config: Any
    ) -> list[ConnectionFilterHandle]:
        handles = []
        for name, kind in filters.items():
            shared = kind.Shared(config)
            group = self.metrics.group("filter", ("filter", name))
            shared.context = FilterContext(name, self.log, {}, self.clock, group)
            handles.append(ConnectionFilterHandle(name, kind, shared, self.metrics))
        return handles

    # ---- clusters

    def _add_clusters(self, hosts: Sequence[str], plan: Mapping[str, Any], other_plan: Mapping[str, Any]) -> None:
        plans = [_plan("service", hosts)._replace(**plan), _plan("other", ["10.0.1.1:80"])._replace(**other_plan)]
        self.clusters.activate({plan.name: self._cluster(plan, None) for plan in plans})
        for cluster in self.clusters.by_name.values():
            while cluster.hosts and cluster.balancer.choose(NO_CONSTRAINTS) is not cluster.hosts[-1]:
                pass  # the first host is the next

    def _cluster(self, plan: ClusterPlan, before: Cluster | None) -> Cluster:
        kind = balancers().get(plan.balancing.lb_type)
        assert kind is not None
        return Cluster(plan, kind, self.maker, self.metrics, before)

    def change(self, name: str, **keywords: Any) -> None:
        """Activates another plan of a cluster, as a change at run time does; `keywords`: of ClusterPlan."""
        before = self.clusters.by_name[name]
        cluster = self._cluster(before.plan._replace(**keywords), before)
        self.do(lambda: self.clusters.activate({**self.clusters.by_name, name: cluster}))

    # ---- the fake event loop

    def do(self, action: Callable[[], None]) -> None:
        """Lets one thing happen, and everything that follows from it."""
        self.loop.do(action)

    def later(self, callback: Callable[[], None]) -> None:
        """Calls `callback` in the loop's next iteration."""
        self.loop.later(callback)

    def run_later(self) -> None:
        """Runs the loop's next iteration now."""
        self.loop.run_later()

    def pass_rounds(self, count: int) -> None:
        """Lets tasks continue for some iterations of the loop."""
        for _ in range(count):
            self.do(lambda: None)

    # ---- the peers

    def connect(self, ip: str = "192.0.2.7", tls: TlsInfo | None = None) -> Peer:
        """A client connects; `tls`: the facts of its connection, if the listener has TLS."""
        name = f"client {len(self.clients) + 1}"
        kind = Peer if self.over is None or self.over[0] == "Http2" else TextPeer
        peer = kind(self.loop, name, ip, 40000, self.one_byte, self.is_secure)
        accepted: list[TcpConnection] = []
        self.do(lambda: accepted.append(self.listener._accept()))
        if tls is not None:
            accepted[0].tls = tls
            accepted[0].scheme = "https" if tls.version else "http"
        peer.transport.carry(accepted[0])
        if self.over is not None and self.over[0] == "Http2":
            peer = TextClient(peer, accepted[0].scheme)
        self.clients.append(peer)
        return peer

    def opening(self, request: bytes, address: str = HOST, ip: str = "192.0.2.7") -> tuple[Peer, Peer]:
        """A client connects and sends `request`, for which the proxy dials `address`. Returns client and upstream."""
        client = self.connect(ip)
        client.sends(request)
        return client, self.expect_dial(address)

    def forwarded(
        self, request: bytes, received: bytes | None = None, address: str = HOST, ip: str = "192.0.2.7"
    ) -> tuple[Peer, Peer]:
        """An `opening` whose upstream receives exactly `received`: the request unchanged unless given."""
        client, upstream = self.opening(request, address, ip)
        upstream.receives(request if received is None else received)
        return client, upstream

    def expect_dial(self, address: str = HOST) -> Peer:
        """The proxy dials `address`, and the connection opens; or it sends a request on one that is open already."""
        return self._dialer.next_stream(address) or self.hold_dial(address).connects()

    def hold_dial(self, address: str = HOST) -> Dial:
        """The proxy dials `address`; the test answers the dial later."""
        assert self.dials, f"no dial to {address}"
        dial = self.dials.pop(0)
        assert dial.address == address
        return dial

    def refuse_dial(self, address: str = HOST) -> None:
        self.hold_dial(address).fails(CONNECT_REFUSED)

    def time_out_dial(self, address: str = HOST) -> None:
        self.hold_dial(address).fails(CONNECT_TIMEOUT)

    def expect_no_dial(self) -> None:
        assert not self.dials, f"unexpected dial to {self.dials[0].address}"
        self._dialer.expect_no_stream()

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

    # ---- counters and outcomes

    def counters(self) -> dict[str, int]:
        """The listener's counters and gauges that are not 0, without those of handshakes."""
        data = self.metrics.group("downstream", ("listener", "l")).data()
        found = {**data["counters"], **data["gauges"]}
        return {key: value for key, value in found.items() if value and not key.startswith("tls_handshake_t")}

    def upstream_counters(self, cluster: str = "service") -> dict[str, int]:
        data = self.metrics.group("upstream", ("cluster", cluster)).data()
        return {key: value for key, value in {**data["counters"], **data["gauges"]}.items() if value}

    def mirror_counters(self, cluster: str = "other") -> dict[str, int]:
        """The counters of mirrored requests to a cluster that are not 0."""
        return {key: value for key, value in self.upstream_counters(cluster).items() if key.startswith("mirror")}

    def filter_errors(self, name: str) -> int:
        return int(self.metrics.group("filter", ("filter", name)).counter("errors").value)

    def reasons(self) -> list[str]:
        """The failure word of each finished exchange; `ok` for one that did not fail."""
        return self.outcomes.reasons()

    # ---- the end

    def end(self) -> None:
        """All peers leave: nothing may be left over, unexpected, or counted wrong."""
        try:
            for peer in self.clients + self.upstreams:
                assert peer.left() == b"", f"{peer.name} received, unasked for: {peer.left()!r}"
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
            assert _attributes(NO_CONNECTION) == _attributes(Connection()), "something was written to NO_CONNECTION"
            assert len(NO_HEADERS) == 0, "something was written to NO_HEADERS"
            assert self.loop.faults == [], "an error reached the event loop"
            assert len(self.loop.context) == 0, "a filter's context variable is set in the context of the connections"
        finally:
            self.loop.close()

    def forget(self) -> None:
        """Replaces `end`: all peers leave, and the rig keeps no reference to them."""
        for peer in self.clients + self.upstreams:
            peer.resets()
            peer.transport.protocol = None  # peers with HTTP/2 have cycles of their own
        for known in (self.clients, self.upstreams, self.outcomes.exchanges):
            known.clear()
        self.loop.close()

    def _check_exchanges(self) -> None:
        counters = self.counters()
        assert "request_active" not in counters
        assert "tcp_active" not in counters
        ended = sum(counters.get(name, 0) for name in ("request_total", "connection_refused", "tcp_total"))
        assert ended == len(self.outcomes.exchanges), "an exchange has not ended exactly once"
        assert all(handle.in_use == 0 for handle in self.handles), "an object of a connection filter leaks"
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


@functools.cache
def _server_context() -> ServerContext:
    own = certificates.server()
    return server_context(ServerSettings(TlsSettings(certificate=own.certificate, key=own.key)))


def _protocol(known: Registry[StreamProtocol], name: str) -> StreamProtocol:
    protocol = known.get(name)
    assert protocol is not None, f"unknown protocol {name}"
    return protocol


def _plan(name: str, addresses: Sequence[str]) -> ClusterPlan:
    return ClusterPlan(name, tuple(HostPlan(address) for address in addresses), idle_timeout=60.0)


def _attributes(connection: Connection) -> dict[str, object]:
    """The attributes of a connection, compiled or not."""
    names = [name for name in dir(connection) if not name.startswith("__")]
    return {name: value for name in names if not callable(value := getattr(connection, name))}
