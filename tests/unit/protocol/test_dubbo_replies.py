"""Replies in Dubbo: statuses, attachments, and those of the proxy's own."""

from __future__ import annotations

import pytest
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.dubbo_messages import FRAMES, SPEC, local, reply
from tests.unit.protocol.rpc_frames import built, encoded, only

from pymosn.core.failure import UNREADABLE_RESPONSE_HEADERS
from pymosn.core.headers import HttpHeaders, headers_from
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.java_text import write_text

# ---- replies


@pytest.mark.parametrize(
    ("status", "http"),
    [
        (20, 200),
        (30, 504),
        (31, 504),
        (40, 400),
        (50, 502),
        (60, 404),
        (70, 500),
        (80, 500),
        (90, 500),
        (100, 503),
        (25, 500),
        (0, 500),
    ],
)
def test_the_status_of_a_reply(status: int, http: int) -> None:
    message = reply(b"\x03why", status)
    assert message.status == message.frame_status == http
    assert encoded(message, 1, message.payload) == frame(2, status, b"\x03why")
    assert built(message, 1, message.payload) == frame(2, status, b"\x03why")


@pytest.mark.parametrize("body", [b"", b"\x96", b"\x95", b"\x94\x60", b"\x8f", b"I\x00\x00\x01\x04", b"\x01a"])
def test_attachments_of_a_reply_that_cannot_be_read_can_be_neither_judged_nor_changed(body: bytes) -> None:
    message = reply(body)
    for use in (
        lambda: message.headers.get("a"),
        lambda: message.headers.items(),
        lambda: message.headers.set("a", "b"),
        lambda: message.headers.remove_raw(b"a"),
    ):
        with pytest.raises(UnreadableHeaders) as caught:
            use()
        assert caught.value.failure is UNREADABLE_RESPONSE_HEADERS
    assert encoded(message, 1, message.payload) == frame(2, 20, body)


@pytest.mark.parametrize(("body", "status"), [(b"\x92", 20), (b"\x91\x90", 20), (b"\x90C", 20), (b"N", 20), (b"\x95", 40)])
def test_a_reply_without_attachments_is_forwarded(body: bytes, status: int) -> None:
    message = reply(body, status)
    assert message.headers.items() == []
    message.headers.set("a", "b")
    message.headers.add("b", "c")
    assert message.headers.remove("b")
    assert message.headers.items() == [("a", "b")]
    assert encoded(message, 1, message.payload) == frame(2, status, body)


def test_a_filter_changes_the_status_of_a_reply() -> None:
    message = reply(b"\x91\x03abc")
    message.status = 503
    assert encoded(message, 1, message.payload) == frame(2, 100, write_text(b"503|upstream overflow"))
    assert encoded(message, 1, b"\x02no") == frame(2, 100, b"\x02no")
    message = reply(b"\x03why", 31)
    message.status = 200
    assert encoded(message, 1, message.payload) == frame(2, 20, b"\x92")
    message = reply(b"\x03why", 31)
    message.status = 404
    assert encoded(message, 1, message.payload) == frame(2, 60, b"\x03why")


# ---- replies of the proxy's own


@pytest.mark.parametrize(
    ("status", "dubbo", "text"),
    [
        (400, 40, b"400|bad request"),
        (403, 80, b"403|permission denied"),
        (404, 60, b"404|router unavailable"),
        (418, 40, b"418|unknown"),
        (429, 100, b"429|unknown"),
        (500, 70, b"500|internal error"),
        (502, 60, b"502|no health upstream"),
        (503, 100, b"503|upstream overflow"),
        (504, 31, b"504|timeout"),
    ],
)
def test_a_failure_is_an_error_text(status: int, dubbo: int, text: bytes) -> None:
    for name in ("dubbo-2.7/echo.request", "dubbo-3/echo.request"):
        call = only(SPEC, FRAMES[name])
        assert local(call, status) == frame(2, dubbo, write_text(text), call.request_id)
    assert local(call, status, body=b"my own") == frame(2, dubbo, b"\x06my own", call.request_id)


def test_a_failure_of_a_call_in_another_serialization_is_hessian_2() -> None:
    call = only(SPEC, frame(0xC2 + 21, 0, b"\xff", -5))
    assert local(call, 504) == frame(2, 31, write_text(b"504|timeout"), -5)


def test_a_result_of_a_filter() -> None:
    call = only(SPEC, FRAMES["dubbo-3/echo.request"])
    assert local(call, 200) == frame(2, 20, b"\x92", call.request_id)
    assert local(call, 200, body=b"hi") == frame(2, 20, b"\x91\x02hi", call.request_id)
    fields = headers_from({"a": "b"})
    assert local(call, 200, fields, b"hi") == frame(2, 20, b"\x94\x02hiH\x01a\x01bZ", call.request_id)
    assert local(call, 200, fields) == frame(2, 20, b"\x95H\x01a\x01bZ", call.request_id)
    assert call.request is not None
    made = call.request.local_reply(200, HttpHeaders(), b"hi")
    made.headers.add("a", "b")
    assert encoded(made, call.request_id, made.payload) == frame(2, 20, b"\x94\x02hiH\x01a\x01bZ", call.request_id)
    made.status = 503
    assert encoded(made, call.request_id, made.payload) == frame(2, 100, b"\x02hi", call.request_id)
    assert encoded(made, call.request_id, b"N") == frame(2, 100, b"N", call.request_id)
    old = only(SPEC, frame(0xC2, 0, b"\x052.5.3\x01SN\x01m\x00HZ"))
    assert local(old, 200, fields, b"hi") == frame(2, 20, b"\x91\x02hi")
