"""A listener with several sockets, and with sockets that others use as well."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from pymosn.api.network import STOP, Connection, FilterChainFactory, NetworkFilter
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.log import Log
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.server.sockets import bind_tcp, close_all


class Names(NetworkFilter):
    """Sends the listener's name."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def on_connection(self, connection: Connection) -> None:
        connection.write(self._name)

    def on_data(self, data: bytes) -> bool:
        return STOP

    def on_eof(self) -> None:
        """Stays open."""


class Factory(FilterChainFactory):
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def create(self) -> list[NetworkFilter]:
        return [Names(self._name)]


class Group:
    """Some sockets that share an address, and listeners that have copies."""

    def __init__(self, count: int) -> None:
        clock = Clock()
        self.wheel = TimerWheel(clock)
        self.admission = Admission(self.wheel, Log(), lambda count: 5)
        self.sockets = bind_tcp("listener a", "127.0.0.1", 0, count)
        self.address: tuple[str, int] = self.sockets[0].getsockname()
        self.listeners: list[Listener] = []

    async def listener(self, name: str) -> Listener:
        stats = DownstreamStats(Metrics().group("downstream", ("listener", name)))
        clock, ids = self.wheel.clock, ConnectionIds()
        listener = Listener(name, "127.0.0.1:0", Factory(name), stats, ids, clock, self.wheel, self.admission)
        self.listeners.append(listener)
        for sock in self.sockets:
            await listener.start(sock.dup())
        return listener

    async def connect(self) -> str:
        """The name of the listener that serves a new connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        name = await asyncio.wait_for(reader.read(10), 10)
        writer.close()
        return name.decode()

    async def close(self) -> None:
        for listener in self.listeners:
            listener.abort_all()
            listener.stop_accepting()
        close_all(self.sockets)
        await asyncio.sleep(0.0)


def run(scenario: Callable[[Group], Awaitable[None]], count: int) -> None:
    async def whole() -> None:
        group = Group(count)
        try:
            await scenario(group)
        finally:
            await group.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


def test_it_accepts_on_all_its_sockets() -> None:
    async def scenario(group: Group) -> None:
        listener = await group.listener("a")
        # The kernel chooses the socket by a hash of the client's port: some of so many reach each of three.
        assert [await group.connect() for _ in range(40)] == ["a"] * 40
        assert listener.bound_address() == group.address
        assert listener.fault() == ""
        os.close(listener._servers[2].sockets[0].fileno())
        assert listener.fault() == "its socket was closed"

    run(scenario, 3)


def test_it_pauses_on_all_its_sockets_and_loses_nothing() -> None:
    async def scenario(group: Group) -> None:
        listener = await group.listener("a")
        group.admission.set_memory(False)
        assert listener.fault() == ""
        clients = [socket.create_connection(group.address, 5) for _ in range(20)]
        await asyncio.sleep(0)
        assert listener.connection_count == 0
        group.admission.set_memory(True)
        for client in clients:
            client.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 10), 10) == b"a"
            client.close()

    run(scenario, 2)


def test_one_that_starts_in_a_pause_has_all_its_sockets_afterwards() -> None:
    async def scenario(group: Group) -> None:
        group.admission.set_memory(False)
        await group.listener("a")
        waiting = [asyncio.ensure_future(group.connect()) for _ in range(20)]
        group.admission.set_memory(True)
        assert await asyncio.gather(*waiting) == ["a"] * 20

    run(scenario, 2)


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_released_socket_goes_on_for_the_other_listener(is_kept: bool) -> None:
    async def scenario(group: Group) -> None:
        old = await group.listener("old")
        old.is_kept = is_kept
        new = await group.listener("new")
        if is_kept:
            old.stop_accepting()  # without a filter on the socket, which another process will serve
        else:
            old.release()
        assert old.bound_address() is None
        assert [await group.connect() for _ in range(20)] == ["new"] * 20
        assert new.fault() == ""

    run(scenario, 2)


def test_what_waits_is_served_before_the_sockets_close() -> None:
    async def scenario(group: Group) -> None:
        listener = await group.listener("a")
        group.admission.set_memory(False)
        clients = [socket.create_connection(group.address, 5) for _ in range(10)]
        close_all(group.sockets)
        listener.stop_accepting()
        assert listener.connection_count == 0
        loop = asyncio.get_running_loop()
        for client in clients:
            client.setblocking(False)
            assert await asyncio.wait_for(loop.sock_recv(client, 10), 10) == b"a"
            client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(group.address, 5)

    run(scenario, 2)
