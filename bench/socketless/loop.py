"""The event loop of a worker whose connections have no sockets.

Listeners and dials get transports that store written data. When all listeners exist, the loop acts as client and upstream of
each case, first to warm up and then to count, and writes the result for `bench.instructions`. It only assumes that a worker
calls `create_server` and `create_connection` with protocol factories.
"""

import asyncio
import gc
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.socketless.cases import CASES, Case

#: Maximum iterations of the event loop until a connection has been dialed.
DIAL_ROUNDS = 200
#: Seconds for the worker to complete its start.
SETTLE_TIME = 0.5
#: Maximum iterations of the event loop until the first response has arrived, and until nothing is scheduled.
IDLE_ROUNDS = 2000


class Transport:
    """The event loop's end of a connection."""

    def __init__(self, ip: str, port: int) -> None:
        self.written: list[bytes] = []
        #: One C call each, so that the proxy is counted and not this class.
        self.write = self.written.append
        self.writelines = self.written.extend
        self._peer = (ip, port)
        self._socket = socket.socket()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._peer, "sockname": ("127.0.0.1", 80), "socket": self._socket}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise RuntimeError("the proxy closed a connection that it should keep open")

    close = abort = write_eof


class Server:
    """The result of `create_server` for a listener."""

    def close(self) -> None:
        pass


class SocketlessLoop(asyncio.SelectorEventLoop):
    """Connects without sockets, and counts when all listeners exist."""

    def __init__(self) -> None:
        super().__init__()
        self._factories: dict[int, Callable[[], Any]] = {}
        self._upstreams: list[tuple[Any, Transport]] = []
        self._count: asyncio.Task[None] | None = None
        # While counting: the calls scheduled for the next iteration of the loop.
        self._next_round: list[tuple[Callable[..., Any], tuple[Any, ...]]] | None = None

    async def create_server(self, protocol_factory: Any, *_: Any, sock: Any = None, **__: Any) -> Any:
        self._factories[sock.getsockname()[1]] = protocol_factory
        if len(self._factories) == len(ports()):
            self._count = self.create_task(self._count_all())
        return Server()

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        protocol, transport = protocol_factory(), Transport(host, port)
        protocol.connection_made(transport)
        self._upstreams.append((protocol, transport))
        return transport, protocol

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if self._next_round is None:
            return super().call_soon(callback, *args, context=context)
        self._next_round.append((callback, args))
        return None

    def run_round(self) -> None:
        """Runs the calls scheduled for the next iteration, while counting."""
        while self._next_round:
            callback, args = self._next_round.pop(0)
            callback(*args)

    async def _become_idle(self) -> None:
        """Waits until nothing is scheduled. What has been scheduled before counting would not run while counting: a
        connection of HTTP/2 that is going to write at the end of the loop's turn would then never write again.
        """
        for _ in range(IDLE_ROUNDS):
            await asyncio.sleep(0)
            if not self._ready:
                return
        raise RuntimeError("the event loop does not become idle")

    async def _count_all(self) -> None:
        try:
            await asyncio.sleep(SETTLE_TIME)
            outcome: Any = [await self._count_case(case) for case in CASES if case.name in ports()]
        except BaseException as error:
            outcome = repr(error)
        done = Path(os.environ["PYMOSN_COUNT_DONE"])
        unfinished = done.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(outcome))
        unfinished.replace(done)

    async def _count_case(self, case: Case) -> int:
        """Counts one case; returns the number of the dump."""
        client, transport = self._factories[ports()[case.name]](), Transport("192.0.2.1", 50000)
        client.connection_made(transport)
        del self._upstreams[:]
        if case.client_greeting:
            client.data_received(case.client_greeting)
        client.data_received(case.request())
        for _ in range(DIAL_ROUNDS):
            if self._upstreams:
                break
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        upstream, to_upstream = self._upstreams[0]
        if case.upstream_greeting:
            upstream.data_received(case.upstream_greeting)
            await asyncio.sleep(0)  # what is written in answer leaves at the end of the loop's turn
            await asyncio.sleep(0)
        talk = Talk(case, client, transport.written, upstream, to_upstream.written, self.run_round)
        await self._become_idle()
        talk.send_answer()
        await self._become_idle()
        talk.end_answer()
        gc.disable()
        self._next_round = []
        try:
            talk.run(case.count)
            return call_counted(lambda: talk.run(case.count), Path(os.environ["PYMOSN_COUNT_DONE"]).parent)
        finally:
            self._next_round = None
            gc.enable()


class Talk:
    """A client and an upstream that act alternately."""

    def __init__(
        self,
        case: Case,
        client: Any,
        to_client: list[bytes],
        upstream: Any,
        to_upstream: list[bytes],
        run_round: Callable[[], None],
    ) -> None:
        self._case = case
        self._run_round = run_round
        self._client = client
        self._to_client = to_client
        self._upstream = upstream
        self._to_upstream = to_upstream

    def run(self, count: int) -> None:
        """Sends `count` requests. Raises RuntimeError if a response is too short."""
        for _ in range(count):
            self._client.data_received(self._case.request())
            self._run_round()
            self.answer()

    def answer(self) -> None:
        """Sends the upstream's response to the received request, and takes what reaches the client."""
        self.send_answer()
        self.end_answer()

    def send_answer(self) -> None:
        """Sends the upstream's response to the received request."""
        if not self._to_upstream:
            raise RuntimeError(f"{self._case.name}: nothing reached the upstream")
        request = b"".join(self._to_upstream)
        self._to_upstream.clear()
        for chunk in self._case.response(request):
            self._upstream.data_received(chunk)
            self._run_round()

    def end_answer(self) -> None:
        """Takes what has reached the client. Raises RuntimeError if it is too short."""
        size = sum(map(len, self._to_client))
        if size < self._case.body_size:
            raise RuntimeError(f"{self._case.name}: {size} bytes reached the client: {b''.join(self._to_client)[:500]!r}")
        self._to_client.clear()


def ports() -> dict[str, int]:
    """The listeners' ports, by the names of the cases."""
    found: dict[str, int] = json.loads(os.environ["PYMOSN_COUNT_PORTS"])
    return found


def call_counted(work: Callable[[], None], folder: Path) -> int:
    """Calls `work` through `PyRun_StringFlags`; returns the number of the dump that callgrind wrote to `folder`.

    callgrind counts while that C function runs, and writes a dump when it returns.
    """
    exec("work()", {"work": work})
    return max((int(path.suffix[1:]) for path in folder.glob("out.*")), default=0)
