"""UDP listeners and sessions with a clock that stands still; hosts and clients are real sockets on loopback."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.fakes import FakeClock, Lines

from pymosn.core.counters import DatagramStats, DownstreamStats, Metrics
from pymosn.core.failure import CONNECT_REFUSED, DRAINING, IDLE_TIMEOUT, NO_HOSTS, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.datagram_session import HELD, DatagramSession, SessionFactory
from pymosn.network.datagrams import DatagramPort, Source, connected_socket, reply_control
from pymosn.network.destinations import OwnAddresses
from pymosn.network.listener import ConnectionIds
from pymosn.network.udp import DatagramListener

IDLE = 5.0


class FakeSession(DatagramSession):
    """A session with a given host."""

    def __init__(self, factory: "FakeFactory", port: DatagramPort, source: Source, id: int) -> None:
        super().__init__(port, source, id)
        self.idle_timeout = IDLE
        self.max_reply_ratio = factory.ratio
        self.factory = factory
        self.replies: list[int] = []

    def open(self) -> Failure | None:
        if self.factory.failure is None and self.factory.host is not None:
            self.use_socket(connected_socket("127.0.0.1", self.factory.host))
        return self.factory.failure

    def is_usable(self) -> bool:
        return self.factory.is_usable

    def on_reply(self, size: int) -> None:
        self.replies.append(size)

    def on_end(self, failure: Failure) -> None:
        self.factory.ends.append(failure)


class FakeFactory(SessionFactory):
    def __init__(self, host: int | None, max_sessions: int = 0, per_client: int = 0) -> None:
        super().__init__(max_sessions, per_client)
        self.host = host
        self.ratio = 0
        self.failure: Failure | None = None
        self.is_usable = True
        self.sheds = False
        self.made: list[FakeSession] = []
        self.ends: list[Failure] = []

    def create(self, port: DatagramPort, source: Source, id: int) -> DatagramSession:
        self.made.append(FakeSession(self, port, source, id))
        return self.made[-1]

    def is_shedding(self) -> bool:
        return self.sheds


def udp_socket(ip: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((ip, 0))
    return sock


class World:
    """A listener, and the socket of the only host."""

    def __init__(self, max_sessions: int = 0, per_client: int = 0, has_host: bool = True) -> None:
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.host = udp_socket()
        self.factory = FakeFactory(self.host.getsockname()[1] if has_host else None, max_sessions, per_client)
        self.metrics = Metrics()
        group = self.metrics.group("downstream", ("listener", "u"))
        self.own = OwnAddresses()
        self.readers: dict[int, DatagramListener] = {}
        self.admission = Admission(self.wheel, Lines())
        self.listener = self.new_listener(group, "u")
        self.clients: list[socket.socket] = []

    def new_listener(self, group: Any, name: str) -> DatagramListener:
        return DatagramListener(
            name,
            "127.0.0.1:0",
            DownstreamStats(group),
            DatagramStats(group),
            ConnectionIds(),
            self.clock,
            self.wheel,
            self.admission,
            self.own,
            self.readers,
            self.factory,
        )

    async def start(self) -> None:
        self.sock = udp_socket()
        await self.listener.start(self.sock.dup())
        self.address: tuple[str, int] = self.sock.getsockname()

    def client(self) -> socket.socket:
        sock = udp_socket()
        sock.connect(self.address)
        self.clients.append(sock)
        return sock

    async def ask(self, sock: socket.socket, data: bytes) -> bytes:
        """A datagram to the host and its answer back."""
        sock.send(data)
        got, source = await self.at_host()
        assert got == data
        self.host.sendto(got.upper(), source)
        return await receive(sock)

    async def at_host(self) -> tuple[bytes, Any]:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(self.host, 70000), 10)

    def counter(self, key: str) -> int:
        (group,) = self.metrics.snapshot()
        return {**group["counters"], **group["gauges"]}.get(key, 0)

    async def until(self, key: str, value: int) -> None:
        """Waits until a counter has that value."""
        async with asyncio.timeout(10):
            while self.counter(key) != value:
                await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()

    def close(self) -> None:
        self.listener.abort_all()
        self.listener.stop_accepting()
        for sock in (self.sock, self.host, *self.clients):
            sock.close()
        assert self.listener.connection_count == 0
        assert self.readers == {}
        assert self.admission.open == 0
        assert len(self.wheel) == 0


async def receive(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 70000), 10)


def run(test: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def act() -> None:
        world = World(**options)
        await world.start()
        try:
            await test(world)
        finally:
            world.close()

    asyncio.run(act())


def test_a_listener_with_two_sockets_answers_from_the_one_that_the_client_has_sent_to() -> None:
    async def act(world: World) -> None:
        other = udp_socket()
        await world.listener.start(other.dup())
        first, second = world.client(), udp_socket()
        second.connect(other.getsockname())  # so it takes replies from there only
        world.clients += [second, other]
        assert await world.ask(first, b"a") == b"A"
        assert await world.ask(second, b"b") == b"B"
        assert len(world.readers) == 2
        assert world.listener.connection_count == 2
        assert world.listener.fault() == ""

    run(act)


def test_a_session_ends_when_it_is_idle_in_both_directions() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        assert await world.ask(sock, b"a") == b"A"
        world.pass_time(IDLE - 1)
        assert await world.ask(sock, b"b") == b"B"
        world.pass_time(IDLE - 1)
        assert len(world.factory.made) == 1
        world.pass_time(1.1)
        assert world.factory.ends == [IDLE_TIMEOUT]
        assert await world.ask(sock, b"c") == b"C"
        assert len(world.factory.made) == 2
        assert (world.counter("connection_total"), world.counter("connection_active")) == (2, 1)

    run(act)


def test_limits_drop_new_sessions_and_serve_the_others() -> None:
    async def act(world: World) -> None:
        first, second, third = (world.client() for _ in range(3))
        assert await world.ask(first, b"a") == b"A"
        assert await world.ask(second, b"a") == b"A"
        third.send(b"a")
        await world.until("udp_dropped_too_many_sessions", 1)
        assert await world.ask(first, b"b") == b"B"
        world.factory.max_sessions, world.factory.max_sessions_per_client = 0, 2
        third.send(b"a")
        await world.until("udp_dropped_too_many_of_client", 1)
        world.pass_time(IDLE + 1)
        assert await world.ask(third, b"a") == b"A"

    run(act, max_sessions=2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda world: setattr(world.factory, "sheds", True), "overloaded"),
        (lambda world: world.listener.set_accepting(False), "paused"),
        (lambda world: world.listener.drain(), "draining"),
        (lambda world: setattr(world.admission, "max_connections", 1), "worker_full"),
        (lambda world: setattr(world.listener, "max_connections", 1), "too_many_sessions"),
        (lambda world: setattr(world.factory, "failure", NO_HOSTS), "no_hosts"),
    ],
)
def test_a_worker_that_takes_no_new_session_serves_the_present_ones(change: Callable[[World], object], reason: str) -> None:
    async def act(world: World) -> None:
        known = world.client()
        assert await world.ask(known, b"a") == b"A"
        change(world)
        world.client().send(b"x")
        await world.until(f"udp_dropped_{reason}", 1)
        assert await world.ask(known, b"b") == b"B"
        assert world.listener.connection_count == 1

    run(act)


@pytest.mark.parametrize(
    ("ip", "port", "is_valid"),
    [
        ("192.0.2.1", 1, True),
        ("192.0.2.1", 0, False),
        ("0.0.0.0", 9, False),
        ("0.1.2.3", 9, False),
        ("224.0.0.1", 9, False),
        ("255.255.255.255", 9, False),
        ("::ffff:192.0.2.1", 9, True),
        ("::ffff:255.255.255.255", 9, False),
        ("2001:db8::1", 9, True),
        ("::", 9, False),
        ("ff02::1", 9, False),
    ],
)
def test_sources_that_no_reply_can_go_to(ip: str, port: int, is_valid: bool) -> None:
    assert Source(None, (ip, port), [], "").is_valid() == is_valid


def test_an_address_of_this_process_begins_no_session() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        world.own.replace([sock.getsockname()])
        sock.send(b"x")
        await world.until("udp_dropped_own_address", 1)
        assert world.factory.made == []

    run(act)


def test_an_error_of_the_host_ends_the_session_and_the_datagram_gets_another() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        assert await world.ask(sock, b"a") == b"A"
        world.host.close()
        sock.send(b"lost")
        async with asyncio.timeout(10):
            while not world.factory.ends:
                await asyncio.sleep(0)
        assert world.factory.ends == [CONNECT_REFUSED]
        world.host = udp_socket()
        world.factory.host = world.host.getsockname()[1]
        assert await world.ask(sock, b"b") == b"B"

    run(act)


def test_a_session_whose_host_is_gone_is_replaced() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        assert await world.ask(sock, b"a") == b"A"
        world.factory.is_usable = False
        assert await world.ask(sock, b"b") == b"B"
        assert len(world.factory.made) == 2
        assert world.listener.connection_count == 1

    run(act)


def test_what_comes_before_the_socket_is_held_within_a_limit() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        for number in range(HELD + 2):
            sock.send(b"%d" % number)
        await world.until("udp_dropped_host_busy", 2)
        world.factory.made[0].use_socket(connected_socket(*world.host.getsockname()))
        assert [(await world.at_host())[0] for _ in range(HELD)] == [b"%d" % number for number in range(HELD)]

    run(act, has_host=False)


def test_replies_are_limited_to_a_ratio() -> None:
    async def act(world: World) -> None:
        world.factory.ratio = 2
        sock = world.client()
        sock.send(b"1234")
        _, source = await world.at_host()
        for data in (b"123456", b"123", b"12"):
            world.host.sendto(data, source)
        assert [await receive(sock), await receive(sock)] == [b"123456", b"12"]
        assert world.counter("udp_dropped_reply_ratio") == 1

    run(act)


def test_only_the_host_can_answer() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        sock.send(b"a")
        _, source = await world.at_host()
        with udp_socket() as stranger:
            stranger.sendto(b"forged", source)
        world.host.sendto(b"real", source)
        assert await receive(sock) == b"real"

    run(act)


def test_a_listener_that_stops_keeps_its_socket_until_its_sessions_have_ended() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        assert await world.ask(sock, b"a") == b"A"
        world.listener.stop_accepting()
        world.listener.drain()
        assert await world.ask(sock, b"b") == b"B"
        assert world.listener.bound_address() == world.address
        world.pass_time(IDLE + 1)
        assert world.listener.bound_address() is None
        assert world.listener.fault() == ""

    run(act)


def test_sessions_are_aborted_at_the_end() -> None:
    async def act(world: World) -> None:
        assert await world.ask(world.client(), b"a") == b"A"
        world.listener.abort_all()
        assert world.factory.ends == [DRAINING]
        assert world.listener.bound_address() is None

    run(act)


def test_a_listener_with_the_same_socket_takes_over() -> None:
    async def act(world: World) -> None:
        sock = world.client()
        sock.send(b"a")
        _, source = await world.at_host()
        other = world.new_listener(world.metrics.group("downstream", ("listener", "u")), "other")
        await other.start(world.sock.dup())
        world.listener.stop_accepting()
        world.host.sendto(b"to the old session", source)
        assert await receive(sock) == b"to the old session"
        assert await world.ask(sock, b"b") == b"B"
        assert (world.listener.connection_count, other.connection_count) == (1, 1)
        other.abort_all()

    run(act)


def test_a_socket_that_code_of_a_filter_has_closed_is_a_fault() -> None:
    async def act(world: World) -> None:
        assert world.listener.fault() == ""
        assert world.listener.port.sock is not None
        with udp_socket() as other:
            os.dup2(other.fileno(), world.listener.port.sock.fileno())
        assert world.listener.fault() == "its socket was closed"

    run(act)


def test_replies_leave_from_the_address_that_was_asked() -> None:
    four = struct.pack("i4s4s", 7, socket.inet_aton("192.0.2.5"), socket.inet_aton("192.0.2.255"))
    control, ip = reply_control([(socket.SOL_IP, 8, four)])
    assert ip == "192.0.2.5"
    assert control == [(socket.SOL_IP, 8, b"\0\0\0\0" + socket.inet_aton("192.0.2.5") + b"\0\0\0\0")]
    index = struct.pack("I", 7)
    for text, kept in (("2001:db8::5", b"\0\0\0\0"), ("fe80::5", index), ("::ffff:192.0.2.5", b"\0\0\0\0")):
        raw = socket.inet_pton(socket.AF_INET6, text)
        control, ip = reply_control([(socket.IPPROTO_IPV6, 50, raw + index)])
        assert (control, ip) == ([(socket.IPPROTO_IPV6, 50, raw + kept)], text.removeprefix("::ffff:"))
    assert reply_control([]) == ([], "")
