"""The client of a test: it sends a request to the proxy's real codec, and reads the response."""

import asyncio
from typing import Final

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.api.stream import RequestReceiver, ResponseSender, StreamHandler
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.protocol.http1.body import Http1Limits
from pymosn.protocol.http1.response import ResponseDecoder
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.http1.server import Http1Server
from pymosn.testing.fakes import PROTOCOL, Wire, call
from pymosn.testing.messages import Request

_LIMITS: Final = Http1Limits(head=1 << 30, fields=1 << 20, body=0)


class Exchanges(StreamHandler):
    """Creates the exchange of the client's only request."""

    def __init__(self, runtime: Runtime, options: ProxyOptions) -> None:
        self._runtime = runtime
        self._options = options
        self.driver: ExchangeDriver | None = None

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        self.driver = ExchangeDriver(self._runtime, self._options, sender, PROTOCOL)
        return self.driver


class Client(Wire):
    """A connection that carries one request."""

    def __init__(
        self, runtime: Runtime, options: ProxyOptions, http1: Http1Options, ip: str, number: int, request: Request
    ) -> None:
        self._exchanges = Exchanges(runtime, options)
        super().__init__(Http1Server(self._exchanges, http1), number, (ip, 50000), runtime.clock, runtime.wheel)
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


class Ends(AccessLog):
    """Notifies clients of the ends of their exchanges. `clients`: by the number of their connection."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}

    def log(self, exchange: Exchange) -> None:
        client = self.clients.get(int(exchange.connection_id))
        if client is not None:
            client.finish()
