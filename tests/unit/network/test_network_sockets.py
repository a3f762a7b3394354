"""Listener and dialer on real loopback sockets, with the event loop that the workers use."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path

import pytest
import uvloop

from pymosn.api.network import (
    PLAIN,
    STOP,
    Connection,
    DialReceiver,
    FilterChainFactory,
    NetworkFilter,
    Peer,
    Transport,
    plain_peer,
)
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import CLOSED_LOCALLY, CONNECT_FAILED, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory

own: ContextVar[str] = ContextVar("own")
#: The state of a TCP socket that has no answer yet, in Linux's tcp_states.h; an established one is 1, a reset one 7.
SYN_SENT = 2


class Ear(NetworkFilter):
    """Records what it receives for a test."""

    def __init__(self, on_bytes: Callable[[Connection, bytes], None] | None = None) -> None:
        self.connection = Connection()
        self.events: list[object] = []
        self.closed = asyncio.Event()
        self.heard = asyncio.Event()
        self._on_bytes = on_bytes

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection
        self.events.append("open")

    def on_data(self, data: bytes) -> bool:
        self.events.append(data)
        self.heard.set()
        if self._on_bytes is not None:
            self._on_bytes(self.connection, data)
        return STOP

    def on_eof(self) -> None:
        self.events.append("eof")
        self.heard.set()

    def on_writable(self, writable: bool) -> None:
        self.events.append(writable)
        self.heard.set()

    def on_close(self, failure: Failure) -> None:
        self.events.append(failure.reason)
        self.closed.set()


class Ears(FilterChainFactory):
    def __init__(self, on_bytes: Callable[[Connection, bytes], None] | None = None) -> None:
        self.made: list[Ear] = []
        self._on_bytes = on_bytes

    def create(self) -> list[NetworkFilter]:
        self.made.append(Ear(self._on_bytes))
        return [self.made[-1]]


class Answer(DialReceiver):
    def __init__(self) -> None:
        self.result: asyncio.Future[Connection | Failure] = asyncio.get_running_loop().create_future()
        self.detail = ""

    def on_dialed(self, connection: Connection) -> None:
        self.result.set_result(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self.detail = detail
        self.result.set_result(failure)


class Place:
    """A listener on a free port, and a dialer."""

    def __init__(self, factory: FilterChainFactory) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.stats = DownstreamStats(Metrics().group("downstream"))
        numbers = ConnectionIds()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.listener = Listener("l", self.address, factory, self.stats, numbers, self.clock, self.wheel)
        self.dialer = TcpDialer(numbers, self.clock, self.wheel)

    async def dial(self, ear: Ear, address: str = "", timeout: float = 5.0) -> Connection | Failure:
        answer = Answer()
        self.dialer.dial(plain_peer(address or self.address), timeout, ear, answer)
        return await answer.result


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test()

    uvloop.run(limited())


def test_bytes_there_and_back() -> None:
    async def test() -> None:
        ears = Ears(lambda connection, data: connection.write_parts([data, b"!"]))
        place = Place(ears)
        await place.listener.start(place.socket)
        ear = Ear()
        connection = await place.dial(ear)
        assert isinstance(connection, Connection)
        connection.write(b"hello")
        await ear.heard.wait()
        assert ear.events == ["open", b"hello!"]
        assert connection.remote_port == place.port
        assert ears.made[0].connection.remote_ip == "127.0.0.1"
        assert ears.made[0].connection.id != connection.id
        assert place.listener.connection_count == 1
        connection.close(CLOSED_LOCALLY)
        await ears.made[0].heard.wait()
        assert place.stats.connection_active.value == 1
        ears.made[0].connection.close(CLOSED_LOCALLY)
        await ears.made[0].closed.wait()
        await ear.closed.wait()
        assert ear.events[-1] == "closed_locally"
        assert place.listener.connection_count == 0
        assert (place.stats.bytes_read.value, place.stats.bytes_written.value) == (5, 6)
        connection.write(b"dropped")
        connection.close_lingering(CLOSED_LOCALLY)
        connection.pause_reading()
        connection.abort(CLOSED_LOCALLY)
        place.listener.stop_accepting()

    run(test)


class ClosingSocket(socket.socket):
    """A listening socket; a client connects when all others have been accepted."""

    late: socket.socket | None = None

    def accept(self) -> tuple[socket.socket, object]:
        try:
            return super().accept()
        except BlockingIOError:
            self.late = socket.socket()
            self.late.setblocking(False)
            self.late.connect_ex(self.getsockname())
            raise


def test_no_connection_is_made_between_the_last_accept_and_the_end() -> None:
    """The kernel would reset it."""

    async def test() -> None:
        place = Place(Ears())
        closing = ClosingSocket(fileno=place.socket.detach())
        await place.listener.start(closing)
        # In the backlog, because the event loop does not turn.
        with socket.create_connection(("127.0.0.1", place.port), 5):
            place.listener.stop_accepting()
            late = closing.late
            assert late is not None
            with late:
                assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == SYN_SENT
            while place.listener.connection_count == 0:
                await asyncio.sleep(0)

    run(test)


def test_eof_then_close_then_reset() -> None:
    async def test() -> None:
        ears = Ears()
        place = Place(ears)
        await place.listener.start(place.socket)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"a")
        writer.write_eof()
        while not ears.made or "eof" not in ears.made[0].events:
            await asyncio.sleep(0)
        served = ears.made[0].connection
        served.write(b"still heard")
        served.close(CLOSED_LOCALLY)
        assert await reader.read() == b"still heard"
        await ears.made[0].closed.wait()
        writer.close()

        connection = await place.dial(Ear())
        assert isinstance(connection, Connection)
        connection.abort(CLOSED_LOCALLY)
        while len(ears.made) < 2:
            await asyncio.sleep(0)
        await ears.made[1].closed.wait()
        assert "eof" not in ears.made[1].events, "a reset cannot be taken for a proper end"
        assert place.stats.connection_destroy.value == 2
        place.listener.stop_accepting()

    run(test)


def test_lingering_close_lets_a_sending_peer_read_the_reply() -> None:
    async def test() -> None:
        def refuse(connection: Connection, data: bytes) -> None:
            if not connection.is_closed:
                connection.write(b"no")
                connection.close_lingering(CLOSED_LOCALLY)

        ears = Ears(refuse)
        place = Place(ears)
        await place.listener.start(place.socket)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        for _ in range(50):
            writer.write(b"x" * 10000)
            await asyncio.sleep(0)
        await writer.drain()
        assert await reader.read() == b"no"
        assert not ears.made[0].closed.is_set(), "it reads on"
        writer.close()
        await ears.made[0].closed.wait()
        assert len(place.wheel) == 0
        place.listener.stop_accepting()

    run(test)


def test_back_pressure_and_pauses() -> None:
    async def test() -> None:
        ears = Ears()
        place = Place(ears)
        await place.listener.start(place.socket)
        ear = Ear()
        connection = await place.dial(ear)
        assert isinstance(connection, Connection)
        while not ears.made:
            await asyncio.sleep(0)
        served = ears.made[0]
        while served.events != ["open"]:
            await asyncio.sleep(0)
        served.connection.pause_reading()
        served.connection.pause_reading()
        total = 0
        while False not in ear.events:
            connection.write(b"x" * 100_000)
            total += 100_000
            await asyncio.sleep(0)
        served.connection.resume_reading()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not served.heard.is_set()
        served.connection.resume_reading()
        while True not in ear.events:
            await asyncio.sleep(0)
        while sum(len(event) for event in served.events if isinstance(event, bytes)) < total:
            await asyncio.sleep(0)
        connection.abort(CLOSED_LOCALLY)
        await served.closed.wait()
        place.listener.stop_accepting()

    run(test)


def test_dials_that_fail(tmp_path: Path) -> None:
    async def test() -> None:
        place = Place(Ears())
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        refused = await place.dial(Ear(), f"127.0.0.1:{port}")
        assert isinstance(refused, Failure)
        assert refused.reason == "connect_refused"
        for address in ("no-port", "127.0.0.1:99999", f"unix:{tmp_path}/missing.sock"):
            failed = await place.dial(Ear(), address)
            assert isinstance(failed, Failure)
            assert failed.reason == "connect_failed"
        # Without accept the backlog of a socket fills up; after that, connecting takes forever.
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        held = [await place.dial(Ear(), address, 0.2) for _ in range(4)]
        late = held[-1]
        assert isinstance(late, Failure)
        assert late.reason == "connect_timeout"
        for connection in held:
            if isinstance(connection, Connection):
                connection.abort(CLOSED_LOCALLY)
        full.close()
        place.socket.close()

    run(test)


def test_unix_socket(tmp_path: Path) -> None:
    async def test() -> None:
        ears = Ears(lambda connection, data: connection.write(data))
        place = Place(ears)
        place.socket.close()
        path = tmp_path / "s"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        await place.listener.start(sock)
        ear = Ear()
        connection = await place.dial(ear, f"unix:{path}")
        assert isinstance(connection, Connection)
        connection.write(b"x")
        await ear.heard.wait()
        assert ear.events == ["open", b"x"]
        assert connection.remote_ip == ""
        connection.abort(CLOSED_LOCALLY)
        ears.made[0].connection.abort(CLOSED_LOCALLY)
        await ears.made[0].closed.wait()
        place.listener.stop_accepting()

    run(test)


def test_listener_without_filters_closes_at_once() -> None:
    async def test() -> None:
        stats = DownstreamStats(Metrics().group("downstream"))
        place = Place(RejectAllFactory(stats))
        await place.listener.start(place.socket)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        assert await reader.read() == b""
        assert stats.connection_refused.value == 1
        writer.close()
        place.listener.stop_accepting()
        place.listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", place.port)

    run(test)


def test_drain_and_abort_reach_every_connection() -> None:
    async def test() -> None:
        drained: list[object] = []

        class Drains(Ear):
            def on_drain(self) -> None:
                drained.append(self)

        class Factory(FilterChainFactory):
            def create(self) -> list[NetworkFilter]:
                return [Drains()]

        place = Place(Factory())
        await place.listener.start(place.socket)
        ears = [Ear() for _ in range(3)]
        for ear in ears:
            await place.dial(ear)
        while place.listener.connection_count < 3:
            await asyncio.sleep(0)
        place.listener.drain()
        assert len(drained) == 3
        place.listener.abort_all()
        for ear in ears:
            await ear.closed.wait()
        assert place.listener.connection_count == 0
        assert place.stats.connection_active.value == 0
        place.listener.stop_accepting()

    run(test)


def test_half_close_sends_everything_and_continues_reading() -> None:
    async def test() -> None:
        ears = Ears()
        place = Place(ears)
        await place.listener.start(place.socket)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"a")
        while not ears.made or b"a" not in ears.made[0].events:
            await asyncio.sleep(0)
        served = ears.made[0].connection
        large = b"x" * 5_000_000  # more than the socket takes at once
        served.write(large)
        served.write_eof()
        assert await reader.read() == large
        writer.write(b"b")
        while b"b" not in ears.made[0].events:
            await asyncio.sleep(0)
        writer.close()
        while "eof" not in ears.made[0].events:
            await asyncio.sleep(0)
        served.close(CLOSED_LOCALLY)
        await ears.made[0].closed.wait()
        place.listener.stop_accepting()

    run(test)


def test_a_peer_may_bind_the_local_address() -> None:
    async def test() -> None:
        ears = Ears()
        place = Place(ears)
        await place.listener.start(place.socket)
        answer = Answer()
        peer = Peer(place.address, transport=PLAIN, server_name="", bind="127.0.0.2")
        place.dialer.dial(peer, 5.0, Ear(), answer)
        connection = await answer.result
        assert isinstance(connection, Connection)
        assert (connection.local_ip, connection.scheme) == ("127.0.0.2", "http")
        while not ears.made or ears.made[0].events == []:
            await asyncio.sleep(0)
        assert ears.made[0].connection.remote_ip == "127.0.0.2"
        connection.close(CLOSED_LOCALLY)
        place.listener.stop_accepting()
        await ears.made[0].heard.wait()
        ears.made[0].connection.close(CLOSED_LOCALLY)
        await ears.made[0].closed.wait()

    run(test)


def test_a_transport_that_is_not_implemented_fails_the_dial() -> None:
    async def test() -> None:
        place = Place(Ears())
        answer = Answer()
        peer = Peer(place.address, transport=Transport(scheme="https"), server_name="a.example", bind="")
        place.dialer.dial(peer, 5.0, Ear(), answer)
        assert await answer.result is CONNECT_FAILED
        assert "unsupported transport" in answer.detail
        place.socket.close()

    run(test)


def test_a_dialed_connection_does_not_keep_the_context_of_a_filter() -> None:
    seen: list[str] = []

    async def test() -> None:
        place = Place(Ears(lambda connection, data: connection.write(data)))
        await place.listener.start(place.socket)
        own.set("of an exchange")
        ear = Ear(lambda connection, data: seen.append(own.get("unset")))
        connection = await place.dial(ear)
        assert isinstance(connection, Connection)
        connection.write(b"hello")
        await ear.heard.wait()

    run(test)
    assert seen == ["unset"]
