"""The PROXY protocol towards hosts: every connection begins with the addresses of the one client that it is for."""

from __future__ import annotations

from typing import Any

import pytest
from test_conversation_local import failure
from test_conversation_mirror import mirrored
from tests.kit import GET, OK, Peer, Start
from tests.kit import bolt_frames as bolt

from pymosn.protocol.proxy_protocol.header import local_header, read_header
from pymosn.stream.http1.client import ONE_CLIENT_IDLE
from pymosn.upstream.plan import LimitPlan

V1: dict[str, Any] = {"proxy_protocol": "v1"}
V2: dict[str, Any] = {"proxy_protocol": "v2"}


def client_of(preface: bytes) -> tuple[str, int]:
    """The client that a header names."""
    header = read_header(preface)
    assert header is not None
    assert header.size == len(preface)
    return header.source_ip, header.source_port


def asks(client: Peer, upstream: Peer) -> None:
    """One more request on a connection."""
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("plan", [V1, V2])
def test_each_client_has_connections_of_its_own(start: Start, plan: dict[str, Any]) -> None:
    talk = start(plan=plan)
    first, second = talk.connect("192.0.2.7"), talk.connect("192.0.2.8")
    first.sends(GET)
    dial = talk.hold_dial()
    assert client_of(dial.preface) == ("192.0.2.7", 40000)
    assert dial.preface.startswith(b"PROXY TCP4 " if plan is V1 else b"\r\n")
    upstream = dial.connects()
    upstream.receives(GET)
    upstream.sends(OK)
    first.receives(OK)
    # The connection is idle now, but not for another client.
    second.sends(GET)
    dial = talk.hold_dial()
    assert client_of(dial.preface) == ("192.0.2.8", 40000)
    other = dial.connects()
    other.receives(GET)
    other.sends(OK)
    second.receives(OK)
    for _ in range(2):
        asks(first, upstream)
        asks(second, other)


def test_connections_of_clients_that_are_gone_are_closed_soon(start: Start) -> None:
    talk = start(plan=V1)
    client, upstream = talk.opening(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(ONE_CLIENT_IDLE - 1.0)
    assert upstream.is_open()
    talk.advance(2.0)
    assert upstream.is_closed()


def test_an_idle_connection_of_another_client_is_replaced_at_the_limit(start: Start) -> None:
    talk = start(plan={**V1, "limits": LimitPlan(connections=1)})
    first, upstream = talk.opening(GET, ip="192.0.2.7")
    upstream.receives(GET)
    upstream.sends(OK)
    first.receives(OK)
    second, other = talk.opening(GET, ip="192.0.2.8")
    assert upstream.is_closed()
    other.receives(GET)
    other.sends(OK)
    second.receives(OK)
    assert "request_pending_overflow" not in talk.upstream_counters()
    # A busy one does not give way.
    second.sends(GET)
    other.receives(GET)
    first.sends(GET)
    first.receives(failure(b"503 Service Unavailable", b""))
    assert talk.upstream_counters()["request_pending_overflow"] == 1


def test_a_retry_is_for_the_same_client(start: Start) -> None:
    talk = start(plan=V1, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial("10.0.0.1:80")
    dial = talk.hold_dial("10.0.0.2:80")
    assert client_of(dial.preface) == ("192.0.2.7", 40000)
    upstream = dial.connects()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_a_mirrored_request_is_the_clients(start: Start) -> None:
    talk = start(routes=mirrored(), other_plan=V1)
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.preface == b""
    upstream = dial.connects()
    upstream.receives(GET)
    copy = talk.hold_dial("10.0.1.1:80")
    assert client_of(copy.preface) == ("192.0.2.7", 40000)
    other = copy.connects()
    other.receives(GET)
    other.sends(OK)
    upstream.sends(OK)
    client.receives(OK)


def test_when_it_is_switched_off_and_on(start: Start) -> None:
    """No request is sent on a connection that began with an address, or without one where one is needed."""
    talk = start(plan=V1)
    client, upstream = talk.opening(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    talk.change("service", proxy_protocol="")
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.preface == b""
    plain = dial.connects()
    plain.receives(GET)
    plain.sends(OK)
    client.receives(OK)
    talk.change("service", proxy_protocol="v2")
    client.sends(GET)
    dial = talk.hold_dial()
    assert client_of(dial.preface) == ("192.0.2.7", 40000)
    latest = dial.connects()
    latest.receives(GET)
    latest.sends(OK)
    client.receives(OK)


def test_requests_of_several_clients_never_share_a_connection(start: Start) -> None:
    talk = start(plan=V1, protocols=["bolt"])
    client = talk.connect()
    client.sends(bolt.request(1))
    talk.expect_no_dial()
    assert talk.reasons() == ["protocol_mismatch"]
    client.transport.received = b""


@pytest.mark.parametrize("plan", [V1, V2])
def test_tcp_proxy_sends_the_client(start: Start, plan: dict[str, Any]) -> None:
    talk = start(tcp={}, plan=plan)
    client = talk.connect("192.0.2.9")
    client.sends(b"data")
    dial = talk.hold_dial()
    assert client_of(dial.preface) == ("192.0.2.9", 40000)
    upstream = dial.connects()
    upstream.receives(b"data")


def test_requests_of_the_proxy_itself_name_no_client() -> None:
    for version in ("v1", "v2"):
        header = read_header(local_header(version))
        assert header is not None
        assert header.source_ip == ""
