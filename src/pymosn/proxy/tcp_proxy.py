"""The `tcp_proxy` network filter: forwards the bytes of a connection to a host, and the host's bytes back.

The client is not read until a host is connected. From then on each side is read as fast as the other one accepts it, the end
of one direction is passed on while the other continues, and a reset of one side resets the other.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.network import (
    NO_CONNECTION,
    STOP,
    Connection,
    DialReceiver,
    FilterChainFactory,
    NetworkFilter,
    NetworkFilterFactory,
)
from pymosn.api.upstream import Selection
from pymosn.core.clock import Clock
from pymosn.core.failure import (
    CLIENT_GONE,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    CLUSTER_UNKNOWN,
    CONNECT_TIMEOUT,
    IDLE_TIMEOUT,
    NO_ROUTE,
    OVERFLOW,
    OVERLOADED,
    RESET_AFTER_RESPONSE,
    RESET_BEFORE_RESPONSE,
    TLS_BROKEN,
    TLS_TRUNCATED,
    Failure,
    is_remote_end,
)
from pymosn.core.log import ERROR, WARN
from pymosn.core.overload import SHED
from pymosn.proxy.accounting import log_prefix
from pymosn.proxy.attempts import UNASKED_ATTEMPTS
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.tcp_age import AgeLimit
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.proxy.upstream_request import BROKEN
from pymosn.routing.hashing import select_by_source
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.original_dst import destination

#: While more bytes than this are buffered for one side, the other side is not read.
BUFFER_LIMIT: Final[i64] = 64 * 1024
PROTOCOL: Final = "tcp"  # in the access log


class TcpProxyFactory(FilterChainFactory):
    """A listener's filter chain whose first filter is `tcp_proxy`."""

    def __init__(self, runtime: Runtime, options: TcpOptions) -> None:
        self._runtime = runtime
        self._options = options

    def create(self) -> list[NetworkFilter]:
        return [TcpProxy(self._runtime, self._options)]

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        exchange = _exchange(self._runtime, connection)
        exchange.failure = failure
        exchange.finished = self._runtime.clock.tick()
        self._options.note_end(exchange)


class TcpFallback(NetworkFilterFactory):
    """Takes over connections that match none of the protocols of `proxy`."""

    def __init__(self, runtime: Runtime, options: TcpOptions) -> None:
        self._runtime = runtime
        self._options = options

    def create(self) -> NetworkFilter:
        return TcpProxy(self._runtime, self._options)


#: Before `on_connection`: shared, never written to.
_NO_EXCHANGE: Final = Exchange(NO_CONNECTION)


def _exchange(runtime: Runtime, connection: Connection) -> Exchange:
    exchange = Exchange(connection)
    exchange.stamps = runtime.stamps
    exchange.protocol = PROTOCOL
    exchange.started = connection.now()
    return exchange


class TcpProxy(NetworkFilter):
    """One client connection, until both directions have ended. For the access log it is one exchange."""

    def __init__(self, runtime: Runtime, options: TcpOptions) -> None:
        self._runtime = runtime
        self._options = options
        self._connection: Connection = NO_CONNECTION
        self._exchange: Exchange = _NO_EXCHANGE
        self._cluster: Cluster | None = None
        self._selection = Selection()
        self._upstream: TcpUpstream | None = None
        self._age: AgeLimit | None = None
        self._is_connected = False
        # Bytes that were read before the host was connected.
        self._held: list[bytes] = []
        self._client_ended = False
        self._upstream_ended = False
        self._is_over = False

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self._exchange = _exchange(self._runtime, connection)
        stats = self._options.stats
        stats.tcp_total.value += 1
        stats.tcp_active.value += 1
        connection.pause_reading()
        if self._options.max_duration > 0.0:
            self._age = AgeLimit(connection, self._runtime.wheel, self._options.max_duration)
        if self._runtime.overload.level >= SHED:
            self.fail(OVERLOADED, "")
            return
        name = self._options.cluster_for(connection)
        if not name:
            self.fail(NO_ROUTE, "no route of tcp_proxy matches")
            return
        self._exchange.cluster_name = name
        cluster = self._runtime.clusters.get(name)
        if cluster is None:
            self.fail(CLUSTER_UNKNOWN, name)
            return
        self._cluster = cluster
        if self._options.connect_timeout > 0.0:
            connection.set_idle(self._options.connect_timeout)
        if cluster.balancer.uses_hash:
            select_by_source(self._selection, cluster.balancer.follows_envoy, self._exchange)
        if cluster.original is not None:
            self._selection.destination = destination(cluster.original, self._exchange)
        self._connect(cluster)

    def _connect(self, cluster: Cluster) -> None:
        exchange = self._exchange
        host = cluster.balancer.choose(self._selection)
        if host is None:
            self.fail(cluster.no_host_failure(self._selection), cluster.name)
            return
        assert isinstance(host, ClusterHost)
        exchange.attempts += 1
        exchange.upstream_address = host.address
        exchange.upstream_hostname = host.hostname
        if not host.try_connection():
            self.fail(OVERFLOW, cluster.name)
            return
        self._upstream = TcpUpstream(self, host, self._runtime.clock)
        self._upstream.dial(self._connection)

    def on_connected(self, upstream: TcpUpstream) -> None:
        """The host is connected: it gets the bytes held so far, and both sides are read."""
        self._is_connected = True
        self._exchange.upstream_connection_id = upstream.connection.id
        self._exchange.upstream_tls = upstream.connection.tls
        self._options.note_connected(self._exchange)
        self._connection.set_buffer_limit(BUFFER_LIMIT)
        upstream.connection.set_buffer_limit(upstream.host.buffer_limit or BUFFER_LIMIT)
        self._touch()
        for data in self._held:
            upstream.connection.write(data)
        self._held = []
        if self._client_ended:
            upstream.connection.write_eof()
        self._connection.resume_reading()

    def on_not_connected(self, upstream: TcpUpstream, failure: Failure, detail: str) -> None:
        """Connecting to the host failed: tries another host, within the limit of attempts."""
        self._upstream = None
        cluster = self._cluster
        if self._is_over or cluster is None:
            return
        limit = self._options.connect_attempts
        if limit == 0:
            limit = min(UNASKED_ATTEMPTS, cluster.choices())
        if not failure.may_retry or i64(self._exchange.attempts) >= limit:
            self.fail(failure, f"{upstream.host.address}: {detail}")
            return
        cluster.stats.request_retry.value += 1
        cluster.stats.connection_retry.value += 1
        self._selection.add_tried(upstream.host)
        self._connect(cluster)

    # ---- called by the client's connection

    def on_data(self, data: bytes) -> bool:
        if self._is_over:
            return STOP
        self._exchange.bytes_received += len(data)
        upstream = self._upstream
        if upstream is not None and self._is_connected:
            upstream.connection.write(data)
            self._touch()
        else:
            self._held.append(data)
        return STOP

    def on_eof(self) -> None:
        if self._is_over:
            return
        self._client_ended = True
        if self._upstream_ended:
            self._end()
        elif self._upstream is not None and self._is_connected:
            self._upstream.connection.write_eof()
            self._touch()

    def on_writable(self, writable: bool) -> None:
        upstream = self._upstream
        if self._is_over or upstream is None or not self._is_connected:
            return
        if writable:
            upstream.connection.resume_reading()
        else:
            upstream.connection.pause_reading()

    def on_idle(self) -> None:
        if self._is_over:
            return
        if self._is_connected:
            self._exchange.failure = IDLE_TIMEOUT
            self._end()
        elif self._options.connect_timeout > 0.0:
            upstream = self._upstream
            self.fail(CONNECT_TIMEOUT, f"no host within {self._options.connect_timeout:g} s")
            if upstream is not None:
                upstream.leave(CONNECT_TIMEOUT)

    def on_drain(self) -> None:
        """There is no safe point to close an opaque byte stream; it continues until `graceful_timeout`."""

    def kind(self) -> str:
        return "tcp"

    def on_close(self, failure: Failure) -> None:
        if self._is_over:
            return
        failure = CLIENT_GONE if failure is CLOSED_BY_PEER else failure
        self._exchange.failure = failure
        upstream = self._upstream
        self._finish()
        if upstream is None:
            return
        if self._client_ended and self._is_connected:
            upstream.connection.close(failure)  # client had half-closed: flush everything to the host
        else:
            upstream.leave(failure)

    # ---- called by the host's connection

    def on_upstream_data(self, data: bytes) -> None:
        """The host sent `data`."""
        if self._is_over:
            return
        exchange = self._exchange
        if exchange.bytes_sent == 0:
            exchange.response_received = self._connection.now()
        exchange.bytes_sent += len(data)
        self._connection.write(data)
        self._touch()

    def on_upstream_eof(self) -> None:
        """The host sends no more; it may still read."""
        if self._is_over:
            return
        self._upstream_ended = True
        if self._client_ended:
            self._end()
        else:
            self._connection.write_eof()
            self._touch()

    def on_upstream_writable(self, writable: bool) -> None:
        """Back-pressure from the host: False asks to stop sending, True allows it again."""
        if self._is_over:
            return
        if writable:
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()

    def on_upstream_lost(self, cause: Failure) -> None:
        """The connection to the host was lost."""
        if self._is_over:
            return
        if cause is TLS_TRUNCATED or cause is TLS_BROKEN:
            self.fail(cause, self._address())
        elif self._upstream_ended:
            # The host has sent everything, and does not want the rest of the client's bytes.
            self._finish()
            self._connection.close_lingering(CLOSED_LOCALLY)
        else:
            self.fail(RESET_AFTER_RESPONSE if self._exchange.bytes_sent else RESET_BEFORE_RESPONSE, self._address())

    # ---- how it ends

    def _address(self) -> str:
        return self._exchange.upstream_address

    def _touch(self) -> None:
        """Bytes have arrived: restarts the idle timeout and updates the counters."""
        stats = self._options.stats
        connection = self._connection
        connection.set_idle(self._options.idle_timeout)
        connection.count_into(stats.bytes_read, stats.bytes_written)
        upstream = self._upstream
        if upstream is not None:
            upstream.host.count_bytes(upstream.connection)

    def fail(self, failure: Failure, detail: str) -> None:
        """Ends the exchange with a failure: the client's connection is reset."""
        exchange = self._exchange
        exchange.failure = failure
        exchange.failure_detail = detail
        log = self._runtime.log
        level = ERROR if failure.alert else WARN
        if failure.retry_after == 0 and log.level <= level:
            where = f"{self._options.listener_name} to {exchange.cluster_name or '-'}"
            text = f"{log_prefix(exchange)} tcp_proxy {where}: {failure.reason} ({detail})"
            log.write(level, text, failure.alert)
        self._finish()
        self._connection.abort(failure)

    def _end(self) -> None:
        """Both directions are over, or idle: flushes and closes both sides."""
        upstream = self._upstream
        self._finish()
        if upstream is not None:
            upstream.connection.close(CLOSED_LOCALLY)
        self._connection.close(CLOSED_LOCALLY)

    def _finish(self) -> None:
        self._is_over = True
        exchange = self._exchange
        exchange.finished = self._runtime.clock.tick()
        self._held = []
        self._upstream = None
        if self._age is not None:
            self._age.clear()
        stats = self._options.stats
        stats.tcp_active.value -= 1
        if exchange.failure is not None:
            stats.count_reason(exchange.failure.reason)
        self._options.note_end(exchange)


class TcpUpstream(NetworkFilter):
    """A connection to a host, open or being opened. For balancers it counts as a connection and as an active request."""

    def __init__(self, owner: TcpProxy, host: ClusterHost, clock: Clock) -> None:
        """The caller has acquired its permit with `host.try_connection`."""
        self.host = host
        self.connection: Connection = NO_CONNECTION
        self._owner: TcpProxy | None = owner
        self._clock = clock
        self._started = clock.now
        self._is_open = False
        # Whether the host has ended its direction.
        self._has_ended = False
        host.active_requests += 1

    def dial(self, client: Connection) -> None:
        """Connects for a client; the owner is notified of the result."""
        self.host.dial(self, _Dial(self), client)

    def on_dialed(self, connection: Connection) -> None:
        """The connection is open."""
        self.host.on_connection()
        self.host.record_outcome(self._clock.now - self._started, 200)
        self._is_open = True
        owner = self._owner
        if owner is None:
            connection.abort(CLIENT_GONE)
        if connection.is_closed:
            self._forget(True)
            if owner is not None:
                owner.on_upstream_lost(CLOSED_BY_PEER)
        elif owner is not None:
            owner.on_connected(self)
            connection.resume_reading()

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        """The connection could not be opened."""
        self.host.active_requests -= 1
        self.host.on_connection_end(False)
        if failure.by_host:
            self.host.record_outcome(self._clock.now - self._started, BROKEN)
        owner = self._owner
        self._owner = None
        if owner is not None:
            owner.on_not_connected(self, failure, detail)

    def leave(self, failure: Failure) -> None:
        """The client is gone: the host gets a reset, as soon as there is a connection."""
        self._owner = None
        if self._is_open:
            self.connection.abort(failure)

    def _forget(self, is_remote: bool) -> None:
        """Returns the connection's permit, unless that was done already. `is_remote`: the host has ended it."""
        if self._is_open:
            self._is_open = False
            self.host.count_bytes(self.connection)
            self.host.active_requests -= 1
            self.host.on_connection_end(True)
            self.host.note_close(is_remote, False)

    # ---- called by the connection

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection
        connection.pause_reading()  # until `on_dialed` has decided whether it is used

    def on_data(self, data: bytes) -> bool:
        if self._owner is not None:
            self._owner.on_upstream_data(data)
        return STOP

    def on_eof(self) -> None:
        self._has_ended = True
        if self._owner is not None:
            self._owner.on_upstream_eof()

    def on_writable(self, writable: bool) -> None:
        if self._owner is not None:
            self._owner.on_upstream_writable(writable)

    def on_close(self, failure: Failure) -> None:
        owner = self._owner
        if not self._is_open:
            return  # `on_dialed` handles it
        self._owner = None
        self._forget(self._has_ended or is_remote_end(failure))
        if owner is not None:
            owner.on_upstream_lost(failure)


class _Dial(DialReceiver):
    """A dial in progress."""

    def __init__(self, upstream: TcpUpstream) -> None:
        self._upstream = upstream

    def on_dialed(self, connection: Connection) -> None:
        self._upstream.on_dialed(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._upstream.on_dial_failed(failure, detail)
