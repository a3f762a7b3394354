"""How much a connection to a host is read at once, with a socket that the test is."""

import asyncio
import socket
from typing import Any

import uvloop
from tests.kit import FakeClock

from pymosn.api.network import CONTINUE, NetworkFilter
from pymosn.core.failure import CLOSED_LOCALLY
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner
from pymosn.network.host_connection import FIRST_READ, GROWTH, LARGEST_READ, HostConnection

PIECES = [int(FIRST_READ), int(FIRST_READ * GROWTH), int(LARGEST_READ)]


class Reader(NetworkFilter):
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.data = b""
        self.has_ended = asyncio.Event()

    def on_data(self, data: bytes) -> bool:
        self.sizes.append(len(data))
        self.data += data
        return CONTINUE

    def on_eof(self) -> None:
        self.has_ended.set()


def made() -> tuple[HostConnection, Reader]:
    reader = Reader()
    clock = FakeClock()
    return HostConnection(1, [reader], ConnectionOwner(), clock, TimerWheel(clock)), reader


def read(connection: HostConnection, data: bytes) -> bytes:
    """One read of the event loop, of which `data` is what the socket has; returns what is left in it."""
    buffer = connection.get_buffer(-1)
    size = min(len(buffer), len(data))
    buffer[:size] = data[:size]
    connection.buffer_updated(size)
    return data[size:]


def test_reads_that_fill_their_buffer_grow() -> None:
    connection, reader = made()
    sent = data = bytes(range(256)) * 4096
    while data:
        data = read(connection, data)
    assert reader.sizes[:3] == PIECES
    assert max(reader.sizes) == LARGEST_READ
    assert reader.data == sent


def test_small_reads_stay_small() -> None:
    connection, _ = made()
    for _ in range(10):
        assert not read(connection, b"x" * int(FIRST_READ - 1))
    assert len(connection.get_buffer(-1)) == FIRST_READ


def test_after_a_pause_and_for_the_next_request_reading_begins_small() -> None:
    connection, _ = made()
    read(connection, bytes(int(FIRST_READ)))
    connection.yield_reading()
    assert len(connection.get_buffer(-1)) == PIECES[1], "the receiver keeps up"
    connection.pause_reading()
    assert len(connection.get_buffer(-1)) == PIECES[0]
    read(connection, bytes(int(FIRST_READ)))
    connection.set_idle(0.0)
    assert len(connection.get_buffer(-1)) == PIECES[0]


def test_what_was_read_is_not_overwritten_by_the_next_read() -> None:
    one, first = made()
    other, second = made()
    read(one, b"one")
    read(other, b"other")
    assert (first.data, second.data) == (b"one", b"other")


def test_the_event_loop_reads_by_it() -> None:
    sent = bytes(range(256)) * 4096

    def send(far: socket.socket) -> None:
        far.sendall(sent)
        far.close()

    async def scenario() -> Reader:
        near, far = socket.socketpair()
        near.setblocking(False)
        connection, reader = made()
        protocol: Any = connection
        await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=near)
        await asyncio.to_thread(send, far)
        async with asyncio.timeout(10):
            await reader.has_ended.wait()
        connection.abort(CLOSED_LOCALLY)
        return reader

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reader = runner.run(scenario())
    assert reader.data == sent
    assert reader.sizes[0] <= PIECES[0]
    assert max(reader.sizes[:2]) <= PIECES[1]
    assert max(reader.sizes) <= LARGEST_READ
