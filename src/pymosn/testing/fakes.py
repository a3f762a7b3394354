"""What stands in for the rest of the proxy: clock, log, client and upstreams."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection, Dialer
from pymosn.api.protocol import ProtocolSpec
from pymosn.api.stream import (
    ConnectionPool,
    PoolTarget,
    RequestSender,
    ResponseReceiver,
    ResponseSender,
    StreamProtocol,
)
from pymosn.core.clock import Clock
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.log import TRACE, Log
from pymosn.core.message import UNKNOWN_LENGTH, RequestHead, ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.testing.messages import Down, Request, Response

PROTOCOL: Final = "Http1"
#: Seconds of real time after which a test that waits is given up.
PATIENCE: Final = 10.0


async def rounds(count: int = 10) -> None:
    """Lets the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def request_head(request: Request) -> RequestHead:
    """The head of a request as a codec would give it."""
    head = HttpRequest()
    head.method = request.method
    head.path = request.path
    head.query = request.query
    head.headers = request.headers.copy()
    head.host = head.headers.get("host") or "test.example"
    head.content_length = len(request.body)
    if request.trailers is not None:
        head.set_length(UNKNOWN_LENGTH)
    elif request.pieces:
        head.set_length(len(request.body) if request.is_sized else UNKNOWN_LENGTH)
    return head


class FakeClock(Clock):
    """Moves only when a test changes `now`. The wall clock is the real one unless `wall_time` is set."""

    def __init__(self, now: float = 1000.0, wall_time: float | None = None) -> None:
        super().__init__()
        self.now = now
        self.wall_time = wall_time

    def tick(self) -> float:
        return self.now

    def wall(self) -> float:
        return super().wall() if self.wall_time is None else self.wall_time


class Lines(Log):
    """Records the lines of a process log of any level, and the alert key of each."""

    def __init__(self) -> None:
        super().__init__()
        self.level = TRACE
        self.lines: list[str] = []
        self.alerts: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)
        self.alerts.append(alert)


class Ends(AccessLog):
    """Writes nothing."""

    def log(self, exchange: Exchange) -> None:
        pass


class Client(ResponseSender):
    """The client's end."""

    def __init__(self, ip: str, method: str = "GET") -> None:
        self._method = method
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.trailers: Headers | None = None
        self.was_reset = False
        self._is_without_body = False
        self.is_over = asyncio.Event()
        self._pauses = 0
        self._connection = Connection()
        self._connection.remote_ip = ip
        self._connection.remote_port = 50000
        self._connection.local_ip = "192.0.2.2"
        self._connection.local_port = 80

    async def may_go_on(self) -> None:
        """Waits as long as the proxy wants no more of the body."""
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            while self._pauses > 0 and not self.is_over.is_set():
                await asyncio.sleep(0)

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        pass

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.head = head
        self._is_without_body = self._method == "HEAD" or head.status in (204, 304)
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data and not self._is_without_body:
            self.pieces.append(data)

    def send_trailers(self, trailers: Headers) -> None:
        self.trailers = trailers

    def reset(self, failure: Failure) -> None:
        self.was_reset = True

    def release(self) -> None:
        self.is_over.set()

    def pause(self) -> None:
        self._pauses += 1

    def resume(self) -> None:
        self._pauses -= 1


Ask = Callable[[str, Request], Awaitable[Response]]


class Protocol(StreamProtocol):
    """Pools whose connections are made-up hosts."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ProtocolSpec(PROTOCOL, "", False))
        self._ask = ask

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Pool(self._ask, target.address.partition(":")[0])


class Pool(ConnectionPool):
    """Gives a stream to whoever asks."""

    def __init__(self, ask: Ask, cluster: str) -> None:
        self._ask = ask
        self._cluster = cluster

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        receiver.on_sender(UpstreamStream(self._ask, self._cluster, receiver))

    def withdraw(self, receiver: ResponseReceiver) -> None:
        pass

    def close(self) -> None:
        pass


class UpstreamStream(RequestSender):
    """One request at a made-up host."""

    def __init__(self, ask: Ask, cluster: str, receiver: ResponseReceiver) -> None:
        self._ask = ask
        self._cluster = cluster
        self._receiver = receiver
        self._connection = Connection()
        self._request = Request()
        self._task: asyncio.Task[None] | None = None
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def connection(self) -> Connection:
        return self._connection

    def is_reused(self) -> bool:
        return False

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        request = Request(head.method, f"{head.path}?{head.query}" if head.query else head.path)
        request.headers = head.headers.copy()
        self._request = request
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data:
            self._request.pieces.append(data)
        if end:
            self._task = asyncio.get_running_loop().create_task(self._reply())

    def send_trailers(self, trailers: Headers) -> None:
        self._request.trailers = trailers
        self.send_data(b"", True)

    async def _reply(self) -> None:
        try:
            response = await self._ask(self._cluster, self._request)
        except Down as down:
            self._receiver.on_reset(down.failure)
            return
        head = HttpResponse(response.status, b"", response.headers.copy())
        pieces = response.pieces if self._request.method != "HEAD" else []
        trailers = response.trailers if self._request.method != "HEAD" else None
        if response.is_sized and trailers is None:
            head.set_length(sum(len(piece) for piece in pieces))
        whole = len(pieces) <= 1 and response.is_sized and trailers is None
        self._receiver.on_response(head, pieces[0] if whole and pieces else b"", whole)
        for piece in [] if whole else pieces:
            await self._may_go_on.wait()
            await asyncio.sleep(0)
            self._receiver.on_data(piece, False)
        if trailers is not None:
            self._receiver.on_trailers(trailers.copy())
        elif not whole:
            self._receiver.on_data(b"", True)

    def pause(self) -> None:
        self._may_go_on.clear()

    def resume(self) -> None:
        self._may_go_on.set()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
