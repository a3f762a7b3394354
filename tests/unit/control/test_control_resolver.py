"""Looking names up at a real DNS server on loopback, on the event loop of the supervisor."""

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop
from dns_server import DnsServer

from pymosn.config.schema import Cluster
from pymosn.control.resolver import Answer, LookupOptions, Servers, look_up, lookup_options


def ask(server: DnsServer, name: str, family: socket.AddressFamily = socket.AF_INET, **servers: object) -> Answer:
    """The answer of `server` for a name; `servers` are keys of `Servers`."""

    async def scenario() -> Answer:
        async with server:
            wish = LookupOptions(family, 5.0, servers=Servers(("127.0.0.1",), port=server.port)._replace(**servers))
            return await look_up(name, wish)

    return run(scenario)


def run(scenario: Callable[[], Awaitable[Answer]]) -> Answer:
    async def awaited() -> Answer:
        return await scenario()

    return uvloop.run(awaited())


def test_addresses_and_time_to_live() -> None:
    server = DnsServer(**{"a.test": ["30 A 10.0.0.2", "30 A 10.0.0.1", "7 AAAA fd00::1"]})
    assert ask(server, "a.test") == Answer(["10.0.0.1", "10.0.0.2"], 30)
    assert ask(server, "a.test", socket.AF_INET6) == Answer(["fd00::1"], 7)


def test_the_shortest_time_on_the_way_counts() -> None:
    server = DnsServer(**{"www.test": ["5 CNAME a.test."], "a.test": ["300 A 10.0.0.1"]})
    assert ask(server, "www.test") == Answer(["10.0.0.1"], 5)


def test_search_domains_and_ndots() -> None:
    server = DnsServer(**{"a.two.test": ["9 A 10.0.0.1"], "a.b": ["9 A 10.0.0.2"]})
    assert ask(server, "a", search=("one.test", "two.test")).addresses == ["10.0.0.1"]
    assert server.asked == ["a.one.test", "a.two.test"]
    server.asked.clear()
    assert ask(server, "a.b", search=("one.test",)).addresses == ["10.0.0.2"]
    assert server.asked == ["a.b"], "it has as many dots as an absolute name needs"
    server.asked.clear()
    assert ask(server, "a.b", search=("one.test",), ndots=2).addresses == ["10.0.0.2"]
    assert server.asked == ["a.b.one.test", "a.b"]


@pytest.mark.parametrize("name", ["nowhere.test", "empty.test", "." * 300])
def test_no_answer_is_an_error(name: str) -> None:
    with pytest.raises(OSError, match=r"."):
        ask(DnsServer(**{"empty.test": []}), name)


def test_a_hundred_addresses_come_whole() -> None:
    lines = [f"60 A 10.0.{number // 50}.{number % 50}" for number in range(100)]
    server = DnsServer(**{"many.test": lines})
    assert len(ask(server, "many.test").addresses) == 100
    assert server.asked == ["many.test", "many.test"], "once more over TCP"


def test_a_silent_server_is_given_up_for_the_next_one() -> None:
    server = DnsServer(**{"a.test": ["30 A 10.0.0.1"]})

    async def scenario() -> Answer:
        # Nobody reads what is sent to this socket.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            async with server:
                silent.bind(("127.0.0.2", server.port))
                servers = Servers(("127.0.0.2", "127.0.0.1"), port=server.port, timeout=1)
                return await look_up("a.test", LookupOptions(socket.AF_INET, 5.0, servers=servers))

    assert run(scenario).addresses == ["10.0.0.1"]


def test_the_number_of_attempts_is_bounded() -> None:
    server = DnsServer(**{"a.test": ["30 A 10.0.0.1"]})
    server.is_silent = True
    with pytest.raises(OSError, match=r"timed out|lifetime"):
        ask(server, "a.test", timeout=1, attempts=1)
    assert 1 <= len(server.asked) <= 2


def test_the_servers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\nsearch in.test\noptions timeout:1\n")
    server = DnsServer(**{"a.in.test": ["30 A 10.0.0.1"]})
    assert ask(server, "a", addresses=(), file=str(path)) == Answer(["10.0.0.1"], 30)
    with pytest.raises(OSError, match=r"."):
        ask(server, "a", addresses=(), file=str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file but a FIFO"):
        ask(server, "a", addresses=(), file=str(tmp_path / "fifo"))


def test_the_system_resolver_returns_no_time_to_live() -> None:
    async def scenario() -> Answer:
        return await look_up("localhost", LookupOptions(socket.AF_INET, 5.0))

    assert run(scenario) == Answer(["127.0.0.1"], None)


@pytest.mark.parametrize(
    ("keys", "servers"),
    [
        ({}, None),
        ({"dns_resolver_port": "53"}, None),
        ({"respect_dns_ttl": True}, Servers()),
        ({"dns_resolver_port": "5353"}, Servers(port=5353)),
        ({"dns_resolver_file": "/r"}, Servers(file="/r")),
        ({"dns_resolvers": {}, "dns_resolver_file": "/r"}, Servers(file="/r")),
        (
            {"dns_resolvers": {"servers": ["::1"], "search": ["a"], "port": "9", "ndots": 2, "timeout": 3, "attempts": 4}},
            Servers(("::1",), ("a",), 9, 2, 3, 4),
        ),
    ],
)
def test_the_query_of_a_cluster(keys: dict[str, object], servers: Servers | None) -> None:
    wish = lookup_options(msgspec.convert({"name": "c", "dns_lookup_family": "V6_ONLY", **keys}, Cluster))
    assert wish == LookupOptions(socket.AF_INET6, 5.0, bool(keys.get("respect_dns_ttl")), servers)
