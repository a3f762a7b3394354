"""LAYER 1: sockets <-> bytes. The contracts of connections, network filters, first-bytes steps and dialers."""

from __future__ import annotations

from typing import Final, NamedTuple

from mypy_extensions import i64, mypyc_attr

from pymosn.api.tls import TlsInfo
from pymosn.core.addresses import split_address, write_address
from pymosn.core.counters import Counter
from pymosn.core.failure import PROTOCOL_UNKNOWN, Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.timers import Alarm

#: Answers of `NetworkFilter.on_data`: pass the same bytes to the next filter, or stop here.
CONTINUE: Final = True
STOP: Final = False

#: Answers of `FirstBytes.on_first_bytes`: this step is done, it needs more bytes, or the connection is refused.
DONE: Final[i64] = 0
MORE_BYTES: Final[i64] = 1
REFUSE: Final[i64] = 2

#: Seconds that an idle connection stays open when its worker drains, for a request that is already on its way.
DRAIN_GRACE: Final = 1.0


def join_address(ip: str, port: i64) -> str:
    """`ip:port`, with an IPv6 address in brackets; `unix` for an end of a unix socket, which has neither."""
    return write_address(ip, int(port)) if ip else "unix"


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Alarm):
    """One open connection. Calls are synchronous and never raise: after a close, writes are dropped, `is_closed` is True."""

    def __init__(self) -> None:
        super().__init__()
        self.id: i64 = 0
        #: Empty, with port 0, on a unix socket.
        self.remote_ip: str = ""
        self.remote_port: i64 = 0
        #: The IP address of the connection's other end if that is a proxy that has sent `remote_ip`; None otherwise.
        self.proxy_ip: str | None = None
        self.local_ip: str = ""
        self.local_port: i64 = 0
        #: A redirected client's original destination, `ip:port`; only on listeners with `use_original_dst`.
        self.original_destination: str = ""
        #: Set by the transport: the URI scheme of requests, and the protocol negotiated by ALPN ("" without negotiation).
        self.scheme: str = "http"
        self.alpn: str = ""
        #: Facts of the TLS handshake or, if TLS is not terminated here, of the ClientHello; None on other connections.
        self.tls: TlsInfo | None = None
        #: Bytes transferred since the connection opened, and how many of them have already been counted (see `count_into`).
        self.bytes_read: i64 = 0
        self.bytes_written: i64 = 0
        self._counted_read: i64 = 0
        self._counted_written: i64 = 0
        #: The last attribute, so that it shares a word with small ones of a subclass.
        self.is_closed: bool = False

    def count_into(self, read: Counter, written: Counter) -> None:
        """Adds the bytes transferred since the last call to the two counters."""
        read.value += self.bytes_read - self._counted_read
        written.value += self.bytes_written - self._counted_written
        self._counted_read = self.bytes_read
        self._counted_written = self.bytes_written

    def direct_ip(self) -> str:
        """The IP address of the connection's other end, also with the PROXY protocol; empty on a unix socket."""
        return self.remote_ip if self.proxy_ip is None else self.proxy_ip

    def destination(self) -> tuple[str, int]:
        """The IP address and port that the client connected to, before any redirect."""
        if self.original_destination:
            return split_address(self.original_destination)
        return self.local_ip, int(self.local_port)

    def copy_facts(self, other: Connection) -> None:
        """Takes over what `on_connection` may ask about: id, addresses, and what TLS and the listener have found out."""
        self.id = other.id
        self.remote_ip, self.remote_port = other.remote_ip, other.remote_port
        self.proxy_ip = other.proxy_ip
        self.local_ip, self.local_port = other.local_ip, other.local_port
        self.original_destination = other.original_destination
        self.scheme, self.alpn, self.tls = other.scheme, other.alpn, other.tls

    def replace_filters(self, filters: list[NetworkFilter]) -> None:
        """Directs further events to `filters`, at least one. The caller passes on `on_connection` and the bytes it holds."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Sends `data`, buffering what the socket does not take."""
        raise NotImplementedError

    def write_parts(self, parts: list[bytes]) -> None:
        """Sends `parts` in order, in one system call where that fits."""
        raise NotImplementedError

    def now(self) -> float:
        """The time of the present event, as `Clock.now`."""
        raise NotImplementedError

    def batch_writer(self) -> FrameWriter:
        """Collects frames, which are sent in one write after this event-loop iteration; for shared connections.

        Do not mix with `write`. Fetch it again for every frame: it may have been flushed.
        """
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stops reading. Counted: two pauses need two resumes."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Reverts one pause."""
        raise NotImplementedError

    def yield_reading(self) -> None:
        """Yields: stops reading until the next event-loop iteration, so that one busy peer cannot starve the others."""
        raise NotImplementedError

    def set_buffer_limit(self, limit: i64) -> None:
        """Sets the high-water mark in bytes; above it `on_writable(False)` is called."""
        raise NotImplementedError

    def set_idle(self, seconds: float) -> None:
        """Sets the idle timeout in seconds (0 disables it); each call restarts it. `on_idle` is called when it expires."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Flushes the buffer and sends a FIN; the peer may continue to send. Later writes are not allowed."""
        raise NotImplementedError

    def close(self, failure: Failure) -> None:
        """Closes once the buffer has been flushed."""
        raise NotImplementedError

    def close_lingering(self, failure: Failure) -> None:
        """Closes while the peer may still be sending: flushes the buffer, sends a FIN, then reads and discards for a while.

        So a reset cannot destroy the response on its way (RFC 9112 section 9.6).
        """
        raise NotImplementedError

    def abort(self, failure: Failure) -> None:
        """Closes at once with a reset, discarding the buffer."""
        raise NotImplementedError

    def may_depart(self) -> None:
        """A filter that is to depart (`NetworkFilter.on_depart`) has nothing in flight, and has paused reading."""


#: The value of a connection attribute before `on_connection`: shared, never written to.
NO_CONNECTION: Final = Connection()


def elapsed(connection: Connection, timeout: float) -> float:
    """Seconds of an idle timeout that have elapsed; 0 if none is set."""
    left = connection.alarm_deadline - connection.now()
    return max(timeout - left, 0.0) if timeout > 0.0 and left < timeout else 0.0


#: Bytes in a `Passage`, at most.
MAX_CARRIED: Final[i64] = 64 * 1024


class Passage:
    """What goes along with a connection that moves to another process of the proxy, which continues to serve it.

    A filter supplies `protocol`, `data`, `requests`, `age` and `idle`; the connection and its listener add the rest.
    """

    def __init__(self, protocol: str = "", data: bytes = b"") -> None:
        #: The protocol that it speaks; empty if that is not known yet.
        self.protocol = protocol
        #: Bytes that were read and belong to no message that was handled: they are read again, from the first one.
        self.data = data
        #: Requests that were served, of a protocol that limits them.
        self.requests: i64 = 0
        #: Seconds since it opened, if that is limited, and of its present timeout.
        self.age: float = 0.0
        self.idle: float = 0.0
        #: Steps of `FirstBytes` that are done, and the index of the filter chain they have chosen; -1 if none was.
        self.step: i64 = 0
        self.chain: i64 = -1
        #: As in `Connection`.
        self.remote_ip: str = ""
        self.remote_port: i64 = 0
        self.local_ip: str = ""
        self.local_port: i64 = 0
        self.original_destination: str = ""
        self.bytes_read: i64 = 0
        self.bytes_written: i64 = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkFilter:
    """Sees the bytes of one connection. One object per connection; calls are made in the order of the chain."""

    def on_connection(self, connection: Connection) -> None:
        """The connection is open."""

    def on_data(self, data: bytes) -> bool:
        """Bytes were read. CONTINUE passes them to the next filter, STOP does not."""
        return CONTINUE

    def on_eof(self) -> None:
        """The peer will send no more; it may still read."""

    def on_writable(self, writable: bool) -> None:
        """False: the send buffer exceeds the high-water mark, stop sending for now. True: it has drained."""

    def on_idle(self) -> None:
        """The timeout of `Connection.set_idle` expired."""

    def on_drain(self) -> None:
        """The worker is about to stop: finish and close as soon as nothing is in flight."""

    def on_close(self, failure: Failure) -> None:
        """The connection is closed; `failure` is the reason."""

    # ---- a process that is replaced by another one (docs/upgrade.md)

    def departs(self) -> bool:
        """Whether such a connection can be moved to another process, now or when nothing is in flight."""
        return False

    def on_depart(self, moves: bool) -> None:
        """Another process has taken over, and this one ends within some time.

        `moves`: the connection is to be moved, so no client is asked to go. As soon as nothing is in flight, read no further
        and call `Connection.may_depart`. Otherwise the client is asked to go with the next message; a silent one may stay.
        """
        self.on_drain()

    def hold(self, is_held: bool) -> bool:
        """True: read no further, so that nothing is in flight soon. False: it was not moved, read again.

        Whether the connection is held now.
        """
        return False

    def departure(self) -> Passage | None:
        """What another process needs to continue; None while something is in flight. Without effect."""
        return None

    def on_arrival(self, passage: Passage) -> None:
        """Called after `on_connection`, before the bytes of `passage`, for a connection that was moved here."""

    def kind(self) -> str:
        """What the connection carries, such as "http1" or "websocket"; for reports."""
        return "other"

    def is_idle(self) -> bool:
        """Whether it may be closed without loss."""
        return False

    def ends_clearly(self) -> bool:
        """Whether its end is never taken for the end of a message that is incomplete, even without a reset."""
        return self.is_idle()


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkFilterFactory:
    """Makes the filter that takes a connection over, such as `tcp_proxy` from `proxy`, with all bytes read so far."""

    def create(self) -> NetworkFilter:
        """A filter for one connection."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class FilterChainFactory:
    """Makes the network filters of each accepted connection."""

    #: Whether the listener no longer has this chain: its connections are to be drained.
    is_gone: bool = False

    def create(self) -> list[NetworkFilter]:
        """The filters of one new connection, in order."""
        raise NotImplementedError

    def resume(self, connection: Connection, passage: Passage) -> list[NetworkFilter] | None:
        """The filters of a connection that another process has served so far; None if they cannot continue."""
        return None

    def index_of(self, chain: FilterChainFactory | None) -> i64:
        """The index of the chain that a connection has, as in `Passage`; -1 if this chooses none, -2 if it is not known."""
        return -1 if chain is None else -2

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        """A connection was refused before its filters were called; for logging."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Security:
    """What secures a connection after its first bytes, such as a TLS handshake."""


class Accepted:
    """An accepted connection whose filters have not been chosen yet, as the steps of `FirstBytes` see it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        #: The filters that get the connection after the last step; a step sets them, or `factory`.
        self.filters: list[NetworkFilter] = []
        #: Makes the filters after the last step, and after the handshake of `security`.
        self.factory: FilterChainFactory | None = None
        #: What secures the connection before its filters get it; None for nothing.
        self.security: Security | None = None
        #: Bytes at the front of the data that a step has used up, such as a PROXY protocol header: neither later steps nor
        #: the filters see them. A step sets this before it returns DONE.
        self.consumed: i64 = 0
        #: The present step's own time limit in seconds, from its first answer on; it replaces the timeouts of the plan until
        #: the step is done. A step sets this before it returns MORE_BYTES.
        self.time_limit: float = 0.0
        #: How many bytes no step has consumed yet, when `FirstBytes.on_undecided` is called.
        self.waiting: i64 = 0
        #: Whether those bytes can only be the beginning of plain text.
        self.is_text: bool = False
        #: The reason when a step returns REFUSE, and what the client gets before the connection is closed, such as an alert;
        #: if this is empty, the connection is reset.
        self.failure: Failure = PROTOCOL_UNKNOWN
        self.last_words: bytes = b""


@mypyc_attr(allow_interpreted_subclasses=True)
class FirstBytes:
    """One step that inspects the first bytes of accepted connections before their filters are chosen.

    The steps are the PROXY protocol, the choice of the filter chain, and protocol detection. One object serves all
    connections of a listener: what it finds out about one of them goes into `Accepted` or into the connection.
    """

    def needs_bytes(self, accepted: Accepted) -> bool:
        """False: the step decides by addresses alone. It is then also called with empty data, as soon as it is its turn."""
        return True

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> i64:
        """DONE, MORE_BYTES or REFUSE. `data`: all bytes that no step has consumed, even of earlier calls."""
        raise NotImplementedError

    def on_undecided(self, accepted: Accepted) -> i64:
        """Called when MORE_BYTES was answered but the time is over or the client half-closed: DONE or REFUSE."""
        return REFUSE


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport:
    """How bytes travel between a connection and its socket; immutable. A dialer refuses every kind that it does not know."""

    def __init__(self, *, scheme: str) -> None:
        self.scheme = scheme


class PlainTransport(Transport):
    """Bytes as they are, over TCP or a unix socket."""

    def __init__(self) -> None:
        super().__init__(scheme="http")


PLAIN: Final = PlainTransport()


@mypyc_attr(allow_interpreted_subclasses=True)
class DialRule:
    """The addresses that may be dialed for a peer that is not the operator's choice alone."""

    def fault(self, ip: str, port: i64) -> Failure | None:
        """Why no connection to this IP address may be opened; None if it may."""
        raise NotImplementedError


#: Seconds before the next address of a name is tried as well, and the bounds of a configured value (RFC 8305 section 8).
ATTEMPT_DELAY: Final = 0.25
SHORTEST_ATTEMPT_DELAY: Final = 0.01
LONGEST_ATTEMPT_DELAY: Final = 2.0


class TcpKeepalive(NamedTuple):
    """Probes of TCP on a silent connection: seconds before the first and between them, and how many end it unanswered."""

    idle: int = 30
    interval: int = 10
    probes: int = 3


@mypyc_attr(acyclic=True)
class Peer:
    """The other end of an outgoing connection. Immutable except for the session, built once per host."""

    def __init__(
        self,
        address: str,
        *,
        transport: Transport,
        server_name: str,
        bind: str,
        rule: DialRule | None = None,
        mark: i64 = 0,
        keepalive: TcpKeepalive | None = None,
        attempt_delay: float = ATTEMPT_DELAY,
    ) -> None:
        """`address`: "ip:port", "[v6]:port", "name:port" or "unix:/path".

        `server_name`: sent and verified by a TLS handshake. `bind`: the local IP address; empty for the system's choice.
        `rule`: asked about each resolved IP address before it is dialed. `mark`: SO_MARK of the socket, for the kernel's
        routing and firewall; 0 for none. `keepalive`: of TCP; None: no probes. `attempt_delay`: seconds before the next
        address of a name is tried while the last one has not answered.
        """
        self.attempt_delay = attempt_delay
        self.keepalive = keepalive
        self.rule = rule
        self.mark: i64 = mark
        self.address = address
        self.transport = transport
        self.server_name = server_name
        self.bind = bind
        #: The TLS session that the next connection resumes; the dialer's.
        self.session: object = None


def plain_peer(address: str, rule: DialRule | None = None) -> Peer:
    """The peer at `address`, without TLS."""
    return Peer(address, transport=PLAIN, server_name="", bind="", rule=rule)


@mypyc_attr(allow_interpreted_subclasses=True)
class DialReceiver:
    """Receives the result of `Dialer.dial`."""

    def on_dialed(self, connection: Connection) -> None:
        """The connection is open."""
        raise NotImplementedError

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        """The connection could not be opened; `detail` is the operating system's error message."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Dialer:
    """Opens outgoing connections. Only the dialer and the listener know about transports."""

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        """Connects to `peer` within `timeout` seconds, including what its transport needs before the first byte.

        `network_filter` becomes the one filter of the connection. Exactly one method of `receiver` is called, later.
        `preface` is sent before everything else, even before a TLS handshake.
        """
        raise NotImplementedError
