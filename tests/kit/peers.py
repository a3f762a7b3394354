"""The fake peers of the proxy: clients, upstreams, and the dials that lead to upstreams."""

from __future__ import annotations

from tests.kit.chunks import merge_chunks
from tests.kit.tls_wire import SecureTransport
from tests.kit.transport import FakeLoop, FakeTransport

from pymosn.api.network import Dialer, DialReceiver, NetworkFilter
from pymosn.api.network import Peer as HostPeer
from pymosn.core.addresses import normal_ip, split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.happy_eyeballs import Refused, permitted
from pymosn.network.listener import ConnectionIds
from pymosn.network.tls.upstream import ClientTls


class Peer:
    """One end of a conversation: a client or an upstream."""

    def __init__(self, loop: FakeLoop, name: str, ip: str, port: int, one_byte: bool, is_secure: bool = False) -> None:
        """`is_secure`: it is a client with TLS."""
        self.name = name
        self.loop = loop
        self._one_byte = one_byte
        self.transport = SecureTransport(loop, ip, port) if is_secure else FakeTransport(loop, ip, port)

    # ---- what the peer does

    def sends(self, data: bytes) -> None:
        """The bytes arrive at the proxy: all at once, or one by one in `one_byte` mode."""
        self.loop.do(lambda: self.gives(data))

    def gives(self, data: bytes) -> None:
        """Like `sends`, within something that happens."""
        pieces = [data[at : at + 1] for at in range(len(data))] if self._one_byte else [data]
        for piece in map(self.transport.wire, pieces):
            step = 1 if self._one_byte else max(len(piece), 1)
            self.transport.incoming.extend(piece[at : at + step] for at in range(0, len(piece), step))
        self.transport.pump()

    def sends_whole(self, data: bytes) -> None:
        """The bytes arrive at once in either mode."""
        self.transport.incoming.append(self.transport.wire(data))
        self.loop.do(self.transport.pump)

    def shuts(self) -> None:
        """Sends a FIN: no more bytes, but it still reads."""
        if end := self.transport.end():
            self.transport.incoming.append(end)
        self.transport.has_eof = True
        self.loop.do(self.transport.pump)

    def resets(self) -> None:
        """The connection is lost at once."""
        self.loop.do(self._lose)

    def _lose(self) -> None:
        self.transport.lose(ConnectionResetError(104, "Connection reset by peer"))

    def stalls(self) -> None:
        """Stops reading."""
        self.transport.is_stalled = True

    def reads(self, size: int) -> None:
        """Reads `size` of the waiting bytes."""
        transport = self.transport
        part, transport.waiting = transport.waiting[:size], transport.waiting[size:]
        transport.arrive(part)

    def reads_on(self) -> None:
        """Reads everything that waits, and whatever comes from now on."""
        self.loop.do(self.transport.drain)

    # ---- what the peer sees

    def receives(self, expected: bytes) -> None:
        """Exactly these bytes have arrived since the last call."""
        found, self.transport.received = self.transport.received, b""
        if self._one_byte:
            found, expected = merge_chunks(found), merge_chunks(expected)
        assert found == expected, f"{self.name} received\n{found!r}\nnot\n{expected!r}"

    def receives_nothing(self) -> None:
        self.receives(b"")

    def takes(self) -> bytes:
        """Returns whatever has arrived since the last call."""
        found, self.transport.received = self.transport.received, b""
        return found

    def left(self) -> bytes:
        """What has arrived, and was not asked for yet."""
        return self.transport.received

    def is_closed(self) -> bool:
        """Whether the proxy closed after sending everything."""
        transport = self.transport
        return transport.is_lost and not transport.is_aborted

    def is_lingering(self) -> bool:
        """Whether the proxy sent a FIN and still reads."""
        return self.transport.sent_eof and not self.transport.is_closing

    def has_fin(self) -> bool:
        """Whether the proxy half-closed: it sends no more, and keeps the connection."""
        return self.transport.sent_eof and not self.transport.is_closing

    def is_reset(self) -> bool:
        """Whether the proxy reset the connection."""
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
        self,
        dialer: FakeDialer,
        address: str,
        timeout: float,
        network_filter: NetworkFilter,
        receiver: DialReceiver,
        preface: bytes = b"",
        offered: tuple[str, ...] = (),
    ) -> None:
        #: What is sent before everything else; the fake connection does not carry it.
        self.preface = preface
        #: What the proxy offers by ALPN.
        self.offered = offered
        self.address = address
        self.timeout = timeout
        self._dialer = dialer
        self._filter = network_filter
        self._receiver = receiver

    def connects(self, stalled: bool = False, lost: bool = False, greeting: bytes = b"", alpn: str = "") -> Peer:
        """The connection is open.

        `alpn`: the upstream has selected it. `stalled`: the upstream reads nothing. Before the proxy learns that it is open:
        it is `lost`, or brings a `greeting`.
        """
        dialer = self._dialer
        connection = dialer.open(self._filter)
        connection.alpn = alpn
        peer = dialer.new_peer(self.address, connection, stalled)
        if lost:
            peer.resets()
        if greeting:
            peer.sends_whole(greeting)
        dialer.loop.do(lambda: self._receiver.on_dialed(connection))
        dialer.upstreams.append(peer)
        return peer

    def fails(self, failure: Failure) -> None:
        self._dialer.loop.do(lambda: self._receiver.on_dial_failed(failure, "as the test wishes"))


class FakeDialer(Dialer):
    """Keeps dials until the test answers them."""

    def __init__(self, loop: FakeLoop, numbers: ConnectionIds, clock: Clock, wheel: TimerWheel, one_byte: bool) -> None:
        self.loop = loop
        self.one_byte = one_byte
        self.dials: list[Dial] = []
        self.upstreams: list[Peer] = []
        #: The IP addresses of names.
        self.names: dict[str, list[str]] = {}
        #: Whether the upstreams speak HTTP/2.
        self.speaks_http2 = False
        self._numbers = numbers
        self._clock = clock
        self._wheel = wheel

    def dial(
        self, peer: HostPeer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        if peer.rule is not None:
            host, port = split_address(peer.address)
            ips = self.names.get(host, [normal_ip(host) or "198.51.100.1"])
            try:
                permitted(peer.rule, ips, port)
            except Refused as refused:
                failure, detail = refused.failure, str(refused)
                self.loop.later(lambda: receiver.on_dial_failed(failure, detail))
                return
        offered = peer.transport.settings.tls.alpn if isinstance(peer.transport, ClientTls) else ()
        self.dials.append(Dial(self, peer.address, timeout, network_filter, receiver, preface, offered))

    def new_peer(self, address: str, connection: TcpConnection, stalled: bool) -> Peer:
        """The upstream at the other end of `connection`."""
        return self._carry(Peer, address, connection, stalled)

    def _carry(self, kind: type[Peer], address: str, connection: TcpConnection, stalled: bool) -> Peer:
        peer = kind(self.loop, f"upstream {address}", address.partition(":")[0], 80, self.one_byte)
        peer.transport.is_stalled = stalled
        peer.transport.carry(connection)
        return peer

    def next_stream(self, address: str) -> Peer | None:
        """The upstream of a request that came on a shared connection, and that no peer of the test has."""
        return None

    def expect_no_stream(self) -> None:
        """There is no such request."""

    def open(self, network_filter: NetworkFilter) -> TcpConnection:
        """The proxy's side of an upstream connection."""
        return TcpConnection(self._numbers.next(), [network_filter], ConnectionOwner(), self._clock, self._wheel)
