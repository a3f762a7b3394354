"""A fake event loop, and the fake transports that it drives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast

from pymosn.network.connection import TcpConnection
from pymosn.network.tls.transport import TlsTransport


class FakeLoop:
    """Runs callbacks, and the tasks that they start, only when a test lets something happen."""

    def __init__(self) -> None:
        self._later: deque[Callable[[], None]] = deque()
        self._asked = 0
        #: Whether peers answer of their own accord: then `do` goes on until nothing happens.
        self.settles = False
        self._loop = asyncio.new_event_loop()
        #: What was reported to the loop: errors that nothing else handles. `Talk.end` fails if one is left.
        self.faults: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _, context: self.faults.append(context))
        #: All callbacks run in it: uvloop has one for all connections of a listener. Filters must leave it empty.
        self.context = Context()

    def later(self, callback: Callable[[], None]) -> None:
        """Calls `callback` in the next iteration, as `call_soon` does."""
        self._asked += 1
        self._later.append(callback)

    def run_later(self) -> None:
        """Calls what `later` was given."""
        while self._later:
            self._later.popleft()()

    def do(self, action: Callable[[], None]) -> None:
        """Calls `action`, and runs everything that follows from it."""
        self._loop.run_until_complete(self._do(action))

    async def _do(self, action: Callable[[], None]) -> None:
        await self._call(action)
        left, most = 4, 10_000  # a task needs a few iterations to start, return and report
        while left and most:
            before = self._asked
            await self._call(self.run_later)
            left = 4 if self.settles and self._asked != before else left - 1
            most -= 1

    def _call(self, action: Callable[[], None]) -> asyncio.Future[None]:
        """Calls `action` as the loop calls socket callbacks: in the next iteration, and outside of any task."""
        done = self._loop.create_future()
        self._loop.call_soon(self._settle, action, done, context=self.context)
        return done

    def _settle(self, action: Callable[[], None], done: asyncio.Future[None]) -> None:
        try:
            action()
            self.run_later()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def close(self) -> None:
        self._loop.close()


class FakeTransport:
    """The event loop's side of a connection. Its callbacks come later, as those of a real loop do."""

    def __init__(self, loop: FakeLoop, ip: str, port: int) -> None:
        self._loop = loop
        self._peer = (ip, port)
        self.protocol: TcpConnection | TlsTransport | None = None
        self.received = b""
        self.is_stalled = False
        self.is_full = False
        self.waiting = b""
        self.high_water = 64 * 1024
        self.is_reading = True
        self.incoming: deque[bytes] = deque()
        self.has_eof = False
        self.sent_eof = False
        self.is_closing = False
        self.is_aborted = False
        self.is_lost = False
        #: Is called when the peer has got something.
        self.on_arrival: Callable[[], None] = lambda: None

    def carry(self, connection: TcpConnection) -> None:
        """Becomes the transport of `connection`."""
        self.protocol = connection
        self._loop.do(lambda: connection.connection_made(cast(asyncio.Transport, self)))

    # ---- what the peer puts on the wire, and takes from it

    def wire(self, data: bytes) -> bytes:
        """The bytes that carry `data`."""
        return data

    def end(self) -> bytes:
        """The bytes that end the peer's data, before its FIN."""
        return b""

    def arrive(self, data: bytes) -> None:
        """The peer gets these bytes from the wire."""
        self.received += data
        self.on_arrival()

    # ---- called by the connection

    def set_protocol(self, protocol: TlsTransport) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int) -> None:
        self.high_water = high

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return {"peername": self._peer, "sockname": ("127.0.0.1", 2046)}.get(name)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.sent_eof, "written after a FIN"
        if self.is_closing or self.is_lost:
            return
        if not self.is_stalled:
            self.arrive(data)
            return
        self.waiting += data
        if len(self.waiting) > self.high_water and not self.is_full:
            self.is_full = True
            self._protocol().pause_writing()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        assert not self.is_lost
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_lost
        self.is_reading = True
        self._loop.later(self.pump)

    def write_eof(self) -> None:
        self.sent_eof = True

    def close(self) -> None:
        if not self.is_closing:
            self.is_closing = True
            if not self.waiting:
                self._loop.later(self.lose)

    def abort(self) -> None:
        self.is_closing = True
        self.is_aborted = True
        self.waiting = b""
        self._loop.later(self.lose)

    # ---- called by the peer

    def _protocol(self) -> TcpConnection | TlsTransport:
        assert self.protocol is not None
        return self.protocol

    def pump(self) -> None:
        """Delivers the incoming bytes as long as the connection reads."""
        while self.incoming and self.is_reading and not self.is_closing:
            self._protocol().data_received(self.incoming.popleft())
            self._loop.run_later()
        if self.has_eof and not self.incoming and self.is_reading and not self.is_closing:
            self.has_eof = False
            self._protocol().eof_received()

    def drain(self) -> None:
        """The peer reads everything."""
        self.is_stalled = False
        waiting, self.waiting = self.waiting, b""
        self.arrive(waiting)
        if self.is_closing:
            self._loop.later(self.lose)
        elif self.is_full:
            self.is_full = False
            self._protocol().resume_writing()

    def lose(self, error: Exception | None = None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.is_closing = True
            self._protocol().connection_lost(error)
