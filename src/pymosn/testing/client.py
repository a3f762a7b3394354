"""The client of a test: it sends a request to the proxy's real codec, and reads the response."""

import asyncio
from typing import Final

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.http import HttpResponse
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamHandler
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http1.response import ResponseDecoder
from pymosn.protocol.http2.frames import FRAME_HEADER
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.stream.http1.server import Http1Server
from pymosn.stream.http2.server_filter import Http2Server
from pymosn.testing.fakes import HTTP2, PROTOCOL, Wire, call
from pymosn.testing.http2 import Http2End, Pairs, headers_of, pairs_of
from pymosn.testing.listener import Listener
from pymosn.testing.messages import HOST, Request

_LIMITS: Final = HttpLimits(head=1 << 30, fields=1 << 20, body=0)


class Exchanges(StreamHandler):
    """Creates the exchange of the client's only request."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, protocol: str) -> None:
        self._runtime = runtime
        self._options = options
        self._protocol = protocol
        self.driver: ExchangeDriver | None = None

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        self.driver = ExchangeDriver(self._runtime, self._options, sender, self._protocol)
        return self.driver


class Client(Wire):
    """A connection that carries one request, in HTTP/1."""

    protocol = PROTOCOL

    def __init__(
        self, runtime: Runtime, options: ProxyOptions, listener: Listener, ip: str, number: int, request: Request
    ) -> None:
        self._exchanges = Exchanges(runtime, options, self.protocol)
        super().__init__(self._server(listener), number, (ip, 50000), runtime.clock, runtime.wheel)
        self.request = request
        self.head: ResponseHead | None = None
        self.chunks: list[bytes] = []
        self.trailers: Headers | None = None
        #: Whether the response is complete.
        self.is_complete = False
        #: Done when the exchange is over.
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._continues = asyncio.Event()
        self._decoder = ResponseDecoder(_LIMITS)
        self._decoder.expect(request.method.encode("utf-8", "surrogateescape"))

    def _server(self, listener: Listener) -> ServerStreams:
        """The proxy's side."""
        return Http1Server(self._exchanges, listener.http1)

    @property
    def driver(self) -> ExchangeDriver | None:
        """What conducts the exchange, once the request's head has been read."""
        return self._exchanges.driver

    def finish(self) -> None:
        """Nothing more is awaited: the exchange is over, or the test is."""
        self._continues.set()
        if not self.end.done():
            self.end.set_result(None)

    async def deliver(self) -> None:
        """Sends the request, as fast as the proxy reads, until the exchange is over."""
        await call(self.open)
        for index, piece in enumerate(self.request.pieces()):
            if index == 1 and self.request.headers.has_raw(b"expect"):
                await self._continues.wait()
            if self.end.done():
                return
            await self.send(piece)

    def on_bytes(self, data: bytes) -> None:
        self._decoder.feed(data)
        try:
            while not self.is_complete and self._decoder.decode() != NEED_MORE:
                self._take()
        except ProtocolError:
            self._decoder.discard()  # for a client, the response ends here, incomplete

    def _take(self) -> None:
        decoder = self._decoder
        self._continues.set()  # the client waits for any response
        if self.head is None or self.head.status < 200:
            self.head = decoder.head
        if decoder.data:
            self.chunks.append(decoder.data)
        if decoder.end and self.head.status >= 200:
            self.is_complete = True
            self.trailers = decoder.trailers

    def on_end(self) -> None:
        self._continues.set()


class Http2Client(Client):
    """A connection that carries one request, in HTTP/2."""

    protocol = HTTP2

    def __init__(
        self, runtime: Runtime, options: ProxyOptions, listener: Listener, ip: str, number: int, request: Request
    ) -> None:
        super().__init__(runtime, options, listener, ip, number, request)
        loop = asyncio.get_running_loop()
        self._http2 = Http2End(True, lambda data: loop.call_soon(self._deliver, data))
        self._http2.on_head = self._on_head
        self._http2.on_data = self._on_data

    def _server(self, listener: Listener) -> ServerStreams:
        return Http2Server(self._exchanges, listener.http2)

    async def deliver(self) -> None:
        await call(self.open)
        http2 = self._http2
        request = self.request
        chunks = request.chunks
        has_end = not chunks and request.trailers is None
        await self.send(http2.opening() + http2.head(self._head_fields(), has_end))
        if request.headers.has_raw(b"expect") and not has_end:
            await self._continues.wait()
        for index, chunk in enumerate(chunks):
            await self._send_data(chunk, index == len(chunks) - 1 and request.trailers is None)
        if request.trailers is not None and not self.end.done():
            await self.send(http2.head(pairs_of(request.trailers), True))

    async def _send_data(self, data: bytes, end: bool) -> None:
        """Sends a chunk as the proxy's windows allow."""
        while not self.end.done() and not self._http2.is_reset:
            frame = await self._http2.data(data, end)
            await self.send(frame)
            data = data[len(frame) - FRAME_HEADER :]
            if not data:
                break

    def _head_fields(self) -> Pairs:
        request = self.request
        fields = pairs_of(request.headers)
        authority = next((value for name, value in fields if name == b"host"), HOST.encode())
        method, target = (text.encode("utf-8", "surrogateescape") for text in (request.method, request.target))
        head = [(b":method", method), (b":scheme", self.connection.scheme.encode()), (b":authority", authority)]
        if method != b"CONNECT":
            head.append((b":path", target))
        fields = [pair for pair in fields if pair[0] != b"host"]
        if request.is_sized and request.trailers is None and request.chunks:
            fields.append((b"content-length", b"%d" % len(request.body)))
        return head + fields

    def on_bytes(self, data: bytes) -> None:
        self._http2.feed(data)

    def _on_head(self, fields: Pairs, end: bool) -> None:
        self._continues.set()
        if self.head is not None and self.head.status >= 200:
            self.trailers = headers_of(fields)
        else:
            status = int(dict(fields)[b":status"])
            self.head = HttpResponse(status, b"", headers_of([pair for pair in fields if pair[0] != b":status"]))
        self.is_complete = end

    def _on_data(self, data: bytes, end: bool) -> None:
        if data:
            self.chunks.append(data)
        self.is_complete = end

    def finish(self) -> None:
        super().finish()
        self._http2.stop()

    def on_end(self) -> None:
        super().on_end()
        self._http2.stop()


class Ends(AccessLog):
    """Notifies clients of the ends of their exchanges. `clients`: by the number of their connection."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}

    def log(self, exchange: Exchange) -> None:
        client = self.clients.get(int(exchange.connection_id))
        if client is not None:
            client.finish()
