"""Bolt frames: what is read out of them, and what is written."""

import zlib

import pytest
from tests.kit import bolt_frames as bolt
from tests.unit.protocol.rpc_frames import encoded

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.protocol import (
    GOAWAY,
    HEARTBEAT,
    HEARTBEAT_ACK,
    LARGE_REQUEST,
    MORE,
    NEED_MORE,
    NO,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    YES,
)
from pymosn.api.rpc import MAX_FRAME
from pymosn.api.variables import Variable
from pymosn.core.headers import HeaderError, HttpHeaders
from pymosn.protocol.bolt.codec import BoltDecoder, BoltSpec
from pymosn.protocol.bolt.frames import BoltRequest, BoltResponse, class_name
from pymosn.routing.matchers import Header

V1, V2 = BoltSpec(1), BoltSpec(2)


def decoded(data: bytes) -> tuple[int, BoltDecoder]:
    decoder = BoltDecoder(MAX_FRAME)
    decoder.feed(data)
    return decoder.decode(), decoder


def the_request(data: bytes) -> BoltRequest:
    kind, decoder = decoded(data)
    assert kind in (REQUEST, ONE_WAY)
    assert isinstance(decoder.request, BoltRequest)
    return decoder.request


def the_reply(data: bytes) -> BoltResponse:
    kind, decoder = decoded(data)
    assert kind == RESPONSE
    assert isinstance(decoder.response, BoltResponse)
    return decoder.response


@pytest.mark.parametrize(
    ("data", "v1", "v2"),
    [
        (bolt.request(1), YES, NO),
        (bolt.request(1, kind=2), YES, NO),
        (bolt.heartbeat(1), YES, NO),
        (bolt.goaway(1), YES, NO),
        (bolt.request(1, v2=True), NO, YES),
        (bolt.request(1, v2=True, crc=True), NO, YES),
        (bolt.heartbeat(1, v2=True), NO, YES),
        (bolt.request(1)[:1], MORE, NO),
        (bolt.request(1)[:2], MORE, NO),
        (bolt.request(1)[:3], MORE, NO),
        (bolt.request(1)[:4], YES, NO),
        (bolt.request(1, v2=True)[:1], NO, MORE),
        (bolt.request(1, v2=True)[:4], NO, MORE),
        (bolt.request(1, v2=True)[:5], NO, YES),
        (bolt.response(1), NO, NO),
        (b"\x01\x01\x01", NO, NO),
        (b"\x01\x01\x00\x02", NO, NO),
        (b"\x02\x03", NO, NO),
        (b"\x02\x01\x00", NO, NO),
        (b"GET / HTTP/1.1", NO, NO),
        (b"\xda\xbb\xc2\x00", NO, NO),
        (b"\x16\x03\x01", NO, NO),
        (b"\x00\x00\x00\x7b\x10\x01", NO, NO),
    ],
)
def test_match(data: bytes, v1: int, v2: int) -> None:
    assert (V1.match(data), V2.match(data)) == (v1, v2)


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("crc", [False, True])
def test_a_request(v2: bool, crc: bool) -> None:
    request = the_request(bolt.request(0x89ABCDEF, b"body", {"Service": "a", "method": "m", "n": None}, 250, v2=v2, crc=crc))
    assert (request.request_id, request.payload) == (0x89ABCDEF, b"body")
    assert class_name(request.frame, 16 if v2 else 14) == bolt.REQUEST_CLASS
    assert (request.has_timeout, request.timeout, request.is_one_way) == (True, 0.25, False)
    assert (request.service(), request.method) == ("a", "m")
    assert request.headers.items() == [("service", "a"), ("method", "m")]
    assert request.headers.get("n") is None
    assert (request.raw_path, request.raw_host) == (b"", b"")


@pytest.mark.parametrize(("written", "seconds"), [(-1, 0.0), (0, 0.0), (1, 0.001), (0x7FFFFFFF, 2147483.647)])
def test_times(written: int, seconds: float) -> None:
    request = the_request(bolt.request(1, timeout=written))
    assert (request.has_timeout, request.timeout) == (seconds > 0.0, seconds)


@pytest.mark.parametrize(
    ("status", "http"), [(0, 200), (1, 500), (2, 500), (4, 503), (6, 500), (7, 504), (16, 502), (999, 500)]
)
def test_the_status_of_a_reply(status: int, http: int) -> None:
    assert the_reply(bolt.response(1, status=status)).status == http


@pytest.mark.parametrize(
    ("http", "status"), [(200, 0), (204, 0), (403, 2), (404, 6), (502, 6), (503, 4), (504, 7), (500, 3), (400, 3), (413, 3)]
)
def test_the_status_of_our_own_replies(http: int, status: int) -> None:
    reply = the_request(bolt.request(1)).local_reply(http, HttpHeaders(), b"")
    assert encoded(reply, 9, b"") == bolt.failure(9, status)


def test_control_frames() -> None:
    for v2 in (False, True):
        kind, decoder = decoded(bolt.heartbeat(6, v2))
        assert (kind, decoder.request_id, decoder.answer) == (HEARTBEAT, 6, bolt.heartbeat_ack(6, v2))
        assert decoded(bolt.heartbeat_ack(6, v2))[0] == HEARTBEAT_ACK
    assert decoded(bolt.goaway(0))[0] == GOAWAY
    kind, decoder = decoded(bolt.request(1, b"", {}, kind=2, command=0, class_name=b""))
    assert (kind, decoder.answer) == (HEARTBEAT, b"")
    assert (V1.heartbeat(8), V2.heartbeat(8)) == (bolt.heartbeat(8), bolt.heartbeat(8, True))
    assert (V1.goaway(0), V2.goaway(0)) == (
        bolt.goaway(0),
        b"\x02\x01" + bolt.goaway(0)[1:10] + b"\x00" + bolt.goaway(0)[10:],
    )


def test_an_ack_has_the_crc_that_the_heartbeat_had() -> None:
    ack = decoded(bolt.request(6, b"", {}, command=0, class_name=b"", v2=True, crc=True))[1].answer
    assert ack == bolt.response(6, b"", {}, command=0, class_name=b"", v2=True, crc=True)
    assert zlib.crc32(ack[:-4]) == int.from_bytes(ack[-4:], "big")


def test_headers_can_be_edited() -> None:
    headers = the_request(bolt.request(1, headers={"A": "1", "b": "2", "a": "1", "null": None})).headers
    assert headers.get_raw(b"a") == b"1"
    assert headers.get_all("a") == ["1"]
    assert len(headers) == 2
    assert "B" in headers
    copied = headers.copy()
    headers.set("A", "x")
    headers.add("Connection", "is no framing here")
    assert headers.remove("b")
    assert not headers.remove("b")
    assert headers.items() == [("a", "x"), ("connection", "is no framing here")]
    assert copied.items() == [("a", "1"), ("b", "2")]
    with pytest.raises(HeaderError):
        headers.set("", "x")
    with pytest.raises(HeaderError):
        headers.add("", "x")
    with pytest.raises(HeaderError, match="only once"):
        headers.add("A", "y")


@pytest.mark.parametrize("name", ["Ärger", "ÀÉ", "İstanbul", "\u212aelvin", "ﬀ", "日本"])
def test_names_beyond_ascii_are_themselves(name: str) -> None:
    headers = the_request(bolt.request(1, headers={name: "1", name.lower() + "?": "2", "x" + name: "3"})).headers
    assert headers.get(name) == "1"
    assert headers.get_all(name) == ["1"]
    assert headers.get("X" + name) == "3"  # only the X has another case
    assert headers.get(name.lower() + "?") == "2"
    if name.lower() != name:
        assert name.lower() not in headers
    matcher = Header(name, "1")
    exchange = Exchange(Connection())
    exchange.request = HttpRequest(headers)
    assert matcher.matches(exchange)
    assert Variable(f"request_header_{name}").value(exchange) == "1"
    headers.set(name, "4")
    assert headers.get(name) == "4"
    assert headers.remove(name)
    assert name not in headers


def test_the_method_is_not_edited_here() -> None:
    with pytest.raises(HeaderError):
        the_request(bolt.request(1)).method = "other"


def test_another_body_is_re_encoded() -> None:
    request = the_request(bolt.request(1, b"old", timeout=5))
    assert encoded(request, 2, b"longer than before") == bolt.request(2, b"longer than before", timeout=5)
    reply = the_reply(bolt.response(1, b"old", {"k": None}, 16, v2=True, crc=True))
    assert encoded(reply, 2, b"") == bolt.response(2, b"", {"k": None}, 16, v2=True, crc=True)


def test_a_status_set_by_a_filter_is_re_encoded() -> None:
    reply = the_reply(bolt.response(1, status=16))
    reply.status = 200
    assert encoded(reply, 2, reply.payload) == bolt.response(2)


def test_headers_that_do_not_fit() -> None:
    request = the_request(bolt.request(1))
    request.headers.set("big", "x" * 70000)
    with pytest.raises(HeaderError, match="the limit of 65535"):
        encoded(request, 1, request.payload)


def test_a_frame_at_the_limit_and_one_beyond() -> None:
    data = bolt.request(1, b"x" * 100)
    for limit, fits in ((len(data), True), (len(data) - 1, False)):
        decoder = BoltDecoder(limit)
        decoder.feed(data[:30])
        if fits:
            assert decoder.decode() == NEED_MORE
            decoder.feed(data[30:] + b"\x01")
            assert decoder.decode() == REQUEST
            assert decoder.decode() == NEED_MORE
            assert decoder.has_buffered()
        else:
            assert decoder.decode() == LARGE_REQUEST
            assert decoder.request_id == 1
            assert decoder.is_skipping()
            assert decoder.decode() == NEED_MORE
            decoder.feed(data[30:] + b"\x01")
            assert not decoder.is_skipping()
            assert decoder.peek() == b"\x01"
