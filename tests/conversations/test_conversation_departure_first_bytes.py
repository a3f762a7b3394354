"""Connections that move while their first bytes are read, or after these have decided about them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from tests.kit import GET, OK, Start, Talk
from tests.kit.moving import Leaving, arrive, connection_of

from pymosn.api.network import Passage
from pymosn.network.chain_match import ChainConditions
from pymosn.network.filter_chains import Chain, FilterChains
from pymosn.network.proxy_protocol import ProxyProtocol
from pymosn.network.reject_all import RejectAllFactory
from pymosn.network.tls.gate import HandshakeGate

HEADER = b"PROXY TCP4 203.0.113.9 198.51.100.1 1234 443\r\n"


def two(start: Start, *, reads_hello: bool = False, **options: Any) -> tuple[Leaving, Talk]:
    """A worker that leaves, and one of the next generation. Their clients come through a proxy, and get the second chain."""
    talks = [start(**options) for _ in range(2)]
    for talk in talks:
        inner, no_one = talk.listener.factory, RejectAllFactory(talk.stats)
        facts: dict[str, Any] = {"speaks_http": True, "speaks_first": False}
        chains = [
            Chain("a", ChainConditions(networks=(ip_network("10.0.0.0/8"),)), no_one, None, reads_hello=False, **facts),
            Chain("b", ChainConditions(), inner, None, reads_hello=reads_hello, **facts),
        ]
        talk.listener.factory = FilterChains(
            chains,
            talk.stats,
            before=[ProxyProtocol([ip_network("192.0.2.0/24")], is_required=True, timeout=5.0)],
            gate=HandshakeGate(),
            inspector=False,
            handshake_timeout=10.0,
            idle_timeout=90.0,
        )
    return Leaving(talks[0]), talks[1]


def serve(talk: Talk, client: Any) -> None:
    """The request that the client has sent is answered, and logged with the addresses of the header."""
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok"]
    connection = connection_of(client)
    assert (connection.remote_ip, connection.remote_port) == ("203.0.113.9", 1234)
    assert (connection.local_ip, connection.local_port, connection.proxy_ip) == ("198.51.100.1", 443, "192.0.2.7")


@pytest.mark.whole_only
@pytest.mark.parametrize("reads_hello", [False, True])
@pytest.mark.parametrize("protocols", [["Http1"], ["bolt", "Http1"]])
def test_at_many_bytes(start: Start, protocols: list[str], reads_hello: bool) -> None:
    sent = HEADER + GET
    for size in range(0, len(sent), 4):
        leaving, other = two(start, protocols=protocols, reads_hello=reads_hello)
        client = leaving.talk.connect()
        client.sends(sent[:size])
        moved = leaving.move(client, other)
        moved.sends(sent[size:])
        serve(other, moved)
        assert leaving.talk.reasons() == []


def test_the_header_is_not_expected_again(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    client.sends(HEADER + GET)
    serve(leaving.talk, client)
    passage = leaving.passage(client)
    assert passage is not None
    assert (passage.protocol, passage.chain) == ("Http1", 1)
    moved = leaving.move(client, other)
    moved.sends(GET)
    serve(other, moved)


def test_a_chain_that_does_not_exist_any_more(start: Start) -> None:
    _, other = two(start)
    passage = Passage("Http1")
    passage.chain = 2
    assert arrive(other, passage).is_closed()


def test_a_chain_that_a_change_has_removed_keeps_its_connections(start: Start) -> None:
    leaving, _ = two(start)
    client = leaving.talk.connect()
    client.sends(HEADER + GET)
    serve(leaving.talk, client)
    connection_of(client).chain = two(start)[1].listener.factory
    assert leaving.passage(client) is None


def test_one_that_is_silent_moves_without_a_trace(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    moved = leaving.move(client, other)
    assert leaving.talk.outcomes.exchanges == []
    assert leaving.talk.counters() == {"connection_total": 1}
    assert other.counters() == {"connection_active": 1}
    moved.sends(HEADER + GET)
    serve(other, moved)
