"""Substitutes for the rest of the proxy: clock, log, client and upstreams."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

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
#: Seconds of real time after which a waiting test fails.
TEST_TIMEOUT: Final = 10.0


async def rounds(count: int = 10) -> None:
    """Runs the event loop for `count` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


def request_head(request: Request) -> RequestHead:
    """The request's head, as a codec would decode it."""
    head = HttpRequest()
    head.method = request.method
    head.path = request.path
    head.query = request.query
    head.headers = request.headers.copy()
    head.host = head.headers.get("host") or "test.example"
    head.content_length = len(request.body)
    if request.trailers is not None:
        head.set_length(UNKNOWN_LENGTH)
    elif request.chunks:
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
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.level = TRACE
        self.lines: list[str] = []
        self.alerts: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)
        self.alerts.append(alert)


class Client(ResponseSender):
    """The client's side of the exchange."""

    def __init__(self, ip: str, method: str = "GET") -> None:
        self._method = method
        self.head: ResponseHead | None = None
        self.chunks: list[bytes] = []
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

    async def wait_until_resumed(self) -> None:
        """Waits while the proxy has paused the body."""
        await asyncio.sleep(0)
        async with asyncio.timeout(TEST_TIMEOUT):
            while self._pauses > 0 and not self.is_over.is_set():
                await asyncio.sleep(0)

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        pass

    def takes_body(self, head: ResponseHead) -> bool:
        return self._method != "HEAD" and head.status not in (204, 304)

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.head = head
        self._is_without_body = not self.takes_body(head)
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data and not self._is_without_body:
            self.chunks.append(data)

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
    """A protocol whose pools lead to simulated hosts."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ProtocolSpec(PROTOCOL, "", False))
        self._ask = ask

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Pool(self._ask, target.address.partition(":")[0])


class Pool(ConnectionPool):
    """Grants every request a stream."""

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
    """One request to a simulated host."""

    def __init__(self, ask: Ask, cluster: str, receiver: ResponseReceiver) -> None:
        self._ask = ask
        self._cluster = cluster
        self._receiver = receiver
        self._connection = Connection()
        self._request = Request()
        self._task: asyncio.Task[None] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()

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
            self._request.chunks.append(data)
        if end:
            self._task = asyncio.get_running_loop().create_task(self._respond())

    def send_trailers(self, trailers: Headers) -> None:
        self._request.trailers = trailers
        self.send_data(b"", True)

    async def _respond(self) -> None:
        try:
            response = await self._ask(self._cluster, self._request)
        except Down as down:
            self._receiver.on_reset(down.failure)
            return
        head = HttpResponse(response.status, b"", response.headers.copy())
        chunks = response.chunks if self._request.method != "HEAD" else []
        trailers = response.trailers if self._request.method != "HEAD" else None
        if response.is_sized and trailers is None:
            head.set_length(sum(len(chunk) for chunk in chunks))
        whole = len(chunks) <= 1 and response.is_sized and trailers is None
        self._receiver.on_response(head, chunks[0] if whole and chunks else b"", whole)
        for chunk in [] if whole else chunks:
            await self._resumed.wait()
            await asyncio.sleep(0)
            self._receiver.on_data(chunk, False)
        if trailers is not None:
            self._receiver.on_trailers(trailers.copy())
        elif not whole:
            self._receiver.on_data(b"", True)

    def pause(self) -> None:
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
