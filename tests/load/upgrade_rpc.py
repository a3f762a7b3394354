"""RPC clients for upgrades under load: one connection with many calls at work and heartbeats, which is never idle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from tests.kit.rpc_wires import Wire, carried
from tests.load.tally import Tally, describe
from tests.load.upgrade_http1 import use_no_delay

IN_FLIGHT: Final = 32
#: Seconds between two heartbeats, and after which a call has failed.
HEARTBEAT: Final = 0.25
PATIENCE: Final = 30.0


class RpcConnection:
    """One connection with its calls at work. `is_leaving`: the server has announced its end."""

    def __init__(self, wire: Wire, tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_leaving = False
        self.opened = time.monotonic()
        self._wire = wire
        self._tally = tally
        self._reader = reader
        self._writer = writer
        #: Content and beginning of each call at work, and the ids of heartbeats.
        self._waiting: dict[int, tuple[bytes, float]] = {}
        self._heartbeats: dict[int, float] = {}
        self._last = 1000
        self._next_heartbeat = self.opened
        self._rest = b""

    async def run(self, stop: asyncio.Event) -> None:
        """Makes calls until `stop`, or until the server ends the connection."""
        try:
            while True:
                self._send(stop)
                if not self._waiting and not self._heartbeats and not self._writer.is_closing():
                    break
                async with asyncio.timeout(PATIENCE):
                    data = await self._reader.read(65536)
                if not data:
                    raise EOFError("the connection ended")
                self._take(data)
        except (OSError, EOFError, ValueError, KeyError, TimeoutError) as error:
            self._fail(error)
        self._writer.close()

    def _send(self, stop: asyncio.Event) -> None:
        if stop.is_set() or self.is_leaving or self._writer.is_closing():
            return  # if the server has closed it, that is read next
        now, batch = time.monotonic(), []
        while len(self._waiting) < IN_FLIGHT:
            self._last += 1
            content = carried(f"{id(self)} {self._last} {'.' * (self._last % 200)}")
            self._waiting[self._last] = content, now
            batch.append(self._wire.request(self._last, content))
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT
            self._last += 1
            self._heartbeats[self._last] = now
            batch.append(self._wire.heartbeat(self._last))
        if batch:
            self._writer.write(b"".join(batch))

    def _take(self, data: bytes) -> None:
        frames, self._rest = self._wire.cut(self._rest + data)
        for frame in frames:
            if self._wire.is_goaway(frame):
                self.is_leaving = True
                self._tally.told += 1
                continue
            number = self._wire.request_id(frame)
            if self._wire.is_heartbeat(frame):
                self._tally.succeed(self._heartbeats.pop(number), 0)
                continue
            content, began = self._waiting.pop(number)
            if not self._wire.is_good(frame):
                self._tally.fail("error", f"call {number}: {frame[:100]!r}", self.opened)
            elif self._wire.content(frame) != content:
                self._tally.fail("wrong content", f"call {number}: {frame[:100]!r}", self.opened)
            else:
                self._tally.succeed(began)

    def _fail(self, error: BaseException) -> None:
        now = time.monotonic()
        oldest = max((now - began for _, began in self._waiting.values()), default=0.0)
        detail = (
            f"{describe(error)}; {len(self._waiting)} calls and {len(self._heartbeats)} heartbeats at work, the oldest for "
            f"{oldest:.3f} s; leaving: {self.is_leaving}; port {self._writer.get_extra_info('sockname')}; "
            f"{len(self._rest)} bytes of a frame"
        )
        count = max(1, len(self._waiting) + len(self._heartbeats))
        self._tally.fail(type(error).__name__, detail, self.opened, count)


async def calls(tally: Tally, stop: asyncio.Event, port: int, wire: Wire) -> None:
    """Calls on one connection; after a goaway frame new ones go to another."""
    leaving: set[asyncio.Task[None]] = set()
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            tally.fail("connect", describe(error))
            await asyncio.sleep(0.1)
            continue
        use_no_delay(writer)
        tally.connections += 1
        connection = RpcConnection(wire, tally, reader, writer)
        task = asyncio.ensure_future(connection.run(stop))
        leaving.add(task)
        task.add_done_callback(leaving.discard)
        while not task.done() and not connection.is_leaving:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), 0.05)
    await asyncio.gather(*leaving)
