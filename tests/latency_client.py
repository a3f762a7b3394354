"""A load client in a process of its own: `python latency_client.py PORT PATH COUNT CONNECTIONS`.

Prints the percentiles and the maximum of the latencies in milliseconds as JSON, and the number of responses by status.
Requests follow each other on each connection with a short pause, so that the proxy is not saturated.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Final, cast

import uvloop

#: Seconds between two requests of one connection.
PAUSE: Final = 0.0005


class Requester(asyncio.Protocol):
    """One connection; responses must have a Content-Length."""

    def __init__(self, request: bytes, count: int, times: list[float], statuses: Counter[str]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._left = count
        self._times = times
        self._statuses = statuses
        self._buffer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: the transports of uvloop have no base class.
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        if self._left == 0:
            self._transport.close()
            return
        self._left -= 1
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not end or len(rest) < size:
            return
        self._buffer = b""
        self._times.append(time.perf_counter() - self._began)
        self._statuses[head[9:12].decode()] += 1
        asyncio.get_running_loop().call_later(PAUSE, self._next)

    def connection_lost(self, error: Exception | None) -> None:
        if self._left:
            self._statuses["lost"] += 1
        if not self.done.done():
            self.done.set_result(None)


async def main(port: int, path: str, count: int, connections: int) -> None:
    times: list[float] = []
    statuses: Counter[str] = Counter()
    request = f"GET {path} HTTP/1.1\r\nhost: show\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Requester(request, count // connections, times, statuses), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(requester.done for _, requester in made))
    times.sort()
    found = {f"p{share * 100:g}": times[int(share * (len(times) - 1))] * 1000.0 for share in (0.5, 0.99, 0.999)}
    print(json.dumps({**found, "max": times[-1] * 1000.0, "statuses": statuses}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
