"""Sessions of `udp_proxy`: the choice of a host, and what its end means for the cluster. Sockets are real, on loopback."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.udp_world import UdpWorld as World
from tests.kit.udp_world import udp_socket

from pymosn.core.overload import SHED
from pymosn.proxy.udp_proxy import UdpSession
from pymosn.upstream.plan import LimitPlan


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def act() -> None:
        world = World()
        await world.listener.start(world.sock.dup())
        try:
            await test(world)
        finally:
            world.close()

    asyncio.run(act())


def test_a_session_counts_as_a_connection_of_its_host_until_it_ends() -> None:
    async def act(world: World) -> None:
        cluster = world.use(world.address(0), limits=LimitPlan(connections=1))
        world.client.send(b"one")
        assert await world.at(0) == b"one"
        (host,) = cluster.hosts
        assert (host.active_requests, host.active_connections, cluster.limits.connections.active) == (1, 1, 1)
        assert cluster.limits.pending.active == 0
        with udp_socket() as second:
            second.connect(world.sock.getsockname())
            second.send(b"two")
            await world.until(lambda: world.counter("udp_dropped_overflow") == 1)
        world.clock.now += 6.0
        world.wheel.advance()
        assert (host.active_requests, host.active_connections, cluster.limits.connections.active) == (0, 0, 0)
        assert world.outcomes.reasons() == ["idle_timeout"]
        (exchange,) = world.outcomes.exchanges
        assert (exchange.protocol, exchange.bytes_received, exchange.bytes_sent) == ("udp", 3, 0)
        assert exchange.upstream_address == world.address(0)
        assert cluster.stats.bytes_written.value == 3

    run(act)


def test_a_host_that_refuses_is_not_chosen_again_at_once() -> None:
    async def act(world: World) -> None:
        world.use(world.address(0), world.address(1))
        world.client.send(b"x")
        first = world.outcomes
        refused = 0 if world.hosts[0].getsockname() == await chosen(world) else 1
        dead = world.hosts[refused]
        address = dead.getsockname()
        dead.close()
        world.client.send(b"lost")
        await world.until(lambda: len(first.exchanges) == 1)
        assert first.reasons() == ["connect_refused"]
        world.hosts[refused] = udp_socket()
        world.client.send(b"again")
        assert await world.at(1 - refused) == b"again"
        assert first.exchanges[0].upstream_address == f"{address[0]}:{address[1]}"

    run(act)


async def chosen(world: World) -> tuple[str, int]:
    """The address of the host that has got a datagram."""
    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(world.at(index)): index for index in range(2)}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    address: tuple[str, int] = world.hosts[tasks[done.pop()]].getsockname()
    return address


def test_sessions_leave_a_host_that_is_removed() -> None:
    async def act(world: World) -> None:
        world.use(world.address(0))
        world.client.send(b"one")
        assert await world.at(0) == b"one"
        world.use(world.address(1))
        world.client.send(b"two")
        assert await world.at(1) == b"two"
        assert world.outcomes.reasons() == ["closed_locally"]

    run(act)


def test_sessions_leave_an_unhealthy_host() -> None:
    async def act(world: World) -> None:
        cluster = world.use(world.address(0), world.address(1))
        world.client.send(b"one")
        old = 0 if await chosen(world) == world.hosts[0].getsockname() else 1
        cluster.hosts[old].set_active_health(False)
        world.client.send(b"two")
        assert await world.at(1 - old) == b"two"

    run(act)


def test_names_are_resolved_and_what_arrives_meanwhile_is_sent_then() -> None:
    async def act(world: World) -> None:
        world.use(f"localhost:{world.hosts[0].getsockname()[1]}")
        for data in (b"one", b"two"):
            world.client.send(data)
        assert [await world.at(0), await world.at(0)] == [b"one", b"two"]
        world.use("no-such-name.invalid:53")
        world.client.send(b"three")
        await world.until(lambda: world.counter("udp_dropped_connect_failed") == 1)
        assert world.listener.connection_count == 0

    run(act)


def test_the_first_address_to_which_there_is_a_way_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(world: World) -> None:
        # No socket may connect to the broadcast address unless it asks for that.
        ips = ["255.255.255.255", "127.0.0.1"]

        async def getaddrinfo(host: str, *_: Any, **__: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (ip, 0)) for ip in (ips if host == "two.test" else ips[:1])]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        port = world.hosts[0].getsockname()[1]
        world.use(f"two.test:{port}")
        world.client.send(b"one")
        assert await world.at(0) == b"one"
        world.use(f"none.test:{port}")
        with udp_socket() as other:
            other.connect(world.sock.getsockname())
            other.send(b"x")
            await world.until(lambda: world.counter("udp_dropped_connect_failed") == 1)
        assert "255.255.255.255: Permission denied" in world.log.lines[0]

    run(act)


@pytest.mark.parametrize(("address", "reason"), [("unix:/tmp/none", "connect_failed"), ("own", "loop"), ("client", "loop")])
def test_hosts_that_no_datagram_can_go_to(address: str, reason: str) -> None:
    async def act(world: World) -> None:
        ends = {"own": world.sock, "client": world.client}
        name = ends[address].getsockname() if address in ends else None
        cluster = world.use(f"{name[0]}:{name[1]}" if name else address)
        world.client.send(b"x")
        await world.until(lambda: world.counter(f"udp_dropped_{reason}") == 1)
        assert (world.listener.connection_count, cluster.limits.connections.active) == (0, 0)
        assert cluster.limits.pending.active == 0
        assert len(world.log.lines) == 1
        world.client.send(b"x")
        await world.until(lambda: world.counter(f"udp_dropped_{reason}") == 2)
        assert len(world.log.lines) == 1  # a flood does not fill the log

    run(act)


def test_sessions_are_freed_without_the_garbage_collection() -> None:
    async def act(world: World) -> None:
        world.use(world.address(0))
        for _ in range(5):
            world.client.send(b"x")
            assert await world.at(0) == b"x"
            world.clock.now += 6.0
            world.wheel.advance()
        assert len(world.outcomes.exchanges) == 5
        world.outcomes.exchanges.clear()
        await asyncio.sleep(0)
        assert sum(type(item) is UdpSession for item in gc.get_objects()) == 0

    gc.collect()
    gc.disable()
    try:
        run(act)
    finally:
        gc.enable()


def test_an_overloaded_worker_begins_no_session() -> None:
    async def act(world: World) -> None:
        world.use(world.address(0))
        world.runtime.overload.level = SHED
        world.client.send(b"x")
        await world.until(lambda: world.counter("udp_dropped_overloaded") == 1)
        world.runtime.overload.level = 0
        world.client.send(b"y")
        assert await world.at(0) == b"y"

    run(act)


def test_an_unknown_cluster_is_named_in_the_log() -> None:
    async def act(world: World) -> None:
        world.client.send(b"x")
        await world.until(lambda: world.counter("udp_dropped_cluster_unknown") == 1)
        assert world.log.lines[0].endswith("cluster_unknown (c)")

    run(act)
