"""What is counted: a small GET, an RPC, and a body of 1 MiB."""

from collections.abc import Mapping, Sequence

from bench.rpc_frames import Bolt

_FIELDS = (
    b"Host: bench.example\r\nUser-Agent: pymosn-bench\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-User: alice\r\n"
)
_MIB = 1 << 20
#: Bytes of a body that come with one read.
_READ = 1 << 16


class Case:
    """One kind of request, `count` times on one connection. `protocol`: as a listener names it; `match`: of the route."""

    name = ""
    protocol = "Http1"
    match: Mapping[str, object] = {"prefix": "/"}
    count = 1000
    #: A reply has at least as many bytes.
    body_size = 0

    def request(self) -> bytes:
        """What the client sends."""
        raise NotImplementedError

    def response(self, request: bytes) -> Sequence[bytes]:
        """What the upstream sends, read by read, for what came to it."""
        raise NotImplementedError


class SmallGet(Case):
    """Five fields, and a body of 100 bytes."""

    name = "small GET"
    body_size = 100
    _response = (b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
                 b"Content-Length: 100\r\n\r\n" + bytes(100),)  # fmt: skip

    def request(self) -> bytes:
        return b"GET /items/7?full=1 HTTP/1.1\r\n" + _FIELDS + b"\r\n"

    def response(self, request: bytes) -> Sequence[bytes]:
        return self._response


class BoltCall(Case):
    """1 KiB echoed."""

    name = "Bolt call"
    protocol = "bolt"
    match: Mapping[str, object] = {"headers": [{"name": "service", "value": ".*"}]}
    body_size = 1024

    def __init__(self) -> None:
        self._wire = Bolt()
        self._last = 0

    def request(self) -> bytes:
        self._last += 1
        return self._wire.request(self._last)

    def response(self, request: bytes) -> Sequence[bytes]:
        at = self._wire.id_at
        return (self._wire.reply(request[at : at + self._wire.id_size]),)


class MiB(SmallGet):
    """A body of 1 MiB, which comes in reads of 64 KiB."""

    name = "1 MiB"
    count = 200
    body_size = _MIB
    _response = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % _MIB,
        *(bytes(_READ) for _ in range(_MIB // _READ)),
    )


CASES: Sequence[Case] = (SmallGet(), BoltCall(), MiB())
