"""The fake peers of the proxy that speak HTTP/2: clients and upstreams of a `Talk`.

    client = h2_client(talk)
    stream = client.requests(get("/a"))
    upstream = h2_upstream(talk.expect_dial())
    upstream.responds(upstream.takes_stream(), 200, [(b"x", b"1")], b"hello")
    assert client.result(stream) == (200, b"hello")

Tests that speak HTTP/1 text run over these peers by way of `h2_text.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.h2_end import End, Pairs, Stream
from tests.kit.h2_frames import Fields
from tests.kit.peers import Peer

if TYPE_CHECKING:
    from tests.kit.talk import Talk


def get(path: bytes = b"/", authority: bytes = b"a", *fields: tuple[bytes, bytes]) -> Pairs:
    """The fields of a GET."""
    return request(b"GET", path, authority, *fields)


def request(method: bytes, path: bytes = b"/", authority: bytes = b"a", *fields: tuple[bytes, bytes]) -> Pairs:
    """The fields of a request."""
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path)]
    return [*pseudo, *fields]


class H2Peer:
    """One end of a connection of the proxy. `end` has everything that came."""

    def __init__(self, peer: Peer, is_client: bool, settings: tuple[tuple[int, int], ...] = (), window: int = 0) -> None:
        self.peer = peer
        peer.loop.settles = True
        self.end = End(is_client, self._write, settings, window)
        self._out = bytearray()
        self._is_pumping = False
        self._arrived = b""
        peer.transport.on_arrival = self._on_arrival
        self.sends(self.end.opening())
        self._on_arrival()

    # ---- bytes

    def sends(self, data: bytes) -> None:
        """These bytes arrive at the proxy."""
        self.end.note(data)
        self.peer.sends(data)

    def _write(self, data: bytes) -> None:
        """The end has something to send: in the next iteration of the loop."""
        self._out += data
        if not self._is_pumping:
            self._is_pumping = True
            self.peer.loop.later(self._pump)

    def _pump(self) -> None:
        self._is_pumping = False
        data, self._out = bytes(self._out), bytearray()
        if not self.peer.transport.is_lost:
            self.peer.gives(data)

    def settle(self) -> None:
        """Lets everything happen that follows from what the end has to send."""
        self.peer.loop.do(lambda: None)

    def _on_arrival(self) -> None:
        transport = self.peer.transport
        self._arrived, transport.received = self._arrived + transport.received, b""
        self.peer.loop.later(self._read)

    def _read(self) -> None:
        data, self._arrived = self._arrived, b""
        if data:
            self.end.feed(data)

    # ---- the connection

    def resets(self) -> None:
        """The connection is lost."""
        self.peer.resets()

    def is_open(self) -> bool:
        """Whether the proxy keeps the connection, and has announced no end."""
        return self.peer.is_open() and not self.end.goaways

    def goaway(self) -> int:
        """The code of the GOAWAY that came; -1 for none."""
        return self.end.goaways[-1][1] if self.end.goaways else -1

    def resets_stream(self, stream: Stream, code: int = 8) -> None:
        """Resets a stream, by default with CANCEL."""
        self.end.reset(stream, code)
        self.settle()

    def sends_data(self, stream: Stream, data: bytes, end: bool = False) -> None:
        """Sends content as the windows allow."""
        self.end.send_data(stream, data, end)
        self.settle()

    def sends_trailers(self, stream: Stream, fields: Fields) -> None:
        self.end.send_trailers(stream, fields)
        self.settle()


class H2Client(H2Peer):
    """A client."""

    def __init__(self, peer: Peer, settings: tuple[tuple[int, int], ...] = (), window: int = 0) -> None:
        super().__init__(peer, True, settings, window)
        self.settle()

    def requests(self, fields: Fields, body: bytes = b"", end: bool = True) -> Stream:
        """Sends a request."""
        stream = self.end.send_request(fields, body, end)
        self.settle()
        return stream

    def result(self, stream: Stream) -> tuple[int, bytes]:
        """Status and content of a complete response."""
        assert stream.has_end, f"the response has not ended; reset with {stream.code}"
        return stream.status, stream.data


class H2Upstream(H2Peer):
    """An upstream."""

    def __init__(self, peer: Peer, settings: tuple[tuple[int, int], ...] = (), window: int = 0) -> None:
        super().__init__(peer, False, settings, window)
        self._taken: set[int] = set()
        self.settle()

    def takes_stream(self) -> Stream:
        """The next request that has come; it may be incomplete."""
        for number, stream in self.end.streams.items():
            if number not in self._taken:
                self._taken.add(number)
                return stream
        raise AssertionError(f"{self.peer.name} got no further request")

    def got_nothing(self) -> bool:
        """Whether each request that came was taken."""
        return len(self._taken) == len(self.end.streams)

    def responds(self, stream: Stream, status: int = 200, fields: Fields = (), body: bytes = b"", end: bool = True) -> None:
        """Sends a response."""
        self.end.send_head(stream, [(b":status", b"%d" % status), *fields], end and not body)
        if body:
            self.end.send_data(stream, body, end)
        self.settle()


def h2_client(talk: Talk, ip: str = "192.0.2.7", settings: tuple[tuple[int, int], ...] = (), window: int = 0) -> H2Client:
    """A client that speaks HTTP/2 connects."""
    return H2Client(talk.connect(ip), settings, window)


def h2_upstream(peer: Peer, settings: tuple[tuple[int, int], ...] = (), window: int = 0) -> H2Upstream:
    """Makes an upstream, of `expect_dial`, speak HTTP/2."""
    return H2Upstream(peer, settings, window)
