"""The load of server-sent events, with its client connected to its upstream."""

import asyncio

import pytest
from bench.load import result_of
from bench.machine import free_port
from bench.sse import event, main
from bench.void import Void


def test_every_chunk_reaches_every_stream(capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    assert main([port, port, "3", "4"]) == 0
    result = result_of(capsys.readouterr().out, "bench.sse")
    assert (result["chunks"], result["bytes"]) == (12, 3 * sum(len(event(number)) for number in range(4)))
    assert result["head"].startswith("HTTP/1.1 200 OK\r\n")


def test_a_stream_that_breaks_voids_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve() -> int:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            return await asyncio.to_thread(main, [str(server.sockets[0].getsockname()[1]), str(free_port()), "2", "4"])

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        writer.close()

    assert asyncio.run(serve()) == 1
    with pytest.raises(Void, match="502 Bad Gateway"):
        result_of(capsys.readouterr().out, "bench.sse")
