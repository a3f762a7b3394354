"""A steady client in a process of its own: `python steady_client.py PORT SECONDS RATE`, over HTTP/2 on a few connections.

A request is sent when it is due, whether the one before was answered or not, and its latency counts from then. Prints the
percentiles in milliseconds and the number of responses by status as JSON.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from typing import Final

import hpack
from tests.kit import h2_frames as wire

from pymosn.protocol.http2 import frames as known

CONNECTIONS: Final = 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BLOCK: Final = wire.literals([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"show"), (b":path", b"/")])
#: Seconds for the last responses.
PATIENCE: Final = 5.0


class Steady:
    """One connection; it is opened again when it is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._next = 1
        self._due: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def ask(self, due: float) -> None:
        """Sends a request that was due at that time of the event loop."""
        try:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
                self._next = 1
                self._due = {}
                self._writer.write(PREFACE + wire.settings((int(known.HEADER_TABLE_SIZE), 0)))
                self._task = asyncio.ensure_future(self._read(reader, self._writer, self._due))
        except OSError:
            self.statuses["no connection"] += 1
            return
        self._due[self._next] = due
        self._writer.write(wire.headers(self._next, BLOCK, end=True))
        self._next += 2

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: dict[int, float]) -> None:
        decoder = hpack.Decoder()
        decoder.max_allowed_table_size = 4096
        rest, status = b"", {}
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                frames, rest = wire.split(rest + data)
                for frame in frames:
                    if frame.kind == known.HEADERS:
                        status[frame.stream] = dict(decoder.decode(frame.payload)).get(":status", "")
                    elif frame.kind == known.SETTINGS and not frame.has(known.ACK):
                        writer.write(wire.settings_ack())
                    elif frame.kind == known.PING and not frame.has(known.ACK):
                        writer.write(wire.ping(frame.payload, is_ack=True))
                    elif frame.kind == known.RST_STREAM:
                        due.pop(frame.stream)
                        self.statuses["reset"] += 1
                    if frame.kind in (known.HEADERS, known.DATA) and frame.has(known.END_STREAM):
                        self.times.append(time.monotonic() - due.pop(frame.stream))
                        self.statuses[status.pop(frame.stream)] += 1
                    if frame.kind == known.DATA and frame.payload:
                        writer.write(wire.window_update(0, len(frame.payload)))
        self.statuses["lost"] += len(due)
        due.clear()
        writer.close()

    async def end(self) -> None:
        """Waits for the last responses."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._due:
                    await asyncio.sleep(0.01)
        self.statuses["unanswered"] += len(self._due)
        if self._task is not None:
            self._task.cancel()


async def main(port: int, seconds: float, rate: float) -> None:
    clients = [Steady(port) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for number in range(int(seconds * rate)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await clients[number % CONNECTIONS].ask(due)
    await asyncio.gather(*(client.end() for client in clients))
    times = sorted(each * 1000.0 for client in clients for each in client.times) or [float("inf")]
    found = {f"p{share * 100:g}": times[int(share * (len(times) - 1))] for share in (0.5, 0.99)}
    statuses = sum((client.statuses for client in clients), Counter())
    print(json.dumps({**found, "max": times[-1], "statuses": statuses}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
