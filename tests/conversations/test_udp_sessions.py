"""UDP sessions that move to another process: two listeners with the same socket, one for each generation."""

import asyncio
import contextlib
import os
import socket
from array import array
from collections.abc import Awaitable, Callable

import pytest
from tests.kit.udp_world import UdpWorld, udp_socket

from pymosn.server.upgrade.messages import MOVED, MovedSession, SessionsMoved
from pymosn.server.upgrade.sessions import SessionReceiver, SessionSender
from pymosn.upstream.plan import LimitPlan


class Upgrade:
    """`old` serves a socket, and `new` has it, too, but does not read yet. The hosts are those of `old`."""

    def __init__(self) -> None:
        self.old = UdpWorld()
        self.new = UdpWorld()
        self.sending, self.receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.sending, self.receiving):
            end.setblocking(False)
        self.receiver = SessionReceiver(self.new.readers, self.new.log)
        self.new.listener.is_waiting = True
        self.host = self.old.hosts[0]

    async def start(self, sock: socket.socket | None = None) -> None:
        """`sock`: the socket of both listeners."""
        self.sock = sock or self.old.sock
        await self.old.listener.start(self.sock.dup())
        await self.new.listener.start(self.sock.dup())
        for world in (self.old, self.new):
            world.use(self.old.address(0))

    def client(self, ip: str = "127.0.0.1") -> socket.socket:
        sock = udp_socket()
        sock.connect((ip, self.sock.getsockname()[1]))
        return sock

    async def host_gets(self) -> tuple[bytes, tuple[str, int]]:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(self.host, 999), 10)

    async def move(self, seconds: float = 10.0) -> int:
        """Sends all sessions, while the other side receives."""
        receives = asyncio.create_task(self._receive())
        sender = SessionSender([self.sending], 0, 1, self.old.log)
        count = await sender.send_all([self.old.listener], seconds)
        await receives
        self.old.listener.stop_accepting()
        return count

    async def _receive(self) -> None:
        while True:
            message, descriptors = await self.next_message()
            self.receiver.receive(message, descriptors)
            if isinstance(message, SessionsMoved):
                return

    async def next_message(self) -> tuple[MovedSession | SessionsMoved, list[int]]:
        while True:
            with contextlib.suppress(BlockingIOError):
                data, ancillary, _, _ = self.receiving.recvmsg(70000, socket.CMSG_LEN(4))
                message = MOVED.decode(data)
                assert isinstance(message, MovedSession | SessionsMoved)
                return message, [number for _, _, content in ancillary for number in array("i", content)]
            await asyncio.sleep(0)

    def close(self) -> None:
        self.sending.close()
        self.receiving.close()
        self.old.close()
        self.new.close()


def run(test: Callable[[Upgrade], Awaitable[None]], sock: socket.socket | None = None) -> None:
    async def act() -> None:
        upgrade = Upgrade()
        await upgrade.start(sock)
        try:
            await test(upgrade)
        finally:
            upgrade.close()
            if sock is not None:
                sock.close()

    asyncio.run(act())


async def answered(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 999), 10)


def test_a_session_goes_on_with_the_same_source() -> None:
    async def act(upgrade: Upgrade) -> None:
        with upgrade.client() as client:
            client.send(b"one")
            data, source = await upgrade.host_gets()
            upgrade.host.sendto(b"first", source)
            assert (data, await answered(client)) == (b"one", b"first")
            upgrade.host.sendto(b"while it moves", source)
            assert await upgrade.move() == 1
            assert upgrade.old.listener.connection_count == 0
            assert await answered(client) == b"while it moves"
            client.send(b"three")
            assert await upgrade.host_gets() == (b"three", source)
            upgrade.host.sendto(b"last", source)
            assert await answered(client) == b"last"

    run(act)


def test_datagrams_wait_until_the_sessions_have_moved() -> None:
    async def act(upgrade: Upgrade) -> None:
        with upgrade.client() as known, upgrade.client() as fresh:
            known.send(b"1")
            _, source = await upgrade.host_gets()
            upgrade.old.listener.hold()
            known.send(b"2")
            fresh.send(b"3")
            for _ in range(10):
                await asyncio.sleep(0)
            assert upgrade.new.counter("udp_read") == 0
            await upgrade.move()
            got = [await upgrade.host_gets(), await upgrade.host_gets()]
            assert got[0] == (b"2", source)
            assert got[1][0] == b"3"
            assert got[1][1] != source
            assert upgrade.new.listener.connection_count == 2

    run(act)


def test_each_session_is_counted_and_logged_once() -> None:
    async def act(upgrade: Upgrade) -> None:
        old, new = upgrade.old, upgrade.new
        with upgrade.client() as client:
            client.send(b"one")
            _, source = await upgrade.host_gets()
            upgrade.host.sendto(b"answer", source)
            await answered(client)
            await upgrade.move()
            assert (old.counter("connection_total"), old.counter("connection_active")) == (1, 0)
            assert old.counter("connection_destroy") == 0
            assert old.outcomes.exchanges == []
            assert (new.counter("connection_total"), new.counter("connection_active")) == (0, 1)
            cluster = new.runtime.clusters.get("c")
            assert cluster is not None
            (host,) = cluster.hosts
            assert (host.active_requests, host.active_connections) == (1, 1)
            client.send(b"more")
            await upgrade.host_gets()
            new.clock.now += 6.0
            new.wheel.advance()
            assert (host.active_requests, host.active_connections) == (0, 0)
            assert (new.counter("connection_destroy"), new.counter("connection_active")) == (1, 0)
            (exchange,) = new.outcomes.exchanges
            assert (exchange.bytes_received, exchange.bytes_sent, exchange.upstream_address) == (7, 6, old.address(0))
            assert exchange.attempts == 1

    run(act)


def test_the_idle_time_and_the_age_go_on() -> None:
    async def act(upgrade: Upgrade) -> None:
        old, new = upgrade.old, upgrade.new
        with upgrade.client() as client:
            client.send(b"one")
            await upgrade.host_gets()
            old.clock.now += 3.0  # of 5
            await upgrade.move()
            new.clock.now += 1.9
            new.wheel.advance()
            assert new.outcomes.exchanges == []
            new.clock.now += 0.2
            new.wheel.advance()
            assert new.outcomes.reasons() == ["idle_timeout"]
            (exchange,) = new.outcomes.exchanges
            assert exchange.finished - exchange.started == pytest.approx(5.1)

    run(act)


def test_a_session_whose_host_is_not_configured_any_more_ends() -> None:
    async def act(upgrade: Upgrade) -> None:
        upgrade.new.use(upgrade.old.address(1))
        with upgrade.client() as client:
            client.send(b"one")
            await upgrade.host_gets()
            await upgrade.move()
            assert upgrade.new.listener.connection_count == 0
            assert upgrade.new.outcomes.reasons() == ["no_hosts"]
            assert upgrade.new.counter("connection_destroy") == 1
            assert "1 sessions of listener u end: no_hosts" in str(upgrade.new.log.lines)
            client.send(b"two")  # begins another one
            assert await upgrade.old.at(1) == b"two"
            assert upgrade.new.listener.connection_count == 1

    run(act)


@pytest.mark.parametrize("reason", ["cluster_unknown", "overflow"])
def test_a_session_that_the_new_configuration_excludes_ends(reason: str) -> None:
    async def act(upgrade: Upgrade) -> None:
        if reason == "cluster_unknown":
            upgrade.new.runtime.clusters.activate({})
        else:
            cluster = upgrade.new.use(upgrade.old.address(0), limits=LimitPlan(connections=1))
            assert cluster.hosts[0].try_connection()
        with upgrade.client() as client:
            client.send(b"one")
            await upgrade.host_gets()
            await upgrade.move()
            assert upgrade.new.outcomes.reasons() == [reason]
            assert upgrade.new.listener.connection_count == 0

    run(act)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_replies_come_from_the_address_that_the_client_has_sent_to(family: socket.AddressFamily) -> None:
    """The sessions of a socket that has all addresses; a dual-stack one knows IPv4 clients by mapped addresses."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("", 0))

    async def act(upgrade: Upgrade) -> None:
        with upgrade.client("127.0.0.2") as client:
            client.send(b"one")
            _, source = await upgrade.host_gets()
            assert await upgrade.move() == 1
            upgrade.host.sendto(b"reply", source)
            assert await answered(client) == b"reply"  # it is connected: from elsewhere it would not arrive
            client.send(b"two")
            assert await upgrade.host_gets() == (b"two", source)
            assert upgrade.new.listener.connection_count == 1

    run(act, sock)


def test_many_sessions_wait_for_room_in_the_queue() -> None:
    async def act(upgrade: Upgrade) -> None:
        upgrade.sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(upgrade.client()) for _ in range(100)]
            sources = {}
            for number, client in enumerate(clients):
                client.send(bytes([number]))
                data, source = await upgrade.host_gets()
                sources[data] = source
            assert await upgrade.move() == 100
            for number, client in enumerate(clients):
                client.send(bytes([number]))
                data, source = await upgrade.host_gets()
                assert sources[data] == source

    run(act)


def test_sessions_that_cannot_be_sent_in_time_keep_their_replies() -> None:
    async def act(upgrade: Upgrade) -> None:
        with upgrade.client() as client:
            client.send(b"one")
            _, source = await upgrade.host_gets()
            with contextlib.suppress(BlockingIOError):
                while True:
                    upgrade.sending.send(b"full")
            sender = SessionSender([upgrade.sending], 0, 1, upgrade.old.log)
            assert await sender.send_all([upgrade.old.listener], 0.01) == 0
            assert "sessions of listener u stay here" in str(upgrade.old.log.lines)
            upgrade.new.listener.read()  # as after the limit
            upgrade.host.sendto(b"late", source)
            assert await answered(client) == b"late"
            client.send(b"two")
            data, other = await upgrade.host_gets()
            assert data == b"two"
            assert other != source

    run(act)


def test_a_session_that_the_client_has_begun_again_wins() -> None:
    async def act(upgrade: Upgrade) -> None:
        with upgrade.client() as client:
            client.send(b"one")
            await upgrade.host_gets()
            upgrade.old.listener.hold()
            upgrade.new.listener.read()
            client.send(b"two")
            _, source = await upgrade.host_gets()
            await upgrade.move()
            assert "the client has begun another session" in str(upgrade.new.log.lines)
            client.send(b"three")
            assert await upgrade.host_gets() == (b"three", source)
            assert upgrade.new.listener.connection_count == 1

    run(act)


def test_messages_about_unknown_sockets_are_ignored() -> None:
    async def act(upgrade: Upgrade) -> None:
        here, there = socket.socketpair()
        with there:
            descriptor = here.detach()
            message = MovedSession("u", 0, ("127.0.0.1", 1), ("127.0.0.1", 2), "c", socket=12345)
            upgrade.receiver.receive(message, [descriptor])
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
        upgrade.receiver.receive(SessionsMoved("u", 0, 12345), [])
        assert upgrade.new.listener.connection_count == 0

    run(act)


def test_the_queue_is_that_of_the_worker_with_the_same_socket() -> None:
    """Four sockets, of two workers before and three after: socket i is the first's i % 3."""

    async def act(upgrade: Upgrade) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
        second = udp_socket()
        await upgrade.old.listener.start(second.dup())
        sender = SessionSender([pair[0] for pair in pairs], 1, 2, upgrade.old.log)
        await sender.send_all([upgrade.old.listener], 10.0)
        found = {}
        for number, (_, receiving) in enumerate(pairs):
            with contextlib.suppress(BlockingIOError):
                message = MOVED.decode(receiving.recv(999))
                assert isinstance(message, SessionsMoved)
                found[number] = message.index
        assert found == {1: 1, 0: 3}
        for pair in pairs:
            for end in pair:
                end.close()
        second.close()

    run(act)
