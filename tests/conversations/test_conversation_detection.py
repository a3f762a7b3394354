"""Which protocol a connection speaks: lists, hesitant peers, the fallback."""

from typing import Any

import pytest
from tests.kit import GET, OK, Start
from tests.kit import bolt_frames as bolt
from tests.kit.options import proxy_options

from pymosn.api.network import STOP, Connection, NetworkFilter, NetworkFilterFactory
from pymosn.core.failure import CLOSED_LOCALLY, Failure
from pymosn.proxy.proxy import ProxyFactory

pytestmark = pytest.mark.also_tls

ALL: dict[str, Any] = {"protocols": ["Http1", "bolt", "boltv2"]}


def test_one_port_serves_several_protocols(start: Start) -> None:
    talk = start(**ALL)
    browser, caller = talk.connect(), talk.connect()
    browser.sends(GET)
    http = talk.expect_dial()
    http.receives(GET)
    caller.sends(bolt.request(1))
    rpc = talk.expect_dial()
    rpc.receives(bolt.request(1))
    modern, rpc_v2 = talk.forwarded(bolt.request(1, v2=True))
    http.sends(OK)
    rpc.sends(bolt.response(1))
    rpc_v2.sends(bolt.response(1, v2=True))
    browser.receives(OK)
    caller.receives(bolt.response(1))
    modern.receives(bolt.response(1, v2=True))
    assert sorted(exchange.protocol for exchange in talk.outcomes.exchanges) == ["Http1", "bolt", "boltv2"]


def test_a_peer_that_sends_one_byte_and_waits(start: Start) -> None:
    talk = start(**ALL)
    client = talk.connect()
    client.sends(b"\x01")
    talk.advance(10.0)
    assert client.is_open()
    client.sends(bolt.request(1)[1:])
    upstream = talk.expect_dial()
    upstream.receives(bolt.request(1))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    hesitant, silent = talk.connect(), talk.connect()
    hesitant.sends(b"G")
    talk.advance(16.0)
    assert hesitant.is_reset()
    assert silent.is_open()
    talk.advance(80.0)
    assert silent.is_closed()
    upstream.takes()


def test_unknown_bytes_are_refused_and_counted(start: Start) -> None:
    talk = start(**ALL)
    for data in (b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\x01\x07", b"\x02\x01\x09"):
        client = talk.connect()
        client.sends(data)
        assert client.is_reset(), data
    assert talk.counters()["reason_protocol_unknown"] == 4


@pytest.mark.parametrize("method", [b"PROPFIND", b"PRINT", b"BREW"])
def test_where_only_http_is_spoken_http1_may_have_any_method(start: Start, method: bytes) -> None:
    talk = start(protocols=("Http2", "Http1"))
    request = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
    client, upstream = talk.forwarded(request)
    upstream.sends(OK)
    client.receives(OK)


def test_what_is_no_request_is_refused_where_only_http_is_spoken(start: Start) -> None:
    talk = start(protocols=("Http1", "Http2"))
    for data in (b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\r\nx y"):
        client = talk.connect()
        client.sends(data)
        assert client.is_reset(), data
    assert talk.counters()["reason_protocol_unknown"] == 3


def test_other_protocols_are_not_taken_for_http1(start: Start) -> None:
    request = b"PROPFIND / HTTP/1.1\r\n"
    client = start(protocols=("Http1", "Http2"), fallback=OtherFactory()).connect()
    client.sends_whole(request)
    client.receives(b"<" + request + b">")
    talk = start(protocols=("Http1", "bolt"))
    client = talk.connect()
    client.sends(request)
    assert client.is_reset()
    assert talk.reasons() == ["protocol_unknown"]


@pytest.mark.plain_only
def test_a_change_of_the_listener_while_a_connection_is_undecided(start: Start) -> None:
    talk = start(**ALL)
    client = talk.connect()
    client.sends(b"\x01")
    factory = talk.listener.factory
    assert isinstance(factory, ProxyFactory)
    old = factory.options
    http = {"Http1": old.protocol_options["Http1"]}
    options = proxy_options(
        protocols=old.protocols[:1],
        protocol_options=http,
        slot=old.slot,
        filters=old.filters,
        stats=old.stats,
        access_logs=old.access_logs,
    )
    factory.activate(options)
    client.sends(bolt.request(1)[1:])
    upstream = talk.expect_dial()
    upstream.receives(bolt.request(1))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))


class Other(NetworkFilter):
    """Takes the place of a filter after the proxy: records what it receives."""

    def __init__(self, heard: list[object]) -> None:
        self._heard = heard
        self._connection = Connection()

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self._heard.append("open")

    def on_data(self, data: bytes) -> bool:
        self._heard.append(data)
        self._connection.write(b"<" + data + b">")
        return STOP

    def on_eof(self) -> None:
        self._heard.append("eof")
        self._connection.close(CLOSED_LOCALLY)

    def on_drain(self) -> None:
        self._heard.append("drain")

    def on_close(self, failure: Failure) -> None:
        self._heard.append(failure.reason)


class OtherFactory(NetworkFilterFactory):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def create(self) -> NetworkFilter:
        return Other(self.heard)


def test_the_fallback_takes_over_with_all_bytes(start: Start) -> None:
    other = OtherFactory()
    talk = start(**ALL, fallback=other)
    client = talk.connect()
    client.sends_whole(b"\x01")
    assert other.heard == []
    client.sends_whole(b"\x07hello")
    assert other.heard == ["open", b"\x01\x07hello"]
    client.receives(b"<\x01\x07hello>")
    client.sends_whole(b"more")
    client.receives(b"<more>")
    talk.advance(100.0)  # whatever time detection set is not the fallback's
    assert client.is_open()
    talk.drain()
    client.shuts()
    assert other.heard[3:] == ["drain", "eof", "closed_locally"]
    assert "reason_protocol_unknown" not in talk.counters()


def test_the_fallback_takes_over_when_nothing_is_decided_in_time(start: Start) -> None:
    other = OtherFactory()
    talk = start(**ALL, fallback=other)
    silent, hesitant, leaver = talk.connect(), talk.connect(), talk.connect()
    hesitant.sends(b"G")
    leaver.sends(b"P")
    leaver.shuts()
    assert other.heard == ["open", b"P", "eof", "closed_locally"]
    leaver.receives(b"<P>")
    talk.advance(15.1)
    assert sorted(map(str, other.heard[4:])) == ["b'G'", "open", "open"]
    hesitant.receives(b"<G>")
    silent.sends_whole(GET)
    silent.receives(b"<" + GET + b">")


@pytest.mark.parametrize(
    ("timeout", "silent", "wait"), [(2.0, 1.0, 2.0), (2.0, 14.0, 1.0), (0.0, 14.0, 1.0), (40.0, 14.0, 1.0)]
)
def test_the_fallback_waits_no_longer_than_detection_may_take(
    start: Start, timeout: float, silent: float, wait: float
) -> None:
    other = OtherFactory()
    talk = start(**ALL, fallback=other, detection_timeout=timeout)
    client = talk.connect()
    talk.advance(silent)
    client.sends_whole(b"G")
    talk.advance(wait - 0.1)
    assert other.heard == []
    talk.advance(0.2)
    client.receives(b"<G>")


def test_known_bytes_never_reach_the_fallback(start: Start) -> None:
    other = OtherFactory()
    talk = start(**ALL, fallback=other)
    client = talk.connect()
    client.sends(bolt.heartbeat(1))
    client.receives(bolt.heartbeat_ack(1))
    assert other.heard == []
