"""The `udp_proxy` network filter: forwards the datagrams of each client to a host, and the host's datagrams back.

A session chooses its cluster and host when it begins. It ends when it is idle, when the host answers with an ICMP error, or
when the host is removed or found unhealthy; the client's next datagram then begins another one, on another host if there is.
For the access log a session is one exchange.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import Context
from typing import Final

from mypy_extensions import i32, i64

from pymosn.api.exchange import Exchange
from pymosn.api.network import NO_CONNECTION, PlainTransport
from pymosn.api.upstream import Host, Selection
from pymosn.core.addresses import UNIX, normal_ip, split_address
from pymosn.core.failure import (
    CLUSTER_UNKNOWN,
    CONNECT_FAILED,
    CONNECT_TIMEOUT,
    LOOP,
    NO_DESCRIPTORS,
    NO_HOSTS,
    NO_ROUTE,
    OVERFLOW,
    Failure,
)
from pymosn.core.log import ERROR, WARN
from pymosn.core.overload import SHED
from pymosn.network.admission import SHORTAGES
from pymosn.network.datagram_session import DatagramSession, SessionFactory, SessionState
from pymosn.network.datagrams import DatagramPort, Source, connected_socket
from pymosn.network.happy_eyeballs import Refused, permitted, text_of
from pymosn.proxy.accounting import log_prefix
from pymosn.proxy.attempts import UNASKED_ATTEMPTS
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.proxy.upstream_request import BROKEN
from pymosn.routing.hashing import select_by_source
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost

#: The protocol in the access log.
PROTOCOL: Final = "udp"
#: Clients whose last host is remembered, because it has failed.
REMEMBERED: Final = 1024
#: Sessions of a listener that wait for the name of a host to be resolved.
RESOLVING: Final = 256
#: Seconds between two lines in the process log about sessions that cannot begin.
LOG_PERIOD: Final = 1.0

#: The exchange of a session that is over: shared, never written to.
_NO_EXCHANGE: Final = Exchange(NO_CONNECTION)


class UdpProxy(SessionFactory):
    """The `udp_proxy` of one listener."""

    def __init__(
        self,
        runtime: Runtime,
        options: TcpOptions,
        max_sessions: i64,
        max_sessions_per_client: i64,
        max_reply_ratio: i64 = 0,
    ) -> None:
        """`options`: `idle_timeout` must not be 0. `max_reply_ratio`: bytes to a client per byte from it; 0 is no limit."""
        super().__init__(max_sessions, max_sessions_per_client)
        self.runtime = runtime
        self.options = options
        self.max_reply_ratio: i64 = max_reply_ratio
        self.tasks: set[asyncio.Task[None]] = set()
        # The host of a client's last session, if it has failed.
        self._failed: dict[object, Host] = {}
        self._next_line = 0.0

    def create(self, port: DatagramPort, source: Source, id: i64) -> DatagramSession:
        return UdpSession(self, port, source, id)

    def is_shedding(self) -> bool:
        return self.runtime.overload.level >= SHED

    def remember_failed(self, key: object, host: Host) -> None:
        """The next session of a client should have another host."""
        failed = self._failed
        if len(failed) >= REMEMBERED:
            del failed[next(iter(failed))]
        failed[key] = host

    def take_failed(self, key: object) -> Host | None:
        """The host that the last session of a client had, if it has failed."""
        return self._failed.pop(key, None) if self._failed else None

    def log(self, exchange: Exchange, failure: Failure, detail: str) -> None:
        """Writes why a session failed to the process log, but not for every datagram of a flood."""
        now, log = self.runtime.clock.now, self.runtime.log
        if now >= self._next_line and log.level <= WARN:
            self._next_line = now + LOG_PERIOD
            where = f"{self.options.listener_name} to {exchange.cluster_name or '-'}"
            text = f"{log_prefix(exchange)} udp_proxy {where}: {failure.reason} ({detail})"
            log.write(ERROR if failure.alert else WARN, text, failure.alert)


class UdpSession(DatagramSession):
    """One client's session with one host."""

    def __init__(self, proxy: UdpProxy, port: DatagramPort, source: Source, id: i64) -> None:
        super().__init__(port, source, id)
        self.idle_timeout = proxy.options.idle_timeout
        self.max_reply_ratio = proxy.max_reply_ratio
        self.host: ClusterHost | None = None
        self._proxy = proxy
        self._exchange = Exchange(self)
        self._exchange.stamps = proxy.runtime.stamps
        self._exchange.protocol = PROTOCOL
        self._exchange.started = self.now()
        self._selection = Selection()
        self._cluster: Cluster | None = None
        self._sent_at = 0.0
        self._is_open = False
        self._was_healthy = True

    # ---- a host

    def open(self) -> Failure | None:
        proxy = self._proxy
        exchange = self._exchange
        name = proxy.options.cluster_for(self)
        if not name:
            return self._failed(NO_ROUTE, "no route of udp_proxy matches")
        exchange.cluster_name = name
        cluster = proxy.runtime.clusters.get(name)
        if cluster is None:
            return self._failed(CLUSTER_UNKNOWN, name)
        if cluster.original is not None:
            return self._failed(NO_ROUTE, "an ORIGINAL_DST cluster has no host for datagrams")
        self._cluster = cluster
        if cluster.balancer.uses_hash:
            select_by_source(self._selection, cluster.balancer.follows_envoy, exchange)
        failed = proxy.take_failed(self.source.key)
        if failed is not None:
            self._selection.add_tried(failed)
        limit = proxy.options.connect_attempts or min(UNASKED_ATTEMPTS, cluster.choices())
        while True:
            failure = self._connect(cluster)
            if failure is None or not failure.may_retry or i64(exchange.attempts) >= limit:
                return failure

    def _connect(self, cluster: Cluster) -> Failure | None:
        """Chooses a host and connects a socket to it; returns why it could not."""
        exchange = self._exchange
        host = cluster.balancer.choose(self._selection)
        if host is None:
            return self._failed(cluster.no_host_failure(self._selection), cluster.name)
        assert isinstance(host, ClusterHost)
        exchange.attempts += 1
        exchange.upstream_address = host.address
        exchange.upstream_hostname = host.hostname
        if host.address.startswith(UNIX) or not isinstance(host.peer.transport, PlainTransport):
            return self._failed(CONNECT_FAILED, f"{host.address}: datagrams need a host with a port, and no TLS")
        if not host.try_connection():
            return self._failed(OVERFLOW, cluster.name)
        host.active_requests += 1
        self.host = host
        self._was_healthy = host.is_healthy
        name, port = split_address(host.address)
        ip = normal_ip(name)
        if ip:
            return self._use(host, [ip], port)
        if len(self._proxy.tasks) >= RESOLVING:
            return self._refuse(host, OVERFLOW, "too many sessions wait for a name")
        task = self.port.loop.create_task(self._resolve(host, name, port), context=Context())
        self._proxy.tasks.add(task)
        task.add_done_callback(self._proxy.tasks.discard)
        return None

    async def _resolve(self, host: ClusterHost, name: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        failure: Failure | None = None
        detail = ""
        ips: list[str] = []
        try:
            async with asyncio.timeout(host.connect_timeout):
                found = await loop.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
            # Like Go, prefer IPv4: nothing shows whether a host answers at its other address.
            ips = sorted((str(entry[4][0]) for entry in found), key=lambda ip: ":" in ip)
            if host.peer.rule is not None:
                ips = permitted(host.peer.rule, ips, port)
        except (OSError, ValueError, TimeoutError, Refused) as error:
            is_late = isinstance(error, TimeoutError)
            failure = error.failure if isinstance(error, Refused) else CONNECT_TIMEOUT if is_late else CONNECT_FAILED
            detail = f"{host.address}: {error}"
        if self.is_closed:
            return
        self.port.clock.tick()
        failure = self._use(host, ips, port) if failure is None else self._failed(failure, detail)
        if failure is not None:
            self.end(failure)

    def _use(self, host: ClusterHost, ips: list[str], port: int) -> Failure | None:
        """Connects a socket to the first of the host's addresses to which there is a way, which takes no time."""
        faults: list[str] = []
        for ip in ips:
            if self.port.is_at(ip, port):
                return self._refuse(host, LOOP, "the host is this listener")
            if self.source.ip == ip and self.source.port == port:
                return self._refuse(host, LOOP, "the client has the address of the host")
            try:
                sock = connected_socket(ip, port, host.peer.bind, host.peer.mark)
            except OSError as error:
                number = error.errno or 0
                if number in SHORTAGES:
                    self.port.admission.on_shortage(number)
                    return self._refuse(host, NO_DESCRIPTORS, str(error))
                faults.append(f"{ip}: {text_of(error)}")
                continue
            self._is_open = True
            host.on_connection()
            self.port.admission.on_descriptor(sock.fileno())
            self.use_socket(sock)
            return None
        host.record_outcome(-1.0, BROKEN)
        self._selection.add_tried(host)
        return self._refuse(host, CONNECT_FAILED, "; ".join(faults))

    def _refuse(self, host: ClusterHost, failure: Failure, detail: str) -> Failure:
        self._leave_host()
        return self._failed(failure, f"{host.address}: {detail}")

    def _failed(self, failure: Failure, detail: str) -> Failure:
        self._exchange.failure_detail = detail
        self._proxy.log(self._exchange, failure, detail)
        return failure

    def _leave_host(self) -> None:
        """Returns what `try_connection` has granted."""
        host = self.host
        if host is not None:
            self.host = None
            host.active_requests -= 1
            host.on_connection_end(self._is_open)
            if self._is_open:
                host.note_close(False, False)

    # ---- datagrams

    def is_usable(self) -> bool:
        host = self.host
        # In a panic the balancer chooses hosts whatever their health.
        return host is None or (not host.is_gone and (host.is_healthy or not self._was_healthy))

    def on_sent(self, size: i64) -> None:
        host, cluster = self.host, self._cluster
        if host is None or cluster is None:
            return
        host.stats.bytes_written.value += size
        cluster.stats.bytes_written.value += size
        if self._sent_at == 0.0:
            self._sent_at = self.now()

    def on_reply(self, size: i64) -> None:
        host, cluster = self.host, self._cluster
        if host is None or cluster is None:
            return
        host.stats.bytes_read.value += size
        cluster.stats.bytes_read.value += size
        exchange = self._exchange
        if exchange.response_received == 0.0:
            exchange.response_received = self.now()
            host.record_outcome(exchange.response_received - self._sent_at, 200)

    # ---- moving to another process

    def describe(self, state: SessionState) -> None:
        exchange = self._exchange
        now = self.now()
        state.cluster, state.host = exchange.cluster_name, exchange.upstream_address
        state.attempts = i64(exchange.attempts)
        state.age = now - exchange.started
        if self._sent_at != 0.0:
            state.sent = now - self._sent_at
        if exchange.response_received != 0.0:
            state.answered = now - exchange.response_received

    def on_departure(self) -> None:
        # It is counted and logged where it ends.
        self._leave_host()
        self._exchange = _NO_EXCHANGE

    def on_arrival(self, state: SessionState) -> Failure | None:
        exchange = self._exchange
        now = self.now()
        exchange.cluster_name, exchange.upstream_address = state.cluster, state.host
        exchange.attempts = i32(state.attempts)
        exchange.started = now - state.age
        if state.sent >= 0.0:
            self._sent_at = now - state.sent
        if state.answered >= 0.0:
            exchange.response_received = now - state.answered
        self._is_open = True
        cluster = self._proxy.runtime.clusters.get(state.cluster)
        if cluster is None:
            return CLUSTER_UNKNOWN
        host = cluster.find(state.host)
        if host is None or host.is_gone:
            return NO_HOSTS
        exchange.upstream_hostname = host.hostname
        if not host.try_connection():
            return OVERFLOW
        host.active_requests += 1
        host.on_connection()
        self.host, self._cluster = host, cluster
        self._was_healthy = host.is_healthy
        return None

    # ---- the end

    def on_end(self, failure: Failure) -> None:
        proxy = self._proxy
        exchange = self._exchange
        was_open, host = self._is_open, self.host
        if was_open and host is not None and failure.by_host:
            proxy.remember_failed(self.source.key, host)
            host.record_outcome(-1.0, BROKEN)
            self._failed(failure, f"{host.address}: the host has answered with an ICMP error")
        self._leave_host()
        exchange.failure = failure
        exchange.finished = self.now()
        exchange.bytes_received = self.bytes_read
        exchange.bytes_sent = self.bytes_written
        proxy.options.stats.count_reason(failure.reason)
        if was_open:
            for access_log in proxy.options.access_logs:
                access_log.log(exchange)
        self._exchange = _NO_EXCHANGE  # a cycle, which would wait for the garbage collection
