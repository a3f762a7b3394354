"""The hosts of a test's clusters: the proxy's real pool and codec, and functions of the test that respond."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pymosn.api.network import Dialer, DialReceiver, NetworkFilter, Peer
from pymosn.api.protocol import HEAD, NEED_MORE, ProtocolError
from pymosn.api.stream import ConnectionPool, PoolTarget, RequestSender, ResponseReceiver, StreamProtocol
from pymosn.core.clock import Clock
from pymosn.core.errors import is_a
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.core.uri import KEEP_SLASHES
from pymosn.network.listener import ConnectionIds
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import PASS_UNDERSCORES, HttpPolicy
from pymosn.protocol.http1.encoder import encode_chunk
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.protocol.http1.spec import Http1Spec
from pymosn.protocol.http2.frames import FRAME_HEADER
from pymosn.protocol.http2.spec import Http2Spec
from pymosn.stream.http1.client import Http1Pool
from pymosn.stream.http2.pool import Http2Pool
from pymosn.testing.fakes import Wire, call
from pymosn.testing.http2 import Http2End, Pairs, fields_of_response, headers_of, pairs_of
from pymosn.testing.messages import Down, Request, Response
from pymosn.testing.mistakes import Mistakes

_LIMITS: Final = HttpLimits(head=1 << 30, fields=1 << 20, body=0)
#: A host believes everything that its proxy sends.
_POLICY: Final = HttpPolicy(
    is_strict=True, trusts_peer=True, merges_slashes=False, slashes=KEEP_SLASHES, underscores=PASS_UNDERSCORES
)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

#: Responds to a request to a cluster. Raises Down for a failure of the host; whatever else it raises fails the test.
Ask = Callable[[str, Request], Awaitable[Response]]


class Hosts(Dialer):
    """Opens connections to the simulated hosts. The address of a cluster's host is its name with a port."""

    def __init__(self, ask: Ask, mistakes: Mistakes, clock: Clock, wheel: TimerWheel) -> None:
        """`mistakes`: for what prevents a response."""
        self.ask = ask
        self.mistakes = mistakes
        self.numbers = ConnectionIds()
        self.relays: dict[int, Relay] = {}
        #: The connections on which a response is awaited or sent.
        self.busy: set[HostWire] = set()
        self._clock = clock
        self._wheel = wheel

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        self.open(HostWire, peer, network_filter, receiver)

    def open(self, kind: "type[HostWire]", peer: Peer, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        """Opens a connection to a host; `kind` depends on what it speaks."""
        wire = kind(self, peer.address.rpartition(":")[0], network_filter, self._clock, self._wheel)
        wire.open()
        receiver.on_dialed(wire.connection)

    async def stop(self) -> None:
        """Ends the responses that are still awaited."""
        tasks = [wire.task for wire in self.busy if wire.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class HostWire(Wire):
    """One connection to a host, which carries one request."""

    def __init__(self, hosts: Hosts, cluster: str, network_filter: NetworkFilter, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__(network_filter, int(hosts.numbers.next()), ("192.0.2.3", 80), clock, wheel)
        self.cluster = cluster
        self.request = Request()
        #: What is being sent.
        self.response: Response | None = None
        self.task: asyncio.Task[None] | None = None
        self._hosts = hosts
        self._decoder = RequestDecoder(_LIMITS, _POLICY)
        self._target = b""

    # ---- the request

    def on_bytes(self, data: bytes) -> None:
        if self.task is not None:
            return  # it was cut off
        try:
            self._decoder.feed(data if self._target else self._without_target(data))
            while self.task is None:
                found = self._decoder.decode()
                if found == NEED_MORE:
                    break
                self._take(found == HEAD)
        except ProtocolError:
            self._begin(self._refuse())

    def _without_target(self, data: bytes) -> bytes:
        """Keeps the request line, and replaces it with one that is not normalized."""
        line, _, rest = data.partition(b"\r\n")
        self._target = line
        return b"POST / HTTP/1.1\r\n" + rest

    def _take(self, is_head: bool) -> None:
        decoder = self._decoder
        if is_head:
            method, target, _ = self._target.decode("utf-8", "surrogateescape").split(" ", 2)
            self.request = Request(method, target)
            self.request.headers = decoder.head.headers
            if decoder.head.expects_continue:
                asyncio.get_running_loop().call_soon(self._deliver, _CONTINUE)
        if decoder.data:
            self.request.chunks.append(decoder.data)
        if decoder.end:
            self.request.trailers = decoder.trailers
            self._begin(self._respond())

    def _begin(self, work: Awaitable[None]) -> None:
        self._hosts.busy.add(self)
        self.task = asyncio.ensure_future(work)
        self.task.add_done_callback(lambda _: self._hosts.busy.discard(self))

    # ---- the response

    async def _refuse(self) -> None:
        await self.send(_BAD_REQUEST)

    async def _respond(self) -> None:
        try:
            response = await self._hosts.ask(self.cluster, self.request)
            self.response = response
            await self._send(response)
        except Down as down:
            await self._fail(down.failure)
        except BaseException as error:
            task = self.task
            if is_a(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._hosts.mistakes.add(error)

    async def _send(self, response: Response) -> None:
        has_body = self.request.method != "HEAD" and response.status not in (204, 304)
        head = response.head(has_body)
        if not has_body:
            await self.send(head)
        elif not response.is_chunked():
            await self._send_sized(head, response.chunks)
        else:
            await self.send(head)
            async for chunk in response.parts():
                if chunk:
                    await self.send(b"".join(encode_chunk(chunk, False)))
                else:
                    await asyncio.sleep(0)  # there may be no end of them
            await self.send(response.end_of_body())

    async def _send_sized(self, head: bytes, chunks: list[bytes]) -> None:
        if len(chunks) <= 1:
            await self.send(head + b"".join(chunks))
            return
        await self.send(head)
        for chunk in chunks:
            await self.send(chunk)

    async def _fail(self, failure: Failure) -> None:
        relay = self._hosts.relays.get(int(self.connection.id))
        if relay is not None:
            await call(lambda: relay.fail(failure))

    def on_end(self) -> None:
        self._hosts.relays.pop(int(self.connection.id), None)
        task = self.task
        if task is not None and task is not asyncio.current_task():
            task.cancel()


class Http2HostWire(HostWire):
    """One connection to a host that speaks HTTP/2, which carries one request."""

    def __init__(self, hosts: Hosts, cluster: str, network_filter: NetworkFilter, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__(hosts, cluster, network_filter, clock, wheel)
        loop = asyncio.get_running_loop()
        self._http2 = Http2End(False, lambda data: loop.call_soon(self._deliver, data))
        self._http2.on_head = self._on_head
        self._http2.on_data = self._on_data
        self._http2.on_reset = self.on_end
        loop.call_soon(self._deliver, self._http2.opening())
        self._has_head = False

    def on_bytes(self, data: bytes) -> None:
        self._http2.feed(data)

    def _on_head(self, fields: Pairs, end: bool) -> None:
        if self._has_head:
            self.request.trailers = headers_of(fields)
        else:
            self._has_head = True
            known = {name: value.decode("utf-8", "surrogateescape") for name, value in fields}
            self.request = Request(known[b":method"], known.get(b":path", known.get(b":authority", "")))
            host = [(b"host", value) for name, value in fields if name == b":authority"]
            rest = [pair for pair in fields if not pair[0].startswith(b":")]
            self.request.headers = headers_of(host + rest)
            self.request.is_sized = any(name == b"content-length" for name, _ in fields)
            if any(name == b"expect" for name, _ in fields) and not end:
                asyncio.get_running_loop().call_soon(self._deliver, self._http2.head([(b":status", b"100")], False))
        if end:
            self._begin(self._respond())

    def _on_data(self, data: bytes, end: bool) -> None:
        if data:
            self.request.chunks.append(data)
        if end and self.task is None:
            self._begin(self._respond())

    async def _send(self, response: Response) -> None:
        http2 = self._http2
        has_body = self.request.method != "HEAD" and response.status not in (204, 304)
        fields = [(b":status", b"%d" % response.status), *fields_of_response(response.headers)]
        if not response.is_chunked() and response.status not in (204, 304):
            fields.append((b"content-length", b"%d" % len(response.body)))
        trailers = response.trailers
        is_empty = not has_body or (not response.is_chunked() and not response.chunks)
        await self.send(http2.head(fields, is_empty))
        if is_empty:
            return
        async for chunk in response.parts():
            await self._send_data(chunk)
        await self.send(await http2.data(b"", True) if trailers is None else http2.head(pairs_of(trailers), True))

    async def _send_data(self, data: bytes) -> None:
        if not data:
            await asyncio.sleep(0)  # there may be no end of them
        while data and not self._http2.is_reset:
            frame = await self._http2.data(data, False)
            await self.send(frame)
            data = data[len(frame) - FRAME_HEADER :]

    def on_end(self) -> None:
        self._http2.stop()
        super().on_end()


class HostProtocol(StreamProtocol):
    """HTTP/1 or HTTP/2, with connections to simulated hosts."""

    def __init__(self, hosts: Hosts, is_http2: bool) -> None:
        super().__init__(Http2Spec() if is_http2 else Http1Spec())
        self._hosts = hosts
        self._is_http2 = is_http2

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return HostPool(target, wheel, self._hosts, self._is_http2)


class HostDialer(Dialer):
    """Opens connections to the simulated hosts for one protocol."""

    def __init__(self, hosts: Hosts, is_http2: bool) -> None:
        self._hosts = hosts
        self._kind = Http2HostWire if is_http2 else HostWire

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        self._hosts.open(self._kind, peer, network_filter, receiver)


class HostPool(ConnectionPool):
    """Opens a connection for each request, so that what one request does to it does not concern the next."""

    def __init__(self, target: PoolTarget, wheel: TimerWheel, hosts: Hosts, is_http2: bool) -> None:
        self._target = target
        self._clock = wheel.clock
        self._hosts = hosts
        self._is_http2 = is_http2

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        dialer = HostDialer(self._hosts, self._is_http2)
        pool: ConnectionPool = (
            Http2Pool(self._target, dialer, self._clock) if self._is_http2 else Http1Pool(self._target, dialer)
        )
        pool.acquire(Relay(receiver, self._hosts), True)
        pool.close()  # when it is idle

    def withdraw(self, receiver: ResponseReceiver) -> None:
        pass  # connections open at once

    def close(self) -> None:
        pass  # no pool is kept


class Relay(ResponseReceiver):
    """Passes on the events of an attempt, until the test makes it fail."""

    def __init__(self, receiver: ResponseReceiver, hosts: Hosts) -> None:
        super().__init__()
        self._receiver: ResponseReceiver = receiver
        self._sender: RequestSender | None = None
        self._hosts = hosts

    def fail(self, failure: Failure) -> None:
        """The attempt fails, for a reason that a connection without a socket cannot have."""
        receiver = self._receiver
        self._end()
        if self._sender is not None:
            self._sender.cancel()
        receiver.on_reset(failure)

    def _end(self) -> None:
        """There are no further events: lets go of the exchange."""
        self._receiver = ResponseReceiver()
        if self._sender is not None:
            self._hosts.relays.pop(int(self._sender.connection().id), None)

    def on_sender(self, sender: RequestSender) -> None:
        self._sender = sender
        self._hosts.relays[int(sender.connection().id)] = self
        self._receiver.on_sender(sender)

    def on_no_sender(self, failure: Failure) -> None:
        self._receiver.on_no_sender(failure)

    def on_informational(self, head: ResponseHead) -> None:
        self._receiver.on_informational(head)

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        receiver = self._receiver
        if end:
            self._end()
        receiver.on_response(head, data, end)

    def on_data(self, data: bytes, end: bool) -> None:
        receiver = self._receiver
        if end:
            self._end()
        receiver.on_data(data, end)

    def on_trailers(self, trailers: Headers) -> None:
        receiver = self._receiver
        self._end()
        receiver.on_trailers(trailers)

    def on_reset(self, failure: Failure) -> None:
        receiver = self._receiver
        self._end()
        receiver.on_reset(failure)

    def on_writable(self, writable: bool) -> None:
        self._receiver.on_writable(writable)
