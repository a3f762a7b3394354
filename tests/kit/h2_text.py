"""Peers that speak HTTP/2 with the proxy and HTTP/1 text with the test: a conversation written for HTTP/1 runs over both.

What a test lets such a peer send is read as HTTP/1 text and goes out as frames; what comes is compared as messages
(`http1_text.py`). A stream takes the place of a connection: it can be reset, and its end is that of the connection.
The peer of an upstream is one stream after another of a connection, because connections to upstreams are shared.
"""

from __future__ import annotations

from collections import deque

from tests.kit.h2_end import Stream
from tests.kit.h2_peers import H2Peer
from tests.kit.http1_text import Event, Http1Text, Pairs, Renderer, asked, in_order, merged, shared
from tests.kit.peers import FakeDialer, Peer
from tests.kit.transport import FakeLoop

from pymosn.core.clock import Clock
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import TcpConnection
from pymosn.network.listener import ConnectionIds

_NO_ERROR = 0
_INTERNAL_ERROR = 2
_CANCEL = 8


class TextPeer(Peer):
    """A peer that speaks HTTP/1, while the proxy's other side may not: messages are compared, not bytes."""

    def __init__(self, loop: FakeLoop, name: str, ip: str, port: int, one_byte: bool, is_secure: bool = False) -> None:
        super().__init__(loop, name, ip, port, one_byte, is_secure)
        self._is_request = name.startswith("upstream")
        self._found = Http1Text(self._is_request)
        self._expected = Http1Text(self._is_request)
        self._said = Http1Text(not self._is_request)

    def gives(self, data: bytes) -> None:
        self._hear(data)
        super().gives(data)

    def sends_whole(self, data: bytes) -> None:
        self._hear(data)
        super().sends_whole(data)

    def _hear(self, data: bytes) -> None:
        """A response is read by its request's method."""
        if self._is_request:
            return
        for event in self._said.feed(data):
            if event[0] == "head":
                method = event[1][0]
                self._found.methods.append(method)
                self._expected.methods.append(method)

    def receives(self, expected: bytes) -> None:
        raw = super().takes()
        found = in_order(self._found.feed(raw))
        wanted = in_order(self._expected.feed(expected))
        assert found == wanted, f"{self.name} received\n{found!r}\nnot\n{wanted!r}\nin\n{raw!r}"

    def takes(self) -> bytes:
        raw = super().takes()
        self._found.feed(raw)
        self._expected.feed(raw)
        return raw


class TextStream(Peer):
    """What the two kinds of peers with HTTP/2 have in common: the messages of their streams, as text."""

    def __init__(self, peer: Peer, is_request: bool) -> None:
        """`peer`: has the transport. `is_request`: of what comes."""
        self.name = peer.name
        self.loop = peer.loop
        self.transport = peer.transport
        self._one_byte = peer._one_byte
        self._peer = peer
        self._found: list[Event] = []
        self._expected = Http1Text(is_request)
        self._own = Http1Text(not is_request)
        self._renderer = Renderer()
        self._methods: deque[bytes] = deque()
        #: The stream in use, or the last one.
        self.stream: Stream | None = None
        #: How much of it was seen: heads and bytes.
        self._heads = 0
        self._size = 0
        self._has_end = False
        self._is_stalled = False

    @property
    def wire(self) -> H2Peer:
        """The connection."""
        raise NotImplementedError

    # ---- what came

    def _head_event(self, fields: Pairs) -> Event:
        raise NotImplementedError

    def _see(self) -> None:
        """Makes events of what is new on the stream."""
        stream = self.stream
        if stream is None or self._is_stalled:
            return
        for fields in stream.heads[self._heads :]:
            self._found.append(self._head_event(fields))
        self._heads = len(stream.heads)
        if len(stream.data) > self._size:
            self._found.append(("data", stream.data[self._size :]))
            self._size = len(stream.data)
        if stream.has_end and not self._has_end:
            self._has_end = True
            if stream.trailers is not None:
                self._found.append(("trailers", stream.trailers))
            self._found.append(("end",))

    def _begin(self, stream: Stream) -> None:
        self.stream, self._heads, self._size, self._has_end = stream, 0, 0, False

    def receives(self, expected: bytes) -> None:
        methods = list(self._expected.methods)
        wanted = in_order(self._expected.feed(expected))
        found, self._found = merged(self._found), []
        assert in_order(found) == wanted, f"{self.name} received\n{found!r}\nnot\n{wanted!r}"
        self._renderer.text(found, methods)

    def takes(self) -> bytes:
        found, self._found = merged(self._found), []
        text = self._renderer.text(found, list(self._expected.methods))
        self._expected.feed(text)
        return text

    def left(self) -> bytes:
        found = merged(self._found)
        return Renderer().text(found, list(self._expected.methods))

    # ---- what the peer does

    def sends(self, data: bytes) -> None:
        self._peer._one_byte = self._one_byte
        self._say(data)
        self.wire.settle()

    def sends_whole(self, data: bytes) -> None:
        self._peer._one_byte = False
        self._say(data)
        self.wire.settle()
        self._peer._one_byte = self._one_byte

    def _say(self, data: bytes) -> None:
        raise NotImplementedError

    def stalls(self) -> None:
        self._is_stalled = True
        self.wire.end.grants = False

    def reads(self, size: int) -> None:
        assert self.stream is not None
        self.wire.end.grant(None, size)
        self.wire.end.grant(self.stream, size)
        self.wire.settle()

    def reads_on(self) -> None:
        self._is_stalled = False
        end = self.wire.end
        end.grants = True
        for stream in [None, *end.streams.values()]:
            if stream is None or not stream.is_done:
                missing = 65535 - (end.own_window if stream is None else stream.own_window)
                if missing > 0:
                    end.grant(stream, missing)
        self.wire.settle()
        self._see()

    # ---- what the peer sees

    def is_reset(self) -> bool:
        stream = self.stream
        return self.transport.is_aborted or (stream is not None and stream.code > _NO_ERROR)

    def is_open(self) -> bool:
        return super().is_open() and not self.is_reset()

    def is_read(self) -> bool:
        stream = self.stream
        return self.transport.is_reading and (stream is None or not stream.waiting or stream.code >= 0)

    def is_closed(self) -> bool:
        return super().is_closed() or self._is_over()

    def is_lingering(self) -> bool:
        return self._is_over()

    def _is_over(self) -> bool:
        """Whether the proxy has ended the stream, completely or not: by that, as by a FIN, the peer knows the end."""
        return self.stream is not None and self.stream.is_done

    def _send(self, event: Event, following: Event | None) -> bool:
        """Sends data, trailers or the end on the stream. Whether `following` is contained in it."""
        stream = self.stream
        assert stream is not None
        end = self.wire.end
        is_last = following == ("end",)
        if event[0] == "data":
            end.send_data(stream, event[1], is_last)
            return is_last
        if event[0] == "trailers":
            end.send_trailers(stream, event[1])
            return is_last
        end.send_data(stream, b"", True)
        return False


class TextClient(TextStream):
    """A client. Requests that a test sends one behind the other are sent each when the one before has its response."""

    def __init__(self, peer: Peer, scheme: str) -> None:
        super().__init__(peer, False)
        self._scheme = scheme.encode()
        self._waiting: deque[Event] = deque()
        self._wire = H2Peer(peer, True)
        self._wire.end.on_change = self._on_change
        self._wire.settle()

    @property
    def wire(self) -> H2Peer:
        return self._wire

    def _head_event(self, fields: Pairs) -> Event:
        return ("head", int(dict(fields)[b":status"]), shared([pair for pair in fields if pair[0] != b":status"]))

    def _on_change(self, stream: Stream) -> None:
        if stream is self.stream:
            self._see()
            if stream.is_done and self._waiting:
                self.loop.later(self._go_on)

    def _say(self, data: bytes) -> None:
        self._waiting.extend(self._own.feed(data))
        self._go_on()

    def _go_on(self) -> None:
        waiting = self._waiting
        while waiting:
            if waiting[0][0] == "head" and self.stream is not None and not self.stream.is_done:
                break
            event = waiting.popleft()
            following = waiting[0] if waiting else None
            if event[0] == "head":
                if self._open(event, following == ("end",)):
                    waiting.popleft()
            elif self.stream is not None and self.stream.code < 0 and self._send(event, following):
                waiting.popleft()

    def _open(self, event: Event, end: bool) -> bool:
        """Opens a stream. Whether it has ended with the head."""
        _, (method, target), fields = event
        self._expected.methods.append(method)
        stream = self._wire.end.new_stream()
        self._begin(stream)
        host = next((value for name, value in fields if name == b"host"), b"")
        rest = [pair for pair in fields if pair[0] != b"host"]
        pseudo = [(b":method", method), (b":scheme", self._scheme), (b":authority", host), (b":path", target)]
        self._wire.end.send_head(stream, [*pseudo, *rest], end)
        return end


class UpstreamConnection(H2Peer):
    """A connection to an upstream, on which streams are passed to its peers."""

    def __init__(self, peer: Peer) -> None:
        self.address = peer.name.removeprefix("upstream ")
        self.peers: list[TextUpstream] = []
        #: Streams that no peer has.
        self.unclaimed: list[Stream] = []
        self._known: set[int] = set()
        super().__init__(peer, False)
        self.end.on_change = self._on_change

    def _on_change(self, stream: Stream) -> None:
        if stream.number not in self._known:
            self._known.add(stream.number)
            free = [peer for peer in self.peers if peer.is_free()]
            if free:
                free[-1].take(stream)
            else:
                self.unclaimed.append(stream)
        for peer in self.peers:
            if peer.stream is stream:
                peer._see()

    def new_peer(self) -> TextUpstream:
        """A peer for the next stream."""
        found = TextUpstream(self)
        self.peers.append(found)
        if self.unclaimed:
            found.take(self.unclaimed.pop(0))
        return found


class TextUpstream(TextStream):
    """An upstream: one stream after another of its connection."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__(connection.peer, True)
        self._connection = connection

    @property
    def wire(self) -> H2Peer:
        return self._connection

    def is_free(self) -> bool:
        """Whether its last stream is over."""
        stream = self.stream
        return stream is None or (stream.is_done and (stream.is_ended or stream.is_reset or stream.code >= 0))

    def take(self, stream: Stream) -> None:
        """This stream is the peer's."""
        self._begin(stream)
        self._see()

    def _head_event(self, fields: Pairs) -> Event:
        known = dict(fields)
        rest = [pair for pair in fields if not pair[0].startswith(b":")]
        host = [(b"host", known[b":authority"])] if b":authority" in known else []
        self._own.methods.append(known[b":method"])
        return ("head", (known[b":method"], known.get(b":path", b"")), asked(shared([*host, *rest])))

    def _say(self, data: bytes) -> None:
        self._pass_on(deque(self._own.feed(data)))

    def _pass_on(self, events: deque[Event]) -> None:
        stream = self.stream
        while events:
            event = events.popleft()
            following = events[0] if events else None
            if stream is None or stream.code >= 0 or self.transport.is_lost:
                continue  # nobody reads it
            if event[0] == "head":
                _, status, fields = event
                end = following == ("end",)
                self.wire.end.send_head(stream, [(b":status", b"%d" % status), *fields], end)
                if end:
                    events.popleft()
            elif self._send(event, following):
                events.popleft()

    def shuts(self) -> None:
        ends = self._own.eof()
        if ends:
            self._pass_on(deque(ends))
            self.wire.settle()
        super().shuts()

    def resets(self) -> None:
        """The connection is lost, or, if others use it, the stream."""
        others = [peer for peer in self._connection.peers if peer is not self and not peer.is_free()]
        if others and self.stream is not None:
            self._connection.resets_stream(self.stream, _INTERNAL_ERROR)
        else:
            super().resets()


class TextDialer(FakeDialer):
    """Its upstreams speak HTTP/1 text with the test, and HTTP/2 with the proxy if `speaks_http2`."""

    def __init__(self, loop: FakeLoop, numbers: ConnectionIds, clock: Clock, wheel: TimerWheel, one_byte: bool) -> None:
        super().__init__(loop, numbers, clock, wheel, one_byte)
        self._shared: list[UpstreamConnection] = []

    def new_peer(self, address: str, connection: TcpConnection, stalled: bool) -> Peer:
        if not self.speaks_http2:
            return self._carry(TextPeer, address, connection, stalled)
        shared = UpstreamConnection(self._carry(Peer, address, connection, False))
        self._shared.append(shared)
        peer = shared.new_peer()
        if stalled:
            peer.stalls()
        return peer

    def next_stream(self, address: str) -> Peer | None:
        for one in self._shared:
            if one.unclaimed and one.address == address:
                peer = one.new_peer()
                self.upstreams.append(peer)
                return peer
        return None

    def expect_no_stream(self) -> None:
        for one in self._shared:
            assert not one.unclaimed, f"a request that no peer has: {one.unclaimed[0].heads}"
