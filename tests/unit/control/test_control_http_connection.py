"""Clients that hold connections: they lose them, and lock nobody out. Real sockets, short limits."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from pymosn.control import http_connection
from pymosn.control.http_connection import Limits
from pymosn.control.http_server import HttpServer
from pymosn.control.peer import Peer, peer_of

LIMITS = Limits(connections=5, head=0.6, body=0.6, client=0.6)
#: Seconds to wait for what must come.
PATIENCE = 20.0
#: How a response after a timeout begins; a byte that arrives after it resets the connection, and may overtake it.
TIMED_OUT = (b"HTTP/1.1 408 ", b"reset")
#: More than the kernel buffers.
LARGE = 32 * 1024 * 1024


class App:
    """`/body` reads the body, `/large` sends much, `/wait` waits until `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.disconnected = 0
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response: Response = PlainTextResponse("hello")
        try:
            if request.scope["path"] == "/body":
                response = PlainTextResponse(str(len(await request.body())))
        except ClientDisconnect:
            self.disconnected += 1
            return
        if request.scope["path"] == "/large":
            response = Response(bytes(LARGE))
        elif request.scope["path"] == "/wait":
            self.waiting += 1
            await self.gate.wait()
        await response(scope, receive, send)


class Client:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: str) -> bytes:
        """Sends bytes and returns all that comes until the server closes; also if it resets the connection."""
        self.writer.write(text.encode())
        return await self.rest()

    async def rest(self) -> bytes:
        received = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                while piece := await self.reader.read(65536):
                    received += piece
        except ConnectionError:
            return bytes(received) or b"reset"
        return bytes(received)

    async def drip(self, text: str) -> bytes:
        """Sends a byte at a time, for as long as the connection lasts."""
        response = asyncio.ensure_future(self.rest())
        while not response.done():
            for char in text:
                self.writer.write(char.encode())
                await asyncio.wait([response], timeout=0.05)
                if response.done():
                    break
        return response.result()


class World:
    def __init__(self, app: App, address: Any) -> None:
        self.app = app
        self.address = address
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Client:
        open_one = asyncio.open_unix_connection if isinstance(self.address, str) else asyncio.open_connection
        where = [self.address] if isinstance(self.address, str) else self.address[:2]
        reader, writer = await open_one(*where)  # type: ignore[operator]
        self._writers.append(writer)
        return Client(reader, writer)

    async def get(self, path: str = "/") -> bytes:
        return await (await self.connect()).ask(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    async def all_wait(self, count: int) -> None:
        """Returns when the app waits in so many requests."""
        async with asyncio.timeout(PATIENCE):
            while self.app.waiting < count:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(path: Path | None = None) -> AsyncIterator[World]:
    """A server on TCP, or on a unix socket at a path."""
    if path is None:
        sock = socket.create_server(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
    app = App()
    server = HttpServer(app, [sock], limits=LIMITS)
    world = World(app, sock.getsockname())
    await server.start()
    try:
        yield world
    finally:
        app.gate.set()
        world.close()
        await server.stop()


def run(scenario: Callable[[World], Awaitable[None]], path: Path | None = None) -> None:
    async def main() -> None:
        async with serving(path) as world:
            await scenario(world)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "s" if request.param == "unix" else None


def test_silent_connections_lock_nobody_out(path: Path | None) -> None:
    async def scenario(world: World) -> None:
        silent = [await world.connect() for _ in range(20)]
        assert (await world.get()).endswith(b"hello")
        # Each is closed: the oldest to make room, the others at their deadline.
        assert {await peer.rest() for peer in silent} <= {b"", b"reset"}

    run(scenario, path)


def test_a_head_has_a_deadline_however_it_drips() -> None:
    async def scenario(world: World) -> None:
        peer = await world.connect()
        assert (await peer.drip("GET / HTTP/1.1\r\nx: " + "a" * 50)).startswith(TIMED_OUT)

    run(scenario)


def test_so_has_the_head_of_a_later_request() -> None:
    async def scenario(world: World) -> None:
        peer = await world.connect()
        peer.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
        assert (await peer.drip("GET / HTTP/1.1\r\nx: " + "a" * 50)).startswith(TIMED_OUT)

    run(scenario)


@pytest.mark.parametrize("framing", ["content-length: 100000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("target", ["/body", "/"])
def test_a_body_has_a_deadline_however_it_drips(framing: str, target: str) -> None:
    async def scenario(world: World) -> None:
        peer = await world.connect()
        peer.writer.write(f"POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        response = await peer.drip("1\r\nx\r\n")
        assert response == b"reset" or response.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 200 "))
        if target == "/body":
            assert world.app.disconnected == 1
        assert (await world.get()).endswith(b"hello")

    run(scenario)


def test_a_client_that_does_not_read_is_given_up() -> None:
    async def scenario(world: World) -> None:
        peers = [await world.connect() for _ in range(5)]
        for peer in peers:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await world.get()).endswith(b"hello")
        for peer in peers:
            async with asyncio.timeout(PATIENCE):
                while not await _is_reset(peer):
                    await asyncio.sleep(0.05)

    async def _is_reset(peer: Client) -> bool:
        """Whether the kernel knows that the connection is over, without reading: writing fails."""
        peer.writer.write(b"x")
        return peer.writer.transport.is_closing()

    run(scenario)


def test_a_half_closed_connection_is_closed() -> None:
    async def scenario(world: World) -> None:
        for text in (
            "",
            "GET / HT",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /body HTTP/1.1\r\nHost: a\r\ncontent-length: 9\r\n\r\nx",
        ):
            peer = await world.connect()
            peer.writer.write(text.encode())
            peer.writer.write_eof()
            await peer.rest()
        assert (await world.get()).endswith(b"hello")

    run(scenario)


def test_requests_in_progress_are_not_the_ones_to_go() -> None:
    async def scenario(world: World) -> None:
        waiting = [await world.connect() for _ in range(4)]
        asked = [
            asyncio.ensure_future(peer.ask("GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) for peer in waiting
        ]
        await world.all_wait(4)
        silent = [await world.connect() for _ in range(9)]
        assert (await world.get()).endswith(b"hello")
        world.app.gate.set()
        assert all(response.endswith(b"hello") for response in await asyncio.gather(*asked))
        for peer in silent:
            await peer.rest()

    run(scenario)


def test_without_an_idle_connection_a_further_one_is_rejected() -> None:
    async def scenario(world: World) -> None:
        waiting = [await world.connect() for _ in range(5)]
        asked = [
            asyncio.ensure_future(peer.ask("GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) for peer in waiting
        ]
        await world.all_wait(5)
        assert (await world.get()).startswith((b"HTTP/1.1 503", b"reset"))
        world.app.gate.set()
        assert all(response.endswith(b"hello") for response in await asyncio.gather(*asked))
        assert (await world.get()).endswith(b"hello")

    run(scenario)


@pytest.mark.parametrize(
    "text",
    [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: " + "a" * 100_000,
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: " + "9" * 5000 + "\r\n\r\n",
    ],
)
def test_invalid_bytes_leave_no_trace_but_a_response(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario(world: World) -> None:
        response = await (await world.connect()).ask(text)
        assert response == b"reset" or b"HTTP/1.1 400 " in response or response.startswith(b"HTTP/1.1 200 ")
        assert (await world.get()).endswith(b"hello")

    run(scenario)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("uid", "is_served"), [(os.geteuid(), True), (0, True), (os.geteuid() + 4242, False)])
def test_the_unix_socket_serves_root_and_its_own_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, is_served: bool
) -> None:
    monkeypatch.setattr(http_connection, "peer_of", lambda sock: Peer(1, uid))

    async def scenario(world: World) -> None:
        assert (await world.get()).endswith(b"hello") == is_served

    run(scenario, tmp_path / "s")


def test_the_kernel_names_the_peer() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_of(one) == Peer(os.getpid(), os.geteuid())
