"""One HTTP request over a connected socket of the admin API, with the codec of the data path. Calls wait."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from pymosn.api.http import HttpRequest
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.headers import HttpHeaders
from pymosn.protocol.http.limits import RESPONSE_LIMITS
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http1.response import ResponseDecoder

#: Bytes that are read at once, and those of the longest line of a response.
PIECE: Final = 64 * 1024
LONGEST_LINE: Final = 64 * 1024


class WireError(ValueError):
    """The other process sends no valid response; the text is the reason."""


class AdminWire:
    """A connection for one request."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = ResponseDecoder(RESPONSE_LIMITS)
        self._first = b""
        self._has_ended = False

    def ask(self, method: str, target: str, content: bytes) -> int:
        """Sends a request and returns the status of its response. Raises WireError and OSError."""
        head = HttpRequest(HttpHeaders())
        head.raw_method, head.raw_path = method.encode(), target.encode()
        path, question, query = target.partition("?")
        if question:
            head.raw_path, head.raw_query = path.encode(), query.encode()
        head.headers.add_raw(b"host", b"localhost")
        head.headers.add_raw(b"content-type", b"application/json")
        if content or method != "GET":
            head.headers.add_raw(b"content-length", b"%d" % len(content))
        self._decoder.expect(head.raw_method)
        with suppress(BrokenPipeError):  # closed early; the response may still have arrived
            self._socket.sendall(b"".join(encode_request(head)) + content)
        self._next()
        while self._decoder.head.status < 200:
            self._next()
        self._first, self._has_ended = self._decoder.data, self._decoder.end
        return int(self._decoder.head.status)

    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives."""
        yield self._first
        while not self._has_ended:
            if not self._next():
                break
            self._has_ended = self._decoder.end
            yield self._decoder.data

    def lines(self, longest: int = LONGEST_LINE) -> Iterator[bytes]:
        """The lines of the body as they arrive, of at most about `longest` bytes."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
            if len(rest) > longest:
                raise WireError("a line of the response is too long")
        if rest:
            yield rest

    def _next(self) -> bool:
        """Reads the next head or part of the body; False at the end of one that the end of the connection ends."""
        decoder = self._decoder
        try:
            while decoder.decode() == NEED_MORE:
                data = self._socket.recv(PIECE)
                if data:
                    decoder.feed(data)
                elif decoder.finish():
                    return False
                else:
                    raise WireError("the connection has ended before the response")
        except ProtocolError as error:
            raise WireError(error.detail) from None
        return True
