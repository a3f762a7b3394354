"""The Dubbo codec, on frames that Apache Dubbo 2.7 and 3 sent each other and on such that nobody should send."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.protocol.decoding import one_by_one, pieces
from tests.unit.protocol.rpc_frames import Found, decoded, only, recorded

from pymosn.api.protocol import GOAWAY, HEARTBEAT, HEARTBEAT_ACK, IGNORE, MORE, NO, ONE_WAY, REPLY, REQUEST, YES
from pymosn.api.rpc import RpcReply, RpcRequest
from pymosn.core.headers import HeaderError, Headers, headers_from
from pymosn.protocol.dubbo.attachments import MAX_ATTACHMENTS, argument_count
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, write_text
from pymosn.protocol.dubbo.spec import DubboSpec

SPEC = DubboSpec()
VERSIONS = ("dubbo-2.7", "dubbo-3")
FRAMES = {f"{folder}/{name}": raw for folder in VERSIONS for name, raw in recorded(folder).items()}
REQUESTS = {name: raw for name, raw in FRAMES.items() if name.endswith("request") and raw[2] & 0x20 == 0}
REPLIES = {name: raw for name, raw in FRAMES.items() if name.endswith("reply") and raw[2] & 0x20 == 0}
CALL = b"\x052.0.2\x01SN\x01m"


def frame(flags: int, status: int, body: bytes, number: int = 1) -> bytes:
    return struct.pack(">HBBqI", 0xDABB, flags, status, number, len(body)) + body


def request(body: bytes) -> RpcRequest:
    found = only(SPEC, frame(0xC2, 0, body))
    assert found.request is not None
    return found.request


def reply(body: bytes, status: int = 20) -> RpcReply:
    found = only(SPEC, frame(2, status, body))
    assert found.reply is not None
    return found.reply


# ---- recorded frames


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_says_whom_it_calls(name: str) -> None:
    found = only(SPEC, REQUESTS[name])
    message = found.request
    assert message is not None
    assert found.kind == (ONE_WAY if "/note." in name else REQUEST)
    assert message.is_one_way == ("/note." in name)
    headers = message.headers
    assert headers.get("service") == message.service() == "interop.EchoService"
    assert headers.get("version") == "1.0.1"
    assert headers.get("group") == "blue"
    assert headers.get("interface") == "interop.EchoService"
    assert headers.get("dubbo") == "2.0.2"
    assert headers.get("remote.application") == "consumer"
    step = name.split("/")[1].split(".")[0].split("-")[0]
    assert message.method == ("$invoke" if step == "generic" else step)
    assert headers.get("colour") == ("green" if "/attachment." in name else headers.get("colour"))
    assert message.has_timeout == name.startswith("dubbo-3")
    assert message.timeout == (10.0 if message.has_timeout else 0.0)


@pytest.mark.parametrize("name", REPLIES)
def test_a_recorded_reply_is_ok_and_has_its_attachments(name: str) -> None:
    found = only(SPEC, REPLIES[name])
    assert found.kind == REPLY
    assert found.message.status == 200
    assert found.message.headers.items() == [("dubbo", "2.0.2")]


@pytest.mark.parametrize("name", [*REQUESTS, *REPLIES])
def test_a_recorded_frame_is_sent_on_with_another_id_only(name: str) -> None:
    message = only(SPEC, FRAMES[name]).message
    for number in (7, 2**63 - 1, -1):
        sent = message.encode(number, message.payload)
        assert sent == FRAMES[name][:4] + struct.pack(">q", number) + FRAMES[name][12:]


@pytest.mark.parametrize("name", [*REQUESTS, *REPLIES])
def test_a_recorded_frame_made_anew_is_the_same(name: str) -> None:
    found = only(SPEC, FRAMES[name])
    found.message.headers.items()
    assert found.message.build(found.number, found.message.payload) == FRAMES[name]
    found.message.headers.is_changed = True  # type: ignore[attr-defined]
    assert found.message.encode(found.number, found.message.payload) == FRAMES[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_changed_attachment_leaves_all_else_as_it_was(name: str) -> None:
    raw = REQUESTS[name]
    found = only(SPEC, raw)
    found.message.headers.set("group", "grün")
    sent = found.message.encode(found.number, found.message.payload)
    body = raw[16:].replace(b"\x05group\x04blue", b"")[:-1] + b"\x05group\x04gr\xc3\xbcnZ"
    assert sent == raw[:12] + struct.pack(">I", len(body)) + body
    assert only(SPEC, sent).message.headers.get("group") == "grün"


@pytest.mark.parametrize("name", REPLIES)
def test_an_attachment_added_to_a_reply(name: str) -> None:
    raw = REPLIES[name]
    found = only(SPEC, raw)
    found.message.headers.add("seen", "yes")
    sent = found.message.encode(found.number, found.message.payload)
    body = raw[16:-1] + b"\x04seen\x03yesZ"
    assert sent == raw[:12] + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("folder", VERSIONS)
def test_recorded_events(folder: str) -> None:
    frames = recorded(folder)
    asks = only(SPEC, frames["heartbeat.request"])
    assert asks.kind == HEARTBEAT
    assert asks.answer == frames["heartbeat.reply"]  # as a provider answered it
    assert only(SPEC, frames["heartbeat.reply"]).kind == HEARTBEAT_ACK
    assert only(SPEC, frames["readonly.request"]).kind == GOAWAY


@pytest.mark.parametrize("folder", VERSIONS)
def test_the_proxy_sends_the_events_that_dubbo_sends(folder: str) -> None:
    frames = recorded(folder)
    for made, name in ((SPEC.heartbeat(5), "heartbeat.request"), (SPEC.goaway(5), "readonly.request")):
        assert made == frames[name][:4] + struct.pack(">q", 5) + frames[name][12:]


# ---- cutting


@pytest.mark.parametrize("folder", VERSIONS)
def test_any_cut_gives_the_same_frames(folder: str) -> None:
    small = [raw for raw in recorded(folder).values() if len(raw) < 600]
    data = b"".join(small)
    whole = [found.key() for found in decoded(SPEC, [data]).found]
    assert len(whole) == len(small)
    for cut in range(1, len(data), 7):
        assert [found.key() for found in decoded(SPEC, pieces(data, [cut])).found] == whole
    assert [found.key() for found in decoded(SPEC, one_by_one(data)).found] == whole


@given(st.lists(st.integers(1, 4000), max_size=8))
@settings(deadline=None, max_examples=50)
def test_cuts_anywhere(cuts: list[int]) -> None:
    data = b"".join(FRAMES[f"dubbo-3/{name}"] for name in ("fail.request", "fail.reply", "mixed.request", "note.request"))
    assert len(decoded(SPEC, pieces(data, cuts)).found) == 4


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\xda", MORE),
        (b"\xda\xbb", YES),
        (b"\xda\xbb\x00\xff", YES),
        (b"\xbb", NO),
        (b"\xda\xbc", NO),
        (b"GET /", NO),
        (b"\x00", NO),
    ],
)
def test_match(data: bytes, answer: int) -> None:
    assert SPEC.match(data) == answer


# ---- what is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xdb", "bad_frame"),
        (b"\xda\xbc", "bad_frame"),
        (b"GET / HTTP/1.1\r\n", "bad_frame"),
        (b"\xda\xbb\xc2\x00" + bytes(8) + b"\xff\xff\xff\xff", "frame_too_large"),
        (b"\xda\xbb\xc2\x00" + bytes(8) + b"\x00\x10\x00\x00", "frame_too_large"),
        (frame(0xC2, 0, b""), "bad_frame"),
        (frame(0xC2, 0, b"N"), "bad_frame"),
        (frame(0xC2, 0, CALL[:-1]), "bad_frame"),
        (frame(0xC2, 0, b"\x90" + CALL), "bad_frame"),
        (frame(0xC2, 0, b"HZ" * 4), "bad_frame"),
    ],
)
def test_frames_that_are_refused(data: bytes, reason: str) -> None:
    outcome = decoded(SPEC, [data], 1 << 20)
    assert outcome.reason == reason
    assert not outcome.found


def test_every_request_cut_inside_its_front_is_refused_and_cut_behind_it_is_forwarded() -> None:
    raw = FRAMES["dubbo-3/mixed.request"]
    front = raw.index(b"\x05mixed") + 6
    for end in range(16, len(raw)):
        outcome = decoded(SPEC, [frame(0xC2, 0, raw[16:end])])
        if end < front:
            assert outcome.reason == "bad_frame"
            continue
        message = outcome.found[0].message
        assert message.headers.items_raw()[1] == (b"service", b"interop.EchoService")
        assert message.headers.get("group") is None
        assert message.encode(9, message.payload) == frame(0xC2, 0, raw[16:end], 9)


# ---- attachments


def attachments(raw: bytes, types: bytes = b"\x00", arguments: bytes = b"") -> Headers:
    return request(CALL + types + arguments + raw).headers


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"HZ", []),
        (b"N", []),
        (b"M\x01tZ", []),
        (b"H\x01a\x01bZ", [("a", "b")]),
        (b"M\x01t\x01a\x01bZ", [("a", "b")]),
        (b"H\x01a\x01b\x01a\x01cZ", [("a", "b"), ("a", "c")]),
        (b"H\x01aN\x01b\x91\x01cT\x01dL" + bytes(7) + b"\x05\x01e\x5bZ", [("b", "1"), ("c", "true"), ("d", "5")]),
        (b"H\x01aHZ\x01bC\x01q\x91\x01x\x60N\x01cQ\x91\x01d\x01eZ", [("d", "e")]),
        (b"HHZ\x01b\x01d\x01eZ", [("d", "e")]),
        (b"H\x04NAME\x01bZ", [("name", "b")]),
        (b"H\x02\xc3\xa9\xe2\x82\xac\x00Z", [("é€", "")]),
        (b"H\x90\x01b\xe0\x01cZ", [("0", "b"), ("0", "c")]),
        (b"H\x02\xc3\xa9a\x01b\x03abc\x01dZ", [("éa", "b"), ("abc", "d")]),
        (b"HR\x00\x01a\x01bS\x00\x01cZ", [("ab", "c")]),
    ],
)
def test_attachments_are_read(raw: bytes, fields: list[tuple[str, str]]) -> None:
    headers = attachments(raw)
    assert headers.items()[3:] == fields
    for name, value in fields:
        assert value in headers.get_all(name)
        upper = name.upper() if name.isascii() else name
        assert attachments(raw).get(upper) == headers.get(upper)


@pytest.mark.parametrize(
    ("types", "arguments"),
    [
        (b"\x00", b""),
        (b"N", b""),
        (b"\x01I", b"\x90"),
        (b"\x04[I[J", b"\x71\x04[int\x90\x70\x05[long"),
        (b"\x30\x22Ljava/util/Map;[[Ljava/util/List;Z", b"HZ\x78F"),
        (b"\x07VZBCDFS", b"NTNNNNN"),
        (b"\x14[Ljava/lang/Object;J", b"\x78\xe0"),
    ],
)
def test_arguments_are_skipped(types: bytes, arguments: bytes) -> None:
    assert attachments(b"H\x01a\x01bZ", types, arguments).get("a") == "b"


@pytest.mark.parametrize(
    ("types", "count"), [(b"", 0), (b"IJ", 2), (b"[[I", 1), (b"Ljava/lang/String;", 1), (b"La;[Lb;[[ZLc;", 4)]
)
def test_argument_count(types: bytes, count: int) -> None:
    assert argument_count(types) == count


@pytest.mark.parametrize("types", [b"Ljava", b"X", b"I;", b"\xff", b"[L"])
def test_types_that_are_none(types: bytes) -> None:
    with pytest.raises(Hessian2Error):
        argument_count(types)


UNREADABLE = {
    "no attachments": b"\x00",
    "no types": b"\x90",
    "an argument is missing": b"\x01I",
    "a broken argument": b"\x01I\x60",
    "no map": b"\x00\x90",
    "a map without end": b"\x00H\x01a\x01b",
    "a bomb of lists": b"\x01I" + b"\x79" * 20000 + b"NHZ",
    "a list of 2 ** 31 - 1": b"\x01IXI\x7f\xff\xff\xffHZ",
    "too many": b"\x00H" + b"\x90N" * (MAX_ATTACHMENTS + 1) + b"Z",
}


@pytest.mark.parametrize("tail", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_forwarded_and_cannot_be_changed(tail: bytes) -> None:
    message = request(CALL + tail)
    assert message.headers.items() == [("dubbo", "2.0.2"), ("service", "S"), ("method", "m")]
    assert message.headers.get("group") is None
    for change in (
        lambda: message.headers.set("a", "b"),
        lambda: message.headers.add("a", "b"),
        lambda: message.headers.remove("a"),
        lambda: message.headers.set("service", "b"),
    ):
        with pytest.raises(HeaderError):
            change()
    message.headers.add_raw(b"a", b"b")
    assert not message.headers.remove_raw(b"service")
    assert message.encode(3, message.payload) == frame(0xC2, 0, CALL + tail, 3)


@pytest.mark.parametrize("flags", [0xC2 + 21, 0xC1, 0xC0])
def test_another_serialization_is_passed_through(flags: int) -> None:
    raw = frame(flags, 0, b"\xff whatever timeout")
    found = only(SPEC, raw)
    assert found.kind == REQUEST
    assert found.message.headers.items() == []
    assert found.request is not None
    assert found.request.service() == ""
    assert not found.request.has_timeout
    assert found.message.encode(1, found.message.payload) == raw
    with pytest.raises(HeaderError, match="serialization"):
        found.message.headers.set("group", "a")
    assert found.message.encode(1, b"other") == frame(flags, 0, b"other")


FASTJSON2 = recorded("dubbo-3-fastjson2")


@pytest.mark.parametrize("name", [name for name in FASTJSON2 if name.endswith("request") and FASTJSON2[name][2] & 0x20 == 0])
def test_a_recorded_request_in_fastjson2_says_whom_it_calls(name: str) -> None:
    raw = FASTJSON2[name]
    found = only(SPEC, raw)
    assert found.request is not None
    step = name.split(".")[0].split("-")[0]
    method = "$invoke" if step == "generic" else step
    fields = [("dubbo", "2.0.2"), ("service", "interop.EchoService"), ("version", "1.0.1"), ("method", method)]
    assert found.request.headers.items() == fields
    assert found.request.headers.get("group") is None
    with pytest.raises(HeaderError, match="fastjson2"):
        found.request.headers.set("group", "a")
    assert found.request.encode(found.number, found.request.payload) == raw
    assert local(found, 504) == frame(2, 31, write_text(b"504|timeout"), found.number)


def test_recorded_events_in_fastjson2() -> None:
    assert only(SPEC, FASTJSON2["heartbeat.request"]).answer == FASTJSON2["heartbeat.reply"]
    assert only(SPEC, FASTJSON2["readonly.request"]).kind == GOAWAY
    for name, raw in FASTJSON2.items():
        if name.endswith("reply") and raw[2] & 0x20 == 0:
            message = only(SPEC, raw).message
            assert message.status == 200
            assert message.encode(only(SPEC, raw).number, message.payload) == raw


def jsonb(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


@pytest.mark.parametrize(
    ("body", "service"),
    [
        (jsonb(b"\x4e2.0.2", b"\x4aS", b"\xaf", b"\x4am") + b"anything", "S"),
        (jsonb(b"\x4e2.0.2", b"\x79\x38\x30" + b"S" * 48, b"\x49", b"\x4am"), "S" * 48),
        (jsonb(b"\x4e2.0.2", b"\x7a\x02\xc3\xa9", b"\x49", b"\x4am"), "é"),
        (jsonb(b"\x4e2.0.2", b"\x79\x40\x08\x00" + b"S" * 2048, b"\x49", b"\x4am"), "S" * 2048),
        (jsonb(b"\x4e2.0.2", b"\x4bS", b"\x49", b"\x4am"), ""),
        (jsonb(b"\x4e2.0.2", b"\x4aS", b"\x49", b""), ""),
        (jsonb(b"\x4e2.0.2", b"\x4aS", b"\x49"), ""),
        (jsonb(b"\x4e2.0.2", b"\x4aS") + b"\xff\xff\xff\xff\x4a", ""),
        (jsonb(b"\x4e2.0.2", b"\x91S", b"\x49", b"\x4am"), ""),
        (jsonb(b"\x4e2.0.2", b"\x79\xff", b"\x49", b"\x4am"), ""),
        (b"", ""),
    ],
)
def test_the_front_of_fastjson2(body: bytes, service: str) -> None:
    found = only(SPEC, frame(0xC0 + 23, 0, body))
    assert found.request is not None
    assert found.request.service() == service
    assert found.request.encode(1, body) == frame(0xC0 + 23, 0, body)


def test_the_service_changes_wherever_it_stands() -> None:
    message = request(CALL + b"\x00H\x04path\x01S\x09interface\x01S\x07version\x01v\x01x\x01yZ")
    message.headers.set("service", "T")
    message.headers.set("Version", "2")
    assert message.headers.get("service") == "T"
    assert message.service() == "T"
    body = b"\x052.0.2\x01T\x012\x01m\x00H\x04path\x01T\x09interface\x01T\x07version\x012\x01x\x01yZ"
    assert message.encode(1, message.payload) == frame(0xC2, 0, body)


def test_what_stands_in_front_cannot_be_lost() -> None:
    headers = attachments(b"H\x07version\x01vZ")
    for name in ("method", "dubbo"):
        with pytest.raises(HeaderError):
            headers.set(name, "x")
    for name in ("service", "version", "method", "dubbo"):
        with pytest.raises(HeaderError):
            headers.remove(name)
        with pytest.raises(HeaderError):
            headers.add(name, "x")
        assert not headers.remove_raw(name.encode())


def test_attachments_that_others_refer_to_stay() -> None:
    raw = b"H\x01aHZ\x01bQ\x91\x01cN\x01d\x5bZ"
    message = request(CALL + b"\x00" + raw)
    with pytest.raises(HeaderError, match="an object"):
        message.headers.set("A", "x")
    with pytest.raises(HeaderError, match="an object"):
        message.headers.remove("a")
    assert not message.headers.remove_raw(b"a")
    message.headers.set("b", "x")
    message.headers.set("c", "y")
    assert message.headers.remove("d")
    assert message.encode(1, message.payload) == frame(0xC2, 0, CALL + b"\x00H\x01aHZ\x01b\x01x\x01c\x01yZ")


def test_a_null_map_gets_its_first_attachment() -> None:
    message = request(CALL + b"\x00N")
    message.headers.set("a", "b")
    assert message.encode(1, message.payload) == frame(0xC2, 0, CALL + b"\x00H\x01a\x01bZ")


def test_a_copy_of_the_headers_says_the_same() -> None:
    raw = FRAMES["dubbo-2.7/mixed.request"]
    found = only(SPEC, raw)
    found.message.headers = found.message.headers.copy()
    assert found.message.encode(found.number, found.message.payload) == raw
    found.message.headers.set("group", "x")
    assert only(SPEC, found.message.encode(1, found.message.payload)).message.headers.get("group") == "x"


def test_a_body_of_a_filter_gets_the_changed_attachments() -> None:
    message = request(CALL + b"\x00H\x01a\x01bZ")
    message.headers.set("a", "c")
    body = CALL + b"\x01I\x91H\x01a\x01b\x01x\x01yZ"
    assert message.encode(1, body) == frame(0xC2, 0, CALL + b"\x01I\x91H\x01a\x01cZ")
    assert message.encode(1, b"no hessian") == frame(0xC2, 0, b"no hessian")


@pytest.mark.parametrize(
    ("attachment", "seconds"),
    [
        (b"\x073000000", 3000.0),
        (b"\x0a9999999999", None),
        (b"\x041500", 1.5),
        (b"\xd4\x05\xdc", 1.5),
        (b"\x010", None),
        (b"\x02-1", None),
        (b"\x00", None),
        (b"N", None),
    ],
)
def test_the_timeout_of_dubbo_3(attachment: bytes, seconds: float | None) -> None:
    message = request(CALL + b"\x00H\x07timeout" + attachment + b"Z")
    assert message.has_timeout == (seconds is not None)
    assert message.timeout == (seconds or 0.0)
    assert not request(CALL + b"\x12Ljava/lang/String;\x07timeoutHZ").has_timeout


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
    assert message.encode(1, message.payload) == frame(2, status, b"\x03why")
    assert message.build(1, message.payload) == frame(2, status, b"\x03why")


@pytest.mark.parametrize("body", [b"", b"\x92", b"\x91\x90", b"\x90C", b"\x96", b"\x95", b"\x94\x60", b"N"])
def test_a_reply_without_attachments_that_can_be_read_is_forwarded(body: bytes) -> None:
    message = reply(body)
    assert message.headers.items() == []
    message.headers.set("a", "b")
    message.headers.add("b", "c")
    assert message.headers.remove("b")
    assert message.headers.items() == [("a", "b")]
    assert message.encode(1, message.payload) == frame(2, 20, body)


def test_a_filter_changes_the_status_of_a_reply() -> None:
    message = reply(b"\x91\x03abc")
    message.status = 503
    assert message.encode(1, message.payload) == frame(2, 100, write_text(b"503|upstream overflow"))
    assert message.encode(1, b"\x02no") == frame(2, 100, b"\x02no")
    message = reply(b"\x03why", 31)
    message.status = 200
    assert message.encode(1, message.payload) == frame(2, 20, b"\x92")
    message = reply(b"\x03why", 31)
    message.status = 404
    assert message.encode(1, message.payload) == frame(2, 60, b"\x03why")


# ---- replies of the proxy's own


def local(call: Found, status: int, headers: Headers | None = None, body: bytes = b"") -> bytes:
    assert call.request is not None
    made = call.request.local_reply(status, headers or Headers(), body)
    assert made.status == status
    return made.encode(call.number, made.payload)


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
        assert local(call, status) == frame(2, dubbo, write_text(text), call.number)
    assert local(call, status, body=b"my own") == frame(2, dubbo, b"\x06my own", call.number)


def test_a_failure_of_a_call_in_another_serialization_is_hessian_2() -> None:
    call = only(SPEC, frame(0xC2 + 21, 0, b"\xff", -5))
    assert local(call, 504) == frame(2, 31, write_text(b"504|timeout"), -5)


def test_a_result_of_a_filter() -> None:
    call = only(SPEC, FRAMES["dubbo-3/echo.request"])
    assert local(call, 200) == frame(2, 20, b"\x92", call.number)
    assert local(call, 200, body=b"hi") == frame(2, 20, b"\x91\x02hi", call.number)
    fields = headers_from({"a": "b"})
    assert local(call, 200, fields, b"hi") == frame(2, 20, b"\x94\x02hiH\x01a\x01bZ", call.number)
    assert local(call, 200, fields) == frame(2, 20, b"\x95H\x01a\x01bZ", call.number)
    assert call.request is not None
    made = call.request.local_reply(200, Headers(), b"hi")
    made.headers.add("a", "b")
    assert made.encode(call.number, made.payload) == frame(2, 20, b"\x94\x02hiH\x01a\x01bZ", call.number)
    made.status = 503
    assert made.encode(call.number, made.payload) == frame(2, 100, b"\x02hi", call.number)
    assert made.encode(call.number, b"N") == frame(2, 100, b"N", call.number)
    old = only(SPEC, frame(0xC2, 0, b"\x052.5.3\x01SN\x01m\x00HZ"))
    assert local(old, 200, fields, b"hi") == frame(2, 20, b"\x91\x02hi")


# ---- events


@pytest.mark.parametrize(
    ("raw", "kind", "answer"),
    [
        (frame(0xE2, 0, b"N"), HEARTBEAT, frame(0x22, 20, b"N")),
        (frame(0xE2 + 21, 0, b"\xaf"), HEARTBEAT, frame(0x22 + 21, 20, b"\xaf")),
        (frame(0xE2, 0, b""), HEARTBEAT, frame(0x22, 20, b"")),
        (frame(0xA2, 0, b"N"), IGNORE, b""),
        (frame(0xA2, 0, b""), IGNORE, b""),
        (frame(0xA2, 0, b"\x01W"), IGNORE, b""),
        (frame(0xA2, 0, b"\x01R"), GOAWAY, b""),
        (frame(0xA2 + 21, 0, b"\x4aR"), GOAWAY, b""),
        (frame(0x22, 20, b"N"), HEARTBEAT_ACK, b""),
        (frame(0x22, 80, b"\x03why"), HEARTBEAT_ACK, b""),
    ],
)
def test_events(raw: bytes, kind: int, answer: bytes) -> None:
    outcome = decoded(SPEC, [raw])
    assert outcome.reason == ""
    if kind == IGNORE:
        assert not outcome.found
    else:
        assert [(found.kind, found.answer) for found in outcome.found] == [(kind, answer)]


@pytest.mark.parametrize("number", [0, 1, 2**32, 2**63 - 1, -1, -(2**63)])
def test_ids_come_back_bit_by_bit(number: int) -> None:
    found = only(SPEC, frame(0xE2, 0, b"N", number))
    assert found.number == number
    assert found.answer[4:12] == struct.pack(">q", number)
