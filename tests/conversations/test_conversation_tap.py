"""Taps: what is copied of exchanges, in every protocol, and that nothing else differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from tests.kit import GET, Start, Talk, bolt_frames, dubbo_frames
from tests.kit.h2_peers import h2_client, h2_upstream, request

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.proxy.taps import HELD_BYTES, Tap, TapRule, Taps

OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 5\r\nSet-Cookie: sid=abc\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"
MESSAGE = b"\0\0\0\0\2hi"
POST = (
    b"POST /orders?id=7&token=abc123 HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer abc\r\n"
    b"X-Tenant: a\r\nContent-Length: 10\r\n\r\n0123456789"
)


class Watch:
    """A talk with one tap, and its records."""

    def __init__(self, talk: Talk, **rule: Any) -> None:
        self.talk = talk
        self.records: list[dict[str, Any]] = []
        self.taps = talk.runtime.taps or Taps()
        self.tap = Tap(1, TapRule(**rule), talk.clock, self._take)
        self.taps.taps = [*self.taps.taps, self.tap]
        talk.runtime.taps = self.taps

    def _take(self, record: Mapping[str, object]) -> None:
        self.records.append(dict(record))

    def only(self) -> dict[str, Any]:
        """The only record; nothing is held any longer."""
        [record] = self.records
        assert (self.taps.held, self.taps.exchanges) == (0, 0)
        return record


@pytest.mark.also_h2
def test_an_exchange_as_the_client_had_it(start: Start) -> None:
    talk = start()
    watch = Watch(talk, bodies=100)
    client, upstream = talk.opening(POST)
    upstream.takes()
    upstream.sends(OK)
    assert client.takes().endswith(b"hello")
    record = watch.only()
    request, response = record["request"], record["response"]
    assert (request["method"], request["host"]) == ("POST", "shop.example")
    assert request["target"] == "/orders?id=7&token=***REDACTED***"
    fields = dict(request["headers"])
    assert (fields["authorization"], fields["x-tenant"]) == ("***REDACTED***", "a")
    assert request["body"] == {"size": 10, "data": b"0123456789", "complete": True}
    assert response["status"] == 200
    assert ["set-cookie", "***REDACTED***"] in response["headers"]
    assert response["body"] == {"size": 5, "data": b"hello", "complete": True}
    assert record["story"]["upstream"] == "10.0.0.1:80"
    assert "abc" not in str({**record, "request": {**request, "body": ""}})


def test_bodies_are_copied_only_if_asked_and_up_to_a_limit(start: Start) -> None:
    talk = start()
    watch, long = Watch(talk), Watch(talk, bodies=4)
    client, upstream = talk.opening(POST)
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    assert "body" not in watch.only()["request"]
    assert watch.only()["request"]["bytes"] == 10
    assert long.only()["request"]["body"] == {"size": 10, "data": b"0123", "complete": False}
    assert long.only()["response"]["body"] == {"size": 5, "data": b"hell", "complete": False}


CONDITIONS: list[tuple[dict[str, Any], bool]] = [
    ({"listener": "l"}, True),
    ({"listener": "other"}, False),
    ({"protocol": "Http1"}, True),
    ({"protocol": "bolt"}, False),
    ({"method": "POST"}, True),
    ({"method": "GET"}, False),
    ({"path": "/ord"}, True),
    ({"path": "/items"}, False),
    ({"host": "shop.example"}, True),
    ({"host": "example"}, False),
    ({"client": "192.0.2.7"}, True),
    ({"client": "192.0.0.0/16"}, True),
    ({"client": "10.0.0.0/8"}, False),
    ({"headers": [("x-tenant", "a")]}, True),
    ({"headers": [("x-tenant", "")]}, True),
    ({"headers": [("x-tenant", "b")]}, False),
    ({"headers": [("x-other", "")]}, False),
    ({"statuses": ["5xx"]}, True),
    ({"statuses": ["404", "503"]}, True),
    ({"statuses": ["failed"]}, True),
    ({"statuses": ["4xx"]}, False),
    ({"reason": "connect_refused"}, False),
    ({"slower": 0.2}, True),
    ({"slower": 5.0}, False),
    ({"route": "all"}, True),
    ({"route": "none"}, False),
    ({"cluster": "service"}, True),
    ({"cluster": "other"}, False),
    ({"method": "POST", "statuses": ["2xx"]}, False),
]


@pytest.mark.whole_only
def test_conditions(start: Start) -> None:
    talk = start()
    watches = [(Watch(talk, **rule), rule, expected) for rule, expected in CONDITIONS]
    client, upstream = talk.opening(POST)
    upstream.takes()
    talk.advance(0.3)
    upstream.sends(BUSY)
    client.takes()
    for watch, rule, expected in watches:
        assert bool(watch.records) is expected, rule


@pytest.mark.whole_only
def test_a_failed_dial_by_its_reason(start: Start) -> None:
    talk = start()
    watch = Watch(talk, reason="connect_refused", statuses=["failed"])
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    client.takes()
    record = watch.only()
    assert (record["story"]["reason"], record["response"]["status"]) == ("connect_refused", 502)


def test_a_response_that_is_broken_off(start: Start) -> None:
    talk = start()
    watch = Watch(talk, bodies=100)
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\nhello")
    upstream.resets()
    client.takes()
    record = watch.only()
    assert record["response"]["reset"] == record["story"]["reason"] != ""
    assert record["response"]["body"] == {"size": 5, "data": b"hello", "complete": False}


def test_back_pressure_passes_through(start: Start) -> None:
    talk = start()
    watch = Watch(talk, bodies=10)
    half = 600_000
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % (2 * half) + b"x" * half)
    assert not upstream.is_read()
    upstream.sends_whole(b"x" * half)
    client.reads_on()
    assert client.takes().endswith(b"x" * 2 * half)
    body = watch.only()["response"]["body"]
    assert (body["size"], body["data"], body["complete"]) == (2 * half, b"x" * 10, False)


def test_a_tunnel_is_not_copied(start: Start) -> None:
    talk = start()
    watch = Watch(talk, bodies=1000)
    client, upstream = talk.opening(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsecret")
    client.sends(b"more secrets")
    upstream.receives(b"more secrets")
    client.takes()
    client.resets()
    record = watch.only()
    assert record["tunnel"] is True
    assert b"secret" not in record["response"]["body"]["data"] + record["request"]["body"]["data"]


class Changed(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["x-tenant"] = "changed"
        exchange.request.path = "/changed"

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers["x-added"] = "yes"


def test_the_request_is_the_clients_and_the_response_what_it_got(start: Start) -> None:
    talk = start(filters={"changed": Changed(None)})
    watch = Watch(talk)
    client, upstream = talk.opening(POST)
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    record = watch.only()
    assert ["x-tenant", "a"] in record["request"]["headers"]
    assert record["request"]["target"].startswith("/orders")
    assert ["x-added", "yes"] in record["response"]["headers"]


BOLT = {"service": "com.shop.Orders", "sofa_head_method_name": "list", "access_token": "abc123"}


def test_frames_of_bolt_without_their_secrets(start: Start) -> None:
    talk = start(protocols=["bolt"], upstream_protocol="bolt")
    watch = Watch(talk, bodies=100, path="com.shop", method="list")
    client = talk.connect()
    sent = bolt_frames.request(77, b"ping", headers=dict(BOLT))
    client.sends(sent)
    upstream = talk.expect_dial()
    upstream.receives(bolt_frames.request(1, b"ping", headers=dict(BOLT)))
    upstream.sends(bolt_frames.response(1, b"pong"))
    client.receives(bolt_frames.response(77, b"pong"))
    record = watch.only()
    assert record["rpc"] is True
    redacted = {**BOLT, "access_token": "***REDACTED***"}
    assert record["request"]["frame"] == bolt_frames.request(77, b"ping", headers=dict(redacted))
    assert dict(record["request"]["headers"]) == redacted
    assert record["response"]["frame"] == bolt_frames.response(77, b"pong")
    assert record["response"]["frame_status"] == 200


@pytest.mark.whole_only
def test_frames_are_not_shown_unless_bodies_are(start: Start) -> None:
    talk = start(protocols=["bolt"], upstream_protocol="bolt")
    watch = Watch(talk)
    client = talk.connect()
    client.sends(bolt_frames.request(7, b"ping", headers=dict(BOLT)))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(bolt_frames.response(1, b"pong"))
    client.takes()
    record = watch.only()
    assert "frame" not in record["request"]
    assert record["request"]["service"] == "com.shop.Orders"
    assert b"abc123" not in repr(record).encode()


@pytest.mark.whole_only
def test_a_frame_above_the_limit_is_not_copied(start: Start) -> None:
    talk = start(protocols=["bolt"], upstream_protocol="bolt")
    watch = Watch(talk, bodies=10)
    client = talk.connect()
    client.sends(bolt_frames.request(7, b"x" * 100_000))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(bolt_frames.response(1, b"pong"))
    client.takes()
    record = watch.only()
    assert "frame" not in record["request"]
    assert "frame" in record["response"]


def test_a_frame_of_dubbo_without_its_secrets(start: Start) -> None:
    talk = start(protocols=["dubbo"], upstream_protocol="dubbo")
    watch = Watch(talk, bodies=1000, path="com.shop")
    client = talk.connect()
    attachments = {"tag": "a", "access_token": "abc123"}
    client.sends(dubbo_frames.call(9, "com.shop.Orders", "list", attachments=attachments))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(dubbo_frames.result(1, "x"))
    client.receives(dubbo_frames.result(9, "x"))
    record = watch.only()
    assert (record["request"]["service"], record["request"]["method"]) == ("com.shop.Orders", "list")
    assert b"abc123" not in record["request"]["frame"]
    assert b"***REDACTED***" in record["request"]["frame"]
    assert record["response"]["frame"] == dubbo_frames.result(9, "x")


def test_a_call_of_grpc_with_its_trailers(start: Start) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http2")
    watch, failed = Watch(talk, bodies=1000), Watch(talk, statuses=["failed"])
    client = h2_client(talk)
    kind = (b"content-type", b"application/grpc")
    stream = client.requests(request(b"POST", b"/pkg.Echo/Say", b"a", (b"te", b"trailers"), kind), MESSAGE)
    upstream = h2_upstream(talk.expect_dial())
    sent = upstream.takes_stream()
    upstream.responds(sent, 200, (kind,), MESSAGE, end=False)
    upstream.sends_trailers(sent, [(b"grpc-status", b"14"), (b"grpc-message", b"no")])
    assert client.result(stream) == (200, MESSAGE)
    record = watch.only()
    assert record["request"]["target"] == "/pkg.Echo/Say"
    assert record["request"]["accepts_trailers"] is True
    assert record["request"]["body"]["data"] == record["response"]["body"]["data"] == MESSAGE
    assert record["response"]["trailers"] == [["grpc-status", "14"], ["grpc-message", "no"]]
    assert failed.only()["story"]["call_status"] == 14


class Busy(StreamFilter):
    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(503, "busy")


@pytest.mark.whole_only
def test_rates_and_memory_are_bounded(start: Start) -> None:
    talk = start(filters={"busy": Busy(None)})
    watch = Watch(talk, rate=3.0)
    client = talk.connect()
    client.sends(GET * 5)
    client.takes()
    assert (len(watch.records), watch.tap.dropped, watch.tap.matched) == (3, 2, 5)
    talk.clock.now += 1.0
    client.sends(GET)
    assert len(watch.records) == 4
    watch.taps.held = HELD_BYTES
    client.sends(GET)
    client.takes()
    assert (len(watch.records), watch.tap.dropped) == (4, 3)
    watch.taps.held = 0


@pytest.mark.whole_only
def test_a_large_head_counts_as_what_it_is(start: Start) -> None:
    talk = start()
    watch = Watch(talk)
    client, upstream = talk.opening(POST.replace(b"X-Tenant: a", b"X-Tenant: " + b"a" * 6000))
    assert watch.taps.held > 8000
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    watch.only()


def test_a_secret_in_a_value_that_is_not_utf_8(start: Start) -> None:
    talk = start()
    watch = Watch(talk)
    odd = b"X-Tenant: \xff Bearer abc123DEF\r\nX-Api-Key: \xffabc\r\nX-Odd: \xffabc"
    client, upstream = talk.opening(POST.replace(b"X-Tenant: a", odd))
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    fields = [field for field in watch.only()["request"]["headers"] if field[0].startswith("x-")]
    assert fields == [
        ["x-tenant", "\xff Bearer ***REDACTED***"],
        ["x-api-key", "***REDACTED***"],
        ["x-odd", "", "/2FiYw=="],
    ]


def test_a_refused_request_is_noted_as_such(start: Start) -> None:
    talk = start()
    watch = Watch(talk)
    client = talk.connect()
    client.sends(POST.replace(b"shop.example", b"a@b"))
    client.takes()
    record = watch.only()
    assert record["response"]["status"] == 400
    assert record["note"] == "the request was refused, and not read as a whole"


def test_names_of_rpc_of_any_bytes(start: Start) -> None:
    talk = start(protocols=["bolt"], upstream_protocol="bolt")
    watch = Watch(talk)
    client = talk.connect()
    client.sends(bolt_frames.request(7, headers=dict(BOLT)).replace(b"com.shop", b"com\xffshop"))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(bolt_frames.response(1, b"pong"))
    client.takes()
    record = watch.only()
    assert record["request"]["service"] == r"com\udcffshop.Orders"
    msgspec.json.encode(record)


@pytest.mark.whole_only
def test_a_tap_that_ends_takes_nothing_more(start: Start) -> None:
    talk = start()
    watch = Watch(talk)
    client, upstream = talk.opening(POST)
    upstream.takes()
    watch.tap.is_open = False
    watch.taps.taps = []
    upstream.sends(OK)
    client.takes()
    assert watch.records == []
    assert (watch.taps.held, watch.taps.exchanges) == (0, 0)
