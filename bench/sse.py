"""`python -m bench.sse PROXY UPSTREAM STREAMS CHUNKS`: server-sent events through the proxy, both ends in one process.

Each chunk is sent on all streams, and the next one when all clients have received it: so no two chunks ever arrive in one
read, and every proxy does the same work. The last line of output is JSON, or an error message.
"""

import asyncio
import json
import sys
import time

import uvloop

from bench.cases import REQUEST_FIELDS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = 30.0


def event(number: int) -> bytes:
    """The event of one round, as large as one token in the response of a language model server."""
    return b'data: {"id": "chatcmpl-bench", "choices": [{"delta": {"content": "token %06d"}}]}\n\n' % number


class Streams:
    """All streams and their current round."""

    def __init__(self, proxy: int, upstream: int, count: int) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._count = count
        self._writers: list[asyncio.StreamWriter] = []
        self._all_are_open = asyncio.Event()
        self._received = 0
        self._round_is_over = asyncio.Event()
        self.bytes = 0
        #: The head of one of the responses.
        self.head = ""

    async def run(self, chunks: int) -> dict[str, object]:
        """Sends `chunks` on each stream; returns the figures. ConnectionError or ValueError if a stream is broken."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._upstream, backlog=self._count)
        async with server, asyncio.timeout(PATIENCE), asyncio.TaskGroup() as clients:
            for _ in range(self._count):
                clients.create_task(self._ask(chunks))
            await self._all_are_open.wait()
            started = time.perf_counter()
            times = [await self._round(number) for number in range(chunks)]
            seconds = time.perf_counter() - started
            for writer in self._writers:
                writer.write(b"0\r\n\r\n")
        times.sort()
        micros = [round(each * 1e6) for each in (times[len(times) // 2], times[len(times) * 99 // 100])]
        return {
            "chunks": chunks * self._count,
            "bytes": self.bytes,
            "seconds": seconds,
            "p50": micros[0],
            "p99": micros[1],
            "head": self.head,
        }

    async def _round(self, number: int) -> float:
        started = time.perf_counter()
        data = event(number)
        self._received = 0
        self._round_is_over.clear()
        for writer in self._writers:
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._round_is_over.wait()
        return time.perf_counter() - started

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        self._writers.append(writer)

    async def _ask(self, chunks: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._proxy)
        fields = "".join(f"{name}: {value}\r\n" for name, value in REQUEST_FIELDS.items())
        writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"the response of a stream is {head[:60]!r}")
        self.head = head.decode("latin-1")
        self._received += 1
        if self._received == self._count:
            self._all_are_open.set()
        for number in range(chunks):
            data = await _chunk(reader)
            if data != event(number):
                raise ValueError(f"chunk {number} is {data[:80]!r}")
            self.bytes += len(data)
            self._received += 1
            if self._received == self._count:
                self._round_is_over.set()
        if await _chunk(reader):
            raise ValueError("received more than was sent")
        writer.close()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


def main(arguments: list[str]) -> int:
    """Runs one load; returns the exit code."""
    proxy, upstream, streams, chunks = map(int, arguments)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(Streams(proxy, upstream, streams).run(chunks))
    except (OSError, ValueError, TimeoutError, ExceptionGroup, asyncio.IncompleteReadError) as fault:
        reason = fault.exceptions[0] if isinstance(fault, ExceptionGroup) else fault
        print(f"a stream failed: {type(reason).__name__}: {reason}")
        return 1
    print(f"result {json.dumps(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
