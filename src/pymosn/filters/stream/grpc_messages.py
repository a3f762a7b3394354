"""What the filters around gRPC share: a request as a call, and messages that their length precedes."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import TIMEOUT, GrpcRequest
from pymosn.api.http import HttpRequest

#: Flag (1) and length (4), which precede a message.
FRONT: Final = 5
COMPRESSED: Final = 1


def begin_call(exchange: Exchange, call: GrpcRequest) -> None:
    """Makes `call`, which has the headers of the request, the request of the exchange. It goes upstream in HTTP/2."""
    request = exchange.request
    assert isinstance(request, HttpRequest)
    request.copy_into(call)
    call.body_source = request.body_source
    request.body_source = None  # it refers to the exchange: without this only the garbage collector would free both
    call.new_body = request.new_body
    call.accepts_trailers = True
    exchange.request = call
    timeout = call.headers.get_raw(TIMEOUT)
    if timeout is not None:
        call.adopt_timeout(timeout)
    exchange.choose(protocol="Http2")


class MessageReader:
    """Cuts messages out of a body that arrives in chunks."""

    def __init__(self, limit: int) -> None:
        """`limit`: maximum bytes of one message."""
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with `data`. Raises ValueError for compressed and for too long ones."""
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        at = 0
        while len(buffer) - at >= FRONT:
            size = int.from_bytes(buffer[at + 1 : at + FRONT], "big")
            if buffer[at] != 0:
                raise ValueError("a message is compressed" if buffer[at] == COMPRESSED else f"invalid flags {buffer[at]}")
            if size > self._limit:
                raise ValueError(f"a message of {size} bytes exceeds the limit of {self._limit}")
            end = at + FRONT + size
            if len(buffer) < end:
                break
            found.append(bytes(buffer[at + FRONT : end]))
            at = end
        del buffer[:at]
        return found

    def has_rest(self) -> bool:
        """Whether a part of a message has arrived."""
        return len(self._buffer) > 0
