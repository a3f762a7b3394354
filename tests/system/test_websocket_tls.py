"""WebSocket over TLS through two hops of the real program, both with TLS: what `test_websocket` has without it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator

import pytest
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually
from test_websocket import cases, tunnels
from tests.kit import certificates
from tests.kit.tls_streams import open_tls
from tls_peers import client_context, context_for
from web_sockets import ASK, TEXT, Echo, FrameEcho, RawClient, frame
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.once

#: One of so many of the families' cases, each of which is a handshake.
SHARE = 3


def running(port: int, factory: pytest.TempPathFactory) -> Iterator[TwoHops]:
    hops = TwoHops(port)
    for listener in hops.server["listeners"]:
        listener["filter_chains"][0]["tls_context"] = context_for(certificates.server())
    ca = certificates.ca().certificate.decode()
    cluster = hops.config["cluster_manager"]["clusters"][0]
    cluster["tls_context"] = {"status": True, "ca_cert": ca, "server_name": "server.test"}
    directory = factory.mktemp("websocket")
    path = directory / "conf" / "mosn.json"
    path.parent.mkdir()
    path.write_text(json.dumps(hops.config))
    proxy = Pymosn(["-c", str(path)], directory, {})
    try:
        proxy.wait_for(READY)
        yield hops
    finally:
        proxy.end()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture(scope="module")
def frame_echo() -> Iterator[FrameEcho]:
    server = FrameEcho()
    yield server
    server.close()


@pytest.fixture(scope="module")
def hops(echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHops]:
    yield from running(echo.port, tmp_path_factory)


@pytest.fixture(scope="module")
def frame_hops(frame_echo: FrameEcho, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHops]:
    yield from running(frame_echo.port, tmp_path_factory)


def open_socket(hops: TwoHops, path: str = "/echo") -> connect:
    """A client of asyncio: the other one reads and writes in two threads, which Python's TLS sometimes does not survive."""
    return connect(
        f"wss://127.0.0.1:{hops.client_port}{path}",
        ssl=client_context(),
        server_hostname="server.test",
        max_size=None,
        ping_interval=None,
        close_timeout=PATIENCE,
        open_timeout=PATIENCE,
    )


def test_messages_of_all_lengths(hops: TwoHops) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE), open_socket(hops) as client:
            assert client.protocol.extensions, "permessage-deflate was negotiated through both hops"
            for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
                data = random.Random(size).randbytes(size)
                await client.send(data)
                assert await client.recv() == data
            await (await client.ping(b"p" * 125))

    asyncio.run(scenario())
    assert eventually(lambda: tunnels(hops) == 0)


@pytest.mark.parametrize("code", [1000, 4999])
def test_close_codes_of_either_side(hops: TwoHops, echo: Echo, code: int) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE):
            async with open_socket(hops, f"/close/{code}") as client:
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, "as asked")
            async with open_socket(hops, f"/echo?{code}") as client:
                await client.close(code, "bye")

    asyncio.run(scenario())
    assert eventually(lambda: (f"/echo?{code}", code) in echo.ends)


async def talk(port: int, pieces: list[bytes], cuts: bool = False) -> bytes:
    """As that of `RawClient`, over TLS. `cuts`: a FIN without close_notify follows the pieces."""
    reader, writer = await open_tls("127.0.0.1", port, client_context(), "server.test")
    writer.write(ASK)
    got = b""
    while b"\r\n\r\n" not in got:
        piece = await reader.read(1 << 16)
        assert piece
        got += piece

    async def send() -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if cuts:
            writer.cut()

    sending = asyncio.ensure_future(send())
    try:
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(1 << 16):
                got += piece
    except ConnectionResetError:
        pass  # the server may have had enough
    finally:
        sending.cancel()
        writer.transport.abort()
    return got.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("pieces", [pytest.param(pieces, id=name) for name, pieces in list(cases())[::SHARE]])
def test_autobahn_family(frame_hops: TwoHops, frame_echo: FrameEcho, pieces: list[bytes]) -> None:
    direct = RawClient(frame_echo.port).talk(pieces)
    assert direct, "the server at least closes"
    assert asyncio.run(talk(frame_hops.client_port, pieces)) == direct


def test_a_fin_without_close_notify_ends_the_tunnel(frame_hops: TwoHops) -> None:
    """It is no half-close: anybody on the way can send one."""
    asyncio.run(talk(frame_hops.client_port, [frame(TEXT, b"x")], cuts=True))
    assert eventually(lambda: tunnels(frame_hops) == 0)
