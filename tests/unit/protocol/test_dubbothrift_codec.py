"""The dubbo-thrift codec. Its frames are made here as Dubbo's ThriftCodec makes them, field by field."""

from __future__ import annotations

import struct

import pytest
from tests.unit.protocol.decoding import one_by_one, pieces
from tests.unit.protocol.rpc_frames import Found, built, decoded, encoded, only

from pymosn.api.protocol import MORE, NO, ONE_WAY, REQUEST, RESPONSE, YES
from pymosn.core.headers import HeaderError, HttpHeaders
from pymosn.protocol.dubbothrift.codec import ThriftSpec

SPEC = ThriftSpec()
SERVICE = "demo.Echo$Iface"
VOID = b"\x00"


def text(value: str) -> bytes:
    return struct.pack(">I", len(value)) + value.encode()


def message(kind: int, body: bytes = VOID, name: str = "echo", sequence: int = 7, strict: bool = True) -> bytes:
    if strict:
        return struct.pack(">HBB", 0x8001, 0, kind) + text(name) + struct.pack(">i", sequence) + body
    return text(name) + struct.pack(">Bi", kind, sequence) + body


def frame(content: bytes, number: int = 5, service: str = SERVICE, path: str | None = None) -> bytes:
    strings = text(service) + (b"" if path is None else text(path))
    header = 9 + len(strings) + 8
    size = header + len(content)
    return struct.pack(">IHIHB", size, 0xDABC, size, header, 1) + strings + struct.pack(">q", number) + content


FRAMES = {
    "call": frame(message(1)),
    "call with path": frame(message(1), path="demo/echo"),
    "old call": frame(message(1, strict=False)),
    "one-way": frame(message(4)),
    "reply": frame(message(2, b"\x0b\x00\x00\x00\x00\x00\x02hi\x00")),
    "exception": frame(message(3, b"\x0b\x00\x01\x00\x00\x00\x02no\x08\x00\x02\x00\x00\x00\x06\x00")),
    "no names": frame(message(1, name=""), service=""),
}
KINDS = {"one-way": ONE_WAY, "reply": RESPONSE, "exception": RESPONSE}


@pytest.mark.parametrize("name", FRAMES)
def test_the_facts_of_a_frame(name: str) -> None:
    found = only(SPEC, FRAMES[name])
    assert found.kind == KINDS.get(name, REQUEST)
    assert found.request_id == 5
    if found.request is not None and name not in ("no names", "call with path"):
        assert found.request.service() == SERVICE
        assert found.request.method == "echo"
        kind = "4" if name == "one-way" else "1"
        fields = [("service", SERVICE), ("method", "echo"), ("seqid", "7"), ("messagetype", kind)]
        assert found.request.headers.items() == fields
        assert found.request.headers.get("seqId") == "7"
    if name == "call with path":
        assert found.message.headers.get("path") == "demo/echo"
    if found.response is not None:
        assert found.response.status == (500 if name == "exception" else 200)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_forwarded_and_re_encoded(name: str) -> None:
    raw = FRAMES[name]
    found = only(SPEC, raw)
    assert built(found.message, 5, found.message.payload) == raw
    sent = encoded(found.message, -2, found.message.payload)
    changed = [i for i in range(len(raw)) if sent[i] != raw[i]]
    assert len(sent) == len(raw)
    assert changed == list(range(changed[0], changed[0] + 8))
    assert only(SPEC, sent).request_id == -2


@pytest.mark.parametrize("name", ["call", "reply"])
def test_the_version_stays_unchanged(name: str) -> None:
    raw = FRAMES[name][:12] + b"\x07" + FRAMES[name][13:]
    message = only(SPEC, raw).message
    assert built(message, 5, message.payload) == encoded(message, 5, message.payload) == raw


@pytest.mark.parametrize("name", FRAMES)
def test_any_cut_gives_the_same_and_a_short_frame_is_refused(name: str) -> None:
    raw = FRAMES[name]
    whole = only(SPEC, raw).key()
    assert [found.key() for found in decoded(SPEC, one_by_one(raw + raw)).found] == [whole, whole]
    for cut in range(1, len(raw)):
        assert [found.key() for found in decoded(SPEC, pieces(raw, [cut])).found] == [whole]
    body = raw[10:]
    for end in range(len(body) - len(only(SPEC, raw).message.payload) + 8):
        size = struct.pack(">I", 6 + end)
        assert decoded(SPEC, [size + b"\xda\xbc" + size + body[:end]]).reason == "bad_frame"


def patched(at: int, value: bytes) -> bytes:
    raw = FRAMES["call"]
    return raw[:at] + value + raw[at + len(value) :]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x00\x00\x00\x14", "bad_frame"),
        (b"\xff\xff\xff\xff\xda\xbc", "frame_too_large"),
        (b"\x00\x00\x01\x00\xda\xbb", "bad_frame"),
        (b"\x00\x00\x01\x00\xdb", "bad_frame"),
        (patched(6, b"\x00\x00\x00\xff"), "bad_frame"),
        (patched(10, b"\x00\x00"), "bad_frame"),
        (patched(10, b"\x00\x18"), "bad_frame"),
        (patched(10, b"\xff\xff"), "bad_frame"),
        (patched(13, b"\xff\xff\xff\xff"), "bad_frame"),
        (patched(13, b"\x7f\xff\xff\xff"), "bad_frame"),
        (frame(message(0)), "bad_frame"),
        (frame(message(5)), "bad_frame"),
        (frame(b""), "bad_frame"),
        (frame(b"\x80\x01\x00\x01\x7f\xff\xff\xff"), "bad_frame"),
        (frame(b"\xff\xff\xff\xff\x00"), "bad_frame"),
    ],
)
def test_frames_that_are_refused(raw: bytes, reason: str) -> None:
    outcome = decoded(SPEC, [raw])
    assert outcome.reason == reason
    assert not outcome.found


def test_service_and_path_change_and_nothing_else_does() -> None:
    call = only(SPEC, FRAMES["call with path"]).message
    call.headers.set("service", "other")
    call.headers.set("path", "o/p")
    assert encoded(call, 5, call.payload) == frame(message(1), service="other", path="o/p")
    call.headers.set("service", "s" * 0x10000)
    with pytest.raises(HeaderError, match="the limit of 65535"):
        encoded(call, 5, call.payload)
    call = only(SPEC, FRAMES["call"]).message
    for name in ("path", "method", "x"):
        with pytest.raises(HeaderError):
            call.headers.set(name, "a")
    with pytest.raises(HeaderError):
        call.headers.add("service", "a")
    with pytest.raises(HeaderError):
        call.headers.remove("service")
    call.headers.add_raw(b"x", b"y")
    assert encoded(call, 5, call.payload) == FRAMES["call"]
    assert encoded(call, 5, message(1, b"\x01")) == frame(message(1, b"\x01"))


def local(found: Found, status: int, body: bytes = b"") -> bytes:
    assert found.request is not None
    made = found.request.local_reply(status, HttpHeaders(), body)
    return encoded(made, found.request_id, made.payload)


def exception(why: str, kind: int) -> bytes:
    return message(3, b"\x0b\x00\x01" + text(why) + b"\x08\x00\x02" + struct.pack(">I", kind) + b"\x00")


@pytest.mark.parametrize(
    ("status", "why", "kind"),
    [
        (400, "400|bad request", 7),
        (403, "403|permission denied", 6),
        (404, "404|router unavailable", 1),
        (500, "500|internal error", 6),
        (502, "502|no health upstream", 0),
        (503, "503|upstream overflow", 0),
        (504, "504|timeout", 6),
    ],
)
def test_a_failure_is_an_exception_of_thrift(status: int, why: str, kind: int) -> None:
    assert local(only(SPEC, FRAMES["call"]), status) == frame(exception(why, kind))
    with_path = only(SPEC, FRAMES["call with path"])
    assert local(with_path, status) == frame(exception(why, kind), path="demo/echo")


def test_a_result_of_a_filter() -> None:
    call = only(SPEC, FRAMES["call"])
    assert local(call, 200) == frame(message(2))
    assert local(call, 200, b"hi") == FRAMES["reply"]
    assert local(call, 500, b"my own") == frame(exception("my own", 6))


def test_a_filter_changes_the_status_of_a_reply() -> None:
    reply = only(SPEC, FRAMES["reply"]).message
    reply.headers.set("a", "b")
    reply.headers.add_raw(b"b", b"c")
    assert reply.headers.remove("b")
    assert reply.headers.get("a") == "b"
    assert encoded(reply, 5, reply.payload) == FRAMES["reply"]
    reply.status = 404
    assert encoded(reply, 5, reply.payload) == frame(exception("404|router unavailable", 1))


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x00", MORE),
        (b"\x00\x00\x00\x30", MORE),
        (b"\x00\x00\x00\x30\xda", MORE),
        (b"\x00\x00\x00\x30\xda\xbc", YES),
        (b"\x00\x00\x00\x30\xda\xbb", NO),
        (b"\x00\x00\x00\x30\x10", NO),
        (b"G", NO),
        (b"\xda\xbb", NO),
    ],
)
def test_match(data: bytes, answer: int) -> None:
    assert SPEC.match(data) == answer


def test_there_is_no_heartbeat() -> None:
    assert SPEC.heartbeat(1) == b""
    assert SPEC.goaway(1) == b""
