"""`fault_tolerance` of a listener: which requests count, over HTTP and RPC, and what an ejection does."""

from __future__ import annotations

import pytest
from tests.kit import GET, OK, Start, Talk
from tests.kit.rpc_wires import WIRES, carried

from pymosn.core.failure import CONNECT_REFUSED
from pymosn.filters.stream.fault_tolerance import FaultToleranceFilter, Settings

HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
NOT_BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def rule(**settings: int) -> dict[str, FaultToleranceFilter]:
    values = {"leastWindowCount": 2, "timeWindow": 1000, "recoverTime": 5000, **settings}
    return {"fault": FaultToleranceFilter(Settings(enabled=True, exceptionRateMultiple=1.5, **values))}


def health(talk: Talk) -> list[list[str]]:
    return [host.health_words() for host in talk.clusters.by_name["service"].hosts]


def test_a_host_with_exceptions_gets_no_requests_for_a_while(start: Start) -> None:
    talk = start(hosts=HOSTS, filters=rule())
    client = talk.connect()
    client.sends(GET)
    first = talk.expect_dial(HOSTS[0])
    client.receives_nothing()
    first.takes()
    first.sends(BAD)
    client.takes()
    client.sends(GET)
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    second.sends(OK)
    client.takes()
    client.sends(GET)
    first.takes()
    first.sends(BAD)
    client.takes()
    client.sends(GET)
    second.takes()
    second.sends(OK)
    client.takes()
    assert health(talk) == [[], []]
    talk.advance(1.1)
    assert health(talk) == [["fault_tolerance"], []]
    for _ in range(3):
        client.sends(GET)
        first.receives_nothing()
        second.takes()
        second.sends(OK)
        client.takes()
    talk.advance(5.0)
    assert health(talk) == [[], []]


def test_a_status_that_is_no_exception_does_not_eject(start: Start) -> None:
    talk = start(hosts=HOSTS, filters=rule())
    client = talk.connect()
    peers = {}
    for number in range(4):
        client.sends(GET)
        address = HOSTS[number % 2]
        peer = peers[address] if address in peers else peers.setdefault(address, talk.expect_dial(address))
        peer.takes()
        peer.sends(NOT_BAD if number % 2 == 0 else OK)
        client.takes()
    talk.advance(1.1)
    assert health(talk) == [[], []]


def test_hosts_that_cannot_be_reached_have_exceptions_though_another_one_answers(start: Start) -> None:
    talk = start(hosts=HOSTS, filters=rule(leastWindowCount=1))
    client = talk.connect()
    client.sends(GET)
    talk.hold_dial(HOSTS[0]).fails(CONNECT_REFUSED)
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    second.sends(OK)
    client.takes()
    talk.advance(1.1)
    assert health(talk) == [["fault_tolerance"], []]
    talk.advance(6.0)
    assert health(talk) == [[], []]


def test_a_client_that_leaves_says_nothing(start: Start) -> None:
    talk = start(hosts=HOSTS, filters=rule(leastWindowCount=1))
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial(HOSTS[0]).takes()
    client.resets()
    other = talk.connect()
    other.sends(GET)
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    second.sends(OK)
    other.takes()
    talk.advance(1.1)
    assert health(talk) == [[], []]


@pytest.mark.parametrize("name", WIRES)
def test_calls_that_a_provider_loses(start: Start, name: str) -> None:
    wire = WIRES[name]
    talk = start(protocols=[name], hosts=HOSTS, filters=rule(leastWindowCount=1))
    client = talk.connect()
    client.sends(wire.request(1, carried("a")))
    first = talk.expect_dial(HOSTS[0])
    first.takes()
    first.resets()
    client.sends(wire.request(2, carried("b")))
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    second.sends(wire.reply(1, carried("b")))
    client.takes()
    talk.advance(1.1)
    assert health(talk) == [["fault_tolerance"], []]
    talk.advance(6.0)
    assert health(talk) == [[], []]


def test_without_enabled_there_is_no_rule(start: Start) -> None:
    off = {"fault": FaultToleranceFilter(Settings(leastWindowCount=1, exceptionRateMultiple=1.5))}
    talk = start(hosts=HOSTS, filters=off)
    client = talk.connect()
    client.sends(GET)
    talk.hold_dial(HOSTS[0]).fails(CONNECT_REFUSED)
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    second.sends(OK)
    client.takes()
    talk.advance(20.0)
    assert health(talk) == [[], []]
