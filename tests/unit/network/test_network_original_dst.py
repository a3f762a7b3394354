"""The original destinations of redirected clients: from the kernel, and the listener that accepts them."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from pymosn.api.network import Connection, FilterChainFactory, NetworkFilter
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import CLOSED_LOCALLY
from pymosn.core.timers import TimerWheel
from pymosn.network.listener import ConnectionIds, Listener, ListenerDirectory
from pymosn.network.original_dst import OriginalDst, redirected_from


class FakeSocket:
    """A socket whose options are a table, as netfilter fills it in."""

    def __init__(self, **options: bytes) -> None:
        self._options = options

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert option == 80
        name = {socket.SOL_IP: "v4", socket.IPPROTO_IPV6: "v6"}[level]
        if name not in self._options:
            raise FileNotFoundError(2, "No such file or directory")
        return self._options[name][:size]


def sockaddr(ip: str, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    if ":" in ip:
        raw = socket.inet_pton(socket.AF_INET6, ip)
        return struct.pack("=H2sI16sI", socket.AF_INET6, port.to_bytes(2, "big"), 7, raw, 3)
    return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(ip))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"v4": sockaddr("192.0.2.9", 8443)}, ("192.0.2.9", 8443)),
        ({"v6": sockaddr("2001:db8::9", 80)}, ("2001:db8::9", 80)),
        ({"v6": sockaddr("::ffff:192.0.2.9", 80)}, ("192.0.2.9", 80)),
        ({}, None),
        ({"v4": b"short"}, None),
    ],
)
def test_the_destination_from_the_kernel(options: dict[str, bytes], expected: tuple[str, int] | None) -> None:
    assert redirected_from(FakeSocket(**options)) == expected


def test_a_connection_that_was_not_redirected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            # Without connection tracking the kernel knows nothing; with it, it returns the address itself.
            assert redirected_from(accepted) in (None, server.getsockname())


class Says(FilterChainFactory):
    """Filters that send their listener's name and the original destination."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def create(self) -> list[NetworkFilter]:
        return [Greeting(self._name)]


class Greeting(NetworkFilter):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def on_connection(self, connection: Connection) -> None:
        connection.write(self._name + b" " + connection.original_destination.encode())
        connection.close(CLOSED_LOCALLY)


class Site:
    """A listener on all addresses of loopback, and others without a socket in its directory."""

    def __init__(self, original: OriginalDst | None) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.numbers = ConnectionIds()
        self.directory = ListenerDirectory()
        self.stats: dict[str, DownstreamStats] = {}
        self.socket = socket.create_server(("0.0.0.0", 0))
        self.port = self.socket.getsockname()[1]
        self.main = self.listener("main", "")
        self.main.original_dst = original

    def listener(self, name: str, address: str) -> Listener:
        stats = self.stats[name] = DownstreamStats(Metrics().group("downstream"))
        made = Listener(name, address, Says(name.encode()), stats, self.numbers, self.clock, self.wheel)
        made.directory = self.directory
        if address:
            self.directory.by_address[address.replace("PORT", str(self.port))] = made
        return made

    async def ask(self, ip: str) -> bytes:
        reader, writer = await asyncio.open_connection(ip, self.port)
        said = await reader.read()
        writer.close()
        return said.replace(str(self.port).encode(), b"PORT")


def run(original: OriginalDst | None, test: Callable[[Site], Awaitable[None]]) -> None:
    async def scenario() -> None:
        site = Site(original)
        await site.main.start(site.socket)
        async with asyncio.timeout(10):
            await test(site)
            while any(listener.connection_count for listener in [site.main, *site.directory.by_address.values()]):
                await asyncio.sleep(0)
        site.main.stop_accepting()

    uvloop.run(scenario())


def test_the_listener_with_that_address_takes_it_else_the_one_for_all_else_the_one_that_accepted() -> None:
    async def test(site: Site) -> None:
        assert await site.ask("127.0.0.2") == b"main 127.0.0.2:PORT"
        site.listener("any", "0.0.0.0:PORT")
        site.listener("exact", "127.0.0.2:PORT")
        site.listener("local", "127.0.0.1:PORT")
        assert await site.ask("127.0.0.2") == b"exact 127.0.0.2:PORT"
        assert await site.ask("127.0.0.3") == b"any 127.0.0.3:PORT"
        assert [int(site.stats[name].connection_total.value) for name in ("main", "any", "exact")] == [1, 1, 1]

    run(OriginalDst(is_transparent=True), test)


def test_the_one_on_loopback_where_that_is_asked_for() -> None:
    async def test(site: Site) -> None:
        site.listener("any", "0.0.0.0:PORT")
        site.listener("local", "127.0.0.1:PORT")
        assert await site.ask("127.0.0.3") == b"local 127.0.0.3:PORT"

    run(OriginalDst(is_transparent=True, fallback_to_local=True), test)


def test_a_listener_without_original_destinations_keeps_everything() -> None:
    async def test(site: Site) -> None:
        site.listener("exact", "127.0.0.2:PORT")
        assert await site.ask("127.0.0.2") == b"main "

    run(None, test)


def test_a_draining_listener_notifies_the_connections_that_it_is_handed() -> None:
    drained: list[str] = []

    class Drains(NetworkFilter):
        def on_connection(self, connection: Connection) -> None:
            drained.append("open")
            self.connection = connection

        def on_drain(self) -> None:
            drained.append("drain")
            self.connection.close(CLOSED_LOCALLY)

    class Factory(FilterChainFactory):
        def create(self) -> list[NetworkFilter]:
            return [Drains()]

    async def test(site: Site) -> None:
        exact = site.listener("exact", "127.0.0.2:PORT")
        exact.factory = Factory()
        exact.drain()
        assert await site.ask("127.0.0.2") == b""
        assert drained == ["open", "drain"]

    run(OriginalDst(is_transparent=True), test)


def test_addresses_of_both_families_in_the_directory() -> None:
    directory = ListenerDirectory()
    site = Site(None)
    for address in ("[::]:1", "[::1]:1", "0.0.0.0:1"):
        directory.by_address[address] = site.listener(address, "")
    assert directory.find("2001:db8::1", 1, OriginalDst()) is directory.by_address["[::]:1"]
    assert directory.find("2001:db8::1", 1, OriginalDst(fallback_to_local=True)) is directory.by_address["[::1]:1"]
    assert directory.find("192.0.2.1", 1, OriginalDst()) is directory.by_address["0.0.0.0:1"]
    assert directory.find("192.0.2.1", 2, OriginalDst()) is None
    site.socket.close()
