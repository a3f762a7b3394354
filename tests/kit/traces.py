"""Finished traces for tests, and collectors that tests control."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pymosn.api.tracing import CLIENT, INTERNAL, SERVER, AttributeValue, SpanRecord, TraceRecord

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
STARTED = 1_700_000_000.25


def server_span(**changes: AttributeValue) -> SpanRecord:
    """The span of a request of HTTP/1. `changes`: attributes, with `__` for a dot."""
    attributes: dict[str, AttributeValue] = {
        "http.request.method": "GET",
        "url.path": "/up/x",
        "url.query": "a=1",
        "url.scheme": "http",
        "server.address": "here.example",
        "http.response.status_code": 200,
        "http.request.body.size": 3,
        "http.response.body.size": 5,
        "pymosn.listener": "in",
        "pymosn.protocol": "Http1",
        "pymosn.local_address": "127.0.0.1:80",
        "pymosn.remote_address": "127.0.0.2:4711",
    }
    attributes |= {key.replace("__", "."): value for key, value in changes.items()}
    return SpanRecord("b7ad6b7169203331", "00f067aa0ba902b7", SERVER, "GET /up", STARTED, 0.0125, "", attributes)


def client_span(number: int = 1, failure: str = "", **changes: AttributeValue) -> SpanRecord:
    """The span of an attempt."""
    attributes: dict[str, AttributeValue] = {
        "server.address": "127.0.0.3",
        "server.port": 8080,
        "network.peer.address": "127.0.0.3",
        "network.peer.port": 8080,
        "pymosn.cluster": "up",
    }
    attributes |= {key.replace("__", "."): value for key, value in changes.items()}
    parent = "b7ad6b7169203331"
    return SpanRecord(f"{number:016x}", parent, CLIENT, "GET", STARTED + 0.001, 0.010, failure, attributes)


def trace(*spans: SpanRecord, reference: dict[str, str] | None = None, trace_id: str = TRACE_ID) -> TraceRecord:
    """A trace with these spans; without any, one with two attempts, of which the first has failed, and a filter's part."""
    inner = SpanRecord("00000000000000aa", "b7ad6b7169203331", INTERNAL, "look-up", STARTED, 0.001, "", {"hit": True})
    default = [server_span(), client_span(1, "connect_refused"), client_span(2, http__response__status_code=200), inner]
    return TraceRecord(trace_id, "", reference or {}, list(spans) or default)


class Collector:
    """A server on a free port that answers each request of HTTP/1 as `answer` does; `requests`: head and body of each."""

    def __init__(self, answer: Callable[[asyncio.StreamWriter], Awaitable[object]] | None = None) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.answer = answer or self.accept
        self.address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Collector:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    @staticmethod
    async def accept(writer: asyncio.StreamWriter) -> None:
        """Accepts everything."""
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    @staticmethod
    def refuse(status: int) -> Callable[[asyncio.StreamWriter], Awaitable[object]]:
        """Answers with a status."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status)

        return answer

    @staticmethod
    async def hang(writer: asyncio.StreamWriter) -> None:
        """Never answers."""
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                [length] = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length")]
                self.requests.append((head, await reader.readexactly(int(length))))
                await self.answer(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
