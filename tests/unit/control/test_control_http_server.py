import asyncio
import signal
import socket

from pymosn.control.demo import create_demo
from pymosn.control.http_server import HttpServer


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


async def get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /status/200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_it_serves_until_it_is_stopped_and_leaves_signals_alone() -> None:
    async def talk() -> bytes:
        sock = bound()
        port = sock.getsockname()[1]
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        server = HttpServer(create_demo(), [sock])
        await server.start()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        answer = await get(port)
        await server.stop()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        return answer

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_that_hangs_does_not_hold_the_stop() -> None:
    async def talk() -> tuple[float, bytes]:
        sock = bound()
        loop = asyncio.get_running_loop()
        server = HttpServer(create_demo(), [sock])
        await server.start()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET /slow/500 HTTP/1.1\r\nHost: a\r\n\r\n")
        await writer.drain()
        await get(sock.getsockname()[1])
        begun = loop.time()
        await server.stop()
        taken = loop.time() - begun
        answer = await reader.read()
        writer.close()
        return taken, answer

    taken, answer = asyncio.run(talk())
    assert taken < 5.0
    assert answer.startswith(b"HTTP/1.1 503 ")


def test_a_client_that_has_just_connected_is_served_before_the_stop() -> None:
    async def talk() -> bytes:
        sock = bound()
        server = HttpServer(create_demo(), [sock])
        await server.start()
        address = sock.getsockname()
        reader, writer = await asyncio.open_connection(*address)
        await get(address[1])  # so the one before is accepted, too
        server.stop_listening()
        with socket.socket() as probe:
            assert probe.connect_ex(address) != 0
        stopping = asyncio.ensure_future(server.stop())
        writer.write(b"GET /status/200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await stopping
        return answer

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 200 OK\r\n")
