"""HTTP/2 clients for upgrades under load, which obey GOAWAY: new requests go to a new connection, and what the server has
not processed is sent again there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import time
from typing import Any, Final

from tests.kit.h2_end import End, Stream
from tests.kit.tls_streams import Truncated, open_tls
from tests.load.tally import Tally, describe
from tests.load.upgrade_http1 import HELLO, PAUSE, SECRET_NAME, use_no_delay

from pymosn.protocol.http2 import frames as known

#: Requests at once on one connection.
AT_ONCE: Final = 8
PATIENCE: Final = 30.0


class Session:
    """One connection. `why`: how it has ended, empty while it is open."""

    def __init__(self, reader: Any, writer: Any, scheme: bytes) -> None:
        self.opened = time.monotonic()
        self.end = End(True, self._write)
        self.why = ""
        self._scheme = scheme
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Event()
        self._write(self.end.opening())
        self._reading = asyncio.ensure_future(self._read())

    def _write(self, data: bytes) -> None:
        if not self.why and not self._writer.transport.is_closing():
            self._writer.write(data)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                self.end.feed(data)
                del self.end.frames[:-1]
                self._wake()
            self.why = "a clean end"
        except Truncated as error:
            self.why = f"truncated: {error}"
        except (OSError, AssertionError) as error:
            self.why = describe(error)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def is_leaving(self) -> bool:
        """Whether nothing new may be sent."""
        return bool(self.end.goaways or self.why)

    async def ask(self, method: bytes, path: bytes, body: bytes = b"") -> Stream:
        """Sends a request and waits until its stream or the connection has ended. Raises TimeoutError."""
        fields = [(b":method", method), (b":scheme", self._scheme), (b":authority", b"show"), (b":path", path)]
        if body:
            fields.append((b"content-length", b"%d" % len(body)))
        stream = self.end.send_request(fields, body, True)
        async with asyncio.timeout(PATIENCE):
            while not stream.is_done and not self.why:
                await self._news.wait()
        return stream

    def was_refused(self, stream: Stream) -> bool:
        """Whether the server says that it has not processed a stream (RFC 9113, sections 6.8 and 8.7)."""
        is_above = bool(self.end.goaways) and stream.number > self.end.goaways[-1][0]
        return stream.code == int(known.REFUSED_STREAM) or (is_above and not stream.has_end)

    async def wait_for_end(self) -> None:
        """Waits until the server has ended the connection."""
        while not self.why:
            await self._news.wait()

    async def close(self) -> None:
        """Ends the connection."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        self._writer.close()


async def connected(port: int, context: ssl.SSLContext | None = None) -> Session:
    """A new connection. Raises OSError."""
    if context is not None:
        return Session(*await open_tls("127.0.0.1", port, context, SECRET_NAME), b"https")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    use_no_delay(writer)
    return Session(reader, writer, b"http")


class H2Caller:
    """Several requests at once on one connection, and on the next one after a GOAWAY."""

    def __init__(self, tally: Tally, port: int, context: ssl.SSLContext | None) -> None:
        self._tally = tally
        self._port = port
        self._context = context
        self._session: Session | None = None
        self._users: dict[Session, int] = {}
        self._lock = asyncio.Lock()

    async def _current(self) -> Session:
        async with self._lock:
            if self._session is None or self._session.is_leaving:
                if self._session is not None and not self._users.get(self._session):
                    await self._retire(self._session)
                self._session = session = await connected(self._port, self._context)
                self._tally.connections += 1
                return session
            return self._session

    async def run(self, stop: asyncio.Event, method: bytes, path: bytes, body: bytes, expected: bytes) -> None:
        """One of the loops of requests."""
        is_pending = False
        while not stop.is_set() or is_pending:
            began = time.monotonic()
            try:
                session = await self._current()
            except OSError as error:
                self._tally.fail("connect", describe(error))
                is_pending = False
                await asyncio.sleep(0.1)
                continue
            self._users[session] = self._users.get(session, 0) + 1
            is_pending = await self._one(session, began, method, path, body, expected)
            await self._leave(session)
            if not is_pending:
                await asyncio.sleep(2 * PAUSE)

    async def _one(self, session: Session, began: float, method: bytes, path: bytes, body: bytes, expected: bytes) -> bool:
        """One request: whether it must be sent again."""
        try:
            stream = await session.ask(method, path, body)
        except TimeoutError:
            self._tally.fail("timeout", f"goaways {session.end.goaways}", session.opened)
            return False
        if stream.has_end and stream.status == 200 and stream.data == expected:
            self._tally.succeed(began)
        elif session.was_refused(stream):
            self._tally.repeated += 1
            return True
        else:
            detail = (
                f"stream {stream.number}, reset {stream.code}, status {stream.status}, {len(stream.data)} bytes, "
                f"goaways {session.end.goaways} {session.end.debug!r}, connection: {session.why or 'open'}"
            )
            self._tally.fail("stream", detail, session.opened)
        return False

    async def _leave(self, session: Session) -> None:
        self._users[session] -= 1
        if session.is_leaving and self._users[session] == 0:
            await self._retire(session)

    async def _retire(self, session: Session) -> None:
        if self._session is session:
            self._session = None
        self._users.pop(session, None)
        if session.end.goaways:
            self._tally.told += 1
        else:
            self._tally.fail("ended without a GOAWAY", session.why, session.opened)
        await session.close()

    async def close(self) -> None:
        """Ends the connection."""
        if self._session is not None:
            await self._session.close()


async def http2(tally: Tally, stop: asyncio.Event, port: int, context: ssl.SSLContext | None) -> None:
    """GETs and POSTs at once on one connection, with prior knowledge or by TLS."""
    caller = H2Caller(tally, port, context)
    body = b"u" * 3000
    posts = [caller.run(stop, b"POST", b"/", body, hashlib.sha256(body).hexdigest().encode()) for _ in range(AT_ONCE // 2)]
    await asyncio.gather(*(caller.run(stop, b"GET", b"/", b"", HELLO) for _ in range(AT_ONCE // 2)), *posts)
    await caller.close()


async def silent_h2(tally: Tally, stop: asyncio.Event, port: int, context: ssl.SSLContext | None) -> None:
    """One request, and then nothing until the server ends the connection, which it must do by a GOAWAY."""
    while not stop.is_set():
        began = time.monotonic()
        try:
            session = await connected(port, context)
        except OSError as error:
            tally.fail("connect", describe(error))
            await asyncio.sleep(0.1)
            continue
        tally.connections += 1
        stream = await session.ask(b"GET", b"/")
        if stream.status == 200 and stream.data == HELLO:
            tally.succeed(began)
        else:
            tally.fail("stream", f"status {stream.status}, connection: {session.why or 'open'}", began)
        ending = asyncio.ensure_future(session.wait_for_end())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        stopping.cancel()
        if session.why:
            if session.why == "a clean end" and session.end.goaways:
                tally.cut(began, "GOAWAY and close_notify" if context else "GOAWAY")
            else:
                tally.fail("silent", f"{session.why}, goaways {session.end.goaways}", began)
        await session.close()
