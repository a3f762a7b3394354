"""The choice among filter chains, against the rules of Envoy's FilterChainMatch, and a plain restatement of them."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from pymosn.network.chain_match import PLAIN_TEXT, TLS, ChainConditions, ChainTable, Ends, same_key


def chain(
    *names: str, alpn: tuple[str, ...] = (), transport: str = "", port: int = 0, source: tuple[str, ...] = ()
) -> ChainConditions:
    return ChainConditions(names, alpn, transport, port, tuple(ip_network(text) for text in source))


def find(
    chains: list[ChainConditions],
    *,
    port: int = 443,
    name: str = "",
    tls: bool = True,
    alpn: tuple[str, ...] = (),
    ip: str = "9.9.9.9",
) -> int:
    return ChainTable(chains).find(port, name, TLS if tls else PLAIN_TEXT, alpn, ip)


NAMES = [chain(), chain("*.com"), chain("*.example.com"), chain("www.example.com", "example.com")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("www.example.com", 3),
        ("example.com", 3),
        ("a.example.com", 2),
        ("a.b.example.com", 2),
        ("x.www.example.com", 2),
        ("other.com", 1),
        ("com", 0),
        ("", 0),
        ("example.org", 0),
        (".com", 1),
        ("..", 0),
    ],
)
def test_names(name: str, expected: int) -> None:
    assert find(NAMES, name=name) == expected


def test_no_chain() -> None:
    assert find([]) == -1
    assert find([chain("a.test")]) == -1
    assert find([chain(port=1)]) == -1
    assert find([chain(alpn=("h2",))]) == -1
    assert find([chain(transport=PLAIN_TEXT)]) == -1
    assert find([chain(source=("10.0.0.0/8",))]) == -1


def test_the_order_of_the_steps() -> None:
    """Each pair: the first chain matches in an earlier step than the second, and so wins."""
    ordered = [
        chain(port=443),
        chain("a.test"),
        chain(transport=TLS),
        chain(alpn=("h2",)),
        chain(source=("9.0.0.0/8",)),
    ]
    for i, earlier in enumerate(ordered):
        for later in ordered[i + 1 :]:
            assert find([later, earlier], name="a.test", alpn=("h2",)) == 1
            assert find([earlier, later], name="a.test", alpn=("h2",)) == 0


def test_no_way_back() -> None:
    """Once a step has chosen, a chain that it has left behind is not considered, even if nothing else matches."""
    assert find([chain(), chain("a.test", source=("10.0.0.0/8",))], name="a.test") == -1
    assert find([chain("a.test"), chain(port=443)], name="a.test") == 1
    assert find([chain("a.test"), chain("b.test", port=443)], name="a.test") == -1
    assert find([chain(), chain(transport=TLS, alpn=("h2",))]) == -1
    assert find([chain(), chain(transport=TLS, alpn=("h2",))], tls=False) == 0


def test_protocols_in_the_order_of_the_client() -> None:
    chains = [chain(alpn=("http/1.1",)), chain(alpn=("h2",)), chain()]
    assert find(chains, alpn=("h2", "http/1.1")) == 1
    assert find(chains, alpn=("http/1.1", "h2")) == 0
    assert find(chains, alpn=("x",)) == 2
    assert find(chains, alpn=("", "h2")) == 1


def test_sources() -> None:
    chains = [chain(source=("10.0.0.0/8", "::1/128")), chain(source=("10.1.0.0/16",)), chain()]
    for ip, expected in (("10.1.2.3", 1), ("10.2.2.3", 0), ("::1", 0), ("::2", 2), ("8.8.8.8", 2), ("", 2)):
        assert find(chains, ip=ip) == expected, ip


def restated(chains: list[ChainConditions], port: int, name: str, transport: str, alpn: tuple[str, ...], ip: str) -> int:
    """The same by pruning a list step by step."""
    left = list(range(len(chains)))
    left = [i for i in left if chains[i].port == port] or [i for i in left if chains[i].port == 0]
    suffixes = [name] + ["*." + name.split(".", n)[n] for n in range(1, name.count(".") + 1)] if name else []
    for wanted in suffixes:
        if hits := [i for i in left if wanted in chains[i].server_names]:
            left = hits
            break
    else:
        left = [i for i in left if not chains[i].server_names]
    left = [i for i in left if chains[i].transport == transport] or [i for i in left if not chains[i].transport]
    for protocol in alpn:
        if hits := [i for i in left if protocol in chains[i].protocols]:
            left = hits
            break
    else:
        left = [i for i in left if not chains[i].protocols]
    matching = [(network.prefixlen, i) for i in left for network in chains[i].networks if ip and ip_address(ip) in network]
    if matching:
        return max(matching)[1]
    return next((i for i in left if not chains[i].networks), -1)


def test_random_tables() -> None:
    chosen = random.Random(14)
    found = set()
    for _ in range(3000):
        chains: list[ChainConditions] = []
        for _ in range(chosen.randint(1, 6)):
            made = chain(
                *chosen.sample(("a.test", "*.test", "b.a.test", "*.a.test"), chosen.choice((0, 0, 1, 2))),
                alpn=tuple(chosen.sample(("h2", "x"), chosen.choice((0, 0, 1)))),
                transport=chosen.choice(("", "", TLS, PLAIN_TEXT)),
                port=chosen.choice((0, 0, 443)),
                source=tuple(chosen.sample(("10.0.0.0/8", "10.1.0.0/16", "::/0"), chosen.choice((0, 0, 1, 2)))),
            )
            if same_key([*chains, made]) is None:
                chains.append(made)
        port, name = chosen.choice((443, 80)), chosen.choice(("", "a.test", "b.a.test", "c.b.a.test", "x.org"))
        transport, alpn = chosen.choice((TLS, PLAIN_TEXT)), tuple(chosen.sample(("h2", "x", "y"), chosen.randint(0, 3)))
        ip = chosen.choice(("10.1.1.1", "10.2.2.2", "1.1.1.1", "::5", ""))
        index = ChainTable(chains).find(port, name, transport, alpn, ip)
        assert index == restated(chains, port, name, transport, alpn, ip), (chains, port, name, transport, alpn, ip)
        found.add(index)
    assert found == {-1, 0, 1, 2, 3, 4, 5}


def test_chains_that_match_the_same() -> None:
    assert same_key([chain(), chain("a.test"), chain(port=1)]) is None
    found = same_key([chain("x.test", "a.test"), chain(), chain("a.test")])
    assert found is not None
    assert found[:2] == (0, 2)
    assert found[2].name == "a.test"
    assert same_key([chain(), chain()]) is not None


def nets(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in texts)


def test_the_default_chain_gets_what_no_other_matches() -> None:
    chains = [ChainConditions(is_default=True), chain("a.test", port=443)]
    table = ChainTable(chains)
    assert table.find(443, "a.test", TLS, (), "1.1.1.1") == 1
    assert table.find(443, "b.test", TLS, (), "1.1.1.1") == 0
    assert table.find(80, "", PLAIN_TEXT, (), "1.1.1.1") == 0
    assert same_key([*chains, ChainConditions()]) is None


def test_the_destination_decides_before_the_server_name() -> None:
    chains = [
        ChainConditions(destinations=nets("10.0.0.0/8")),
        ChainConditions(server_names=("a.test",), destinations=nets("10.1.0.0/16")),
        ChainConditions(server_names=("a.test",)),
    ]
    table = ChainTable(chains)

    def find_at(destination: str, name: str) -> int:
        return int(table.find_for(Ends(443, "1.1.1.1", destination), name, TLS, ()))

    assert [find_at("10.2.0.1", "a.test"), find_at("10.1.0.1", "a.test"), find_at("1.2.3.4", "a.test")] == [0, 1, 2]
    assert find_at("10.1.0.1", "b.test") == -1  # no way back to the wider network
    assert find_at("", "a.test") == 2
    assert table.has_name(443, "a.test", "10.1.0.1")
    assert not table.has_name(443, "a.test", "10.2.0.1")


def test_the_source() -> None:
    chains = [
        ChainConditions(source_type="local"),
        ChainConditions(source_type="external", networks=nets("10.0.0.0/8"), source_ports=(7, 8)),
        ChainConditions(source_type="external", networks=nets("10.0.0.0/8")),
        ChainConditions(direct=nets("192.168.0.0/16")),
    ]
    table = ChainTable(chains)

    def find_from(ip: str, port: int = 1, destination: str = "10.0.0.9", direct: str = "") -> int:
        return int(table.find_for(Ends(80, ip, destination, direct, port), "", PLAIN_TEXT, ()))

    assert [find_from("127.0.0.1"), find_from("::1"), find_from("10.0.0.9"), find_from("")] == [0, 0, 0, 0]
    assert [find_from("10.0.0.1", 7), find_from("10.0.0.1", 9)] == [1, 2]
    assert find_from("11.0.0.1") == -1
    assert find_from("10.0.0.1", 7, direct="192.168.0.1") == 3
