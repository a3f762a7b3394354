"""The counted requests: a small GET, the same through a filter, an RPC call, and a body of 1 MiB."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.rpc_frames import Bolt

_FIELDS = (
    b"Host: bench.example\r\nUser-Agent: pymosn-bench\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-User: alice\r\n"
)
_MIB = 1 << 20
#: Bytes of a body that arrive in one read.
_READ = 1 << 16


class Case:
    """One kind of request, sent `count` times on one connection. `protocol`: of the listener; `match`: of the route."""

    name = ""
    protocol = "Http1"
    match: Mapping[str, object] = {"prefix": "/"}
    count = 1000
    #: Minimum size of a response in bytes.
    body_size = 0
    #: The listener's `stream_filters`.
    filters: Sequence[Mapping[str, object]] = ()

    def request(self) -> bytes:
        """The data that the client sends."""
        raise NotImplementedError

    def response(self, request: bytes) -> Sequence[bytes]:
        """The data that the upstream sends in response to `request`, one item per read."""
        raise NotImplementedError


class SmallGet(Case):
    """Five header fields, and a response body of 100 bytes; both peers send `Connection: keep-alive`, as many do."""

    name = "small GET"
    body_size = 100
    _response = (b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
                 b"Content-Length: 100\r\nConnection: keep-alive\r\n\r\n" + bytes(100),)  # fmt: skip

    def request(self) -> bytes:
        return b"GET /items/7?full=1 HTTP/1.1\r\n" + _FIELDS + b"Connection: keep-alive\r\n\r\n"

    def response(self, request: bytes) -> Sequence[bytes]:
        return self._response


class FilteredGet(SmallGet):
    """The same through a plain filter that sees both heads."""

    name = "header filter"
    filters = (
        {
            "type": "python",
            "config": {"path": str(Path(__file__).parents[1] / "filters.py"), "class": "HeaderFilter", "number": 1},
        },
    )


class BoltCall(Case):
    """An echoed body of 1 KiB."""

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
        return (self._wire.response(request[at : at + self._wire.id_size]),)


class MiB(SmallGet):
    """A response body of 1 MiB, which arrives in reads of 64 KiB."""

    name = "1 MiB"
    count = 200
    body_size = _MIB
    _response = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % _MIB,
        *(bytes(_READ) for _ in range(_MIB // _READ)),
    )


CASES: Sequence[Case] = (SmallGet(), FilteredGet(), BoltCall(), MiB())
