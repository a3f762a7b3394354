"""Dubbo calls that are not in hessian 2."""

from __future__ import annotations

import struct

import pytest
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.dubbo_messages import SPEC, local
from tests.unit.protocol.rpc_frames import encoded, only, recorded

from pymosn.api.protocol import GOAWAY, REQUEST
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.core.failure import UNREADABLE_HEADERS, UNREADABLE_RESPONSE_HEADERS
from pymosn.core.headers import HeaderError
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.java_text import write_text

FASTJSON, FASTJSON2 = 6, 23


@pytest.mark.parametrize("serialization", [0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 16, 21, 22, 25, FASTJSON, FASTJSON2])
def test_what_cannot_be_read_passes_but_can_be_neither_judged_nor_changed(serialization: int) -> None:
    raw = frame(0xC0 + serialization, 0, b"\xff whatever timeout")
    found = only(SPEC, raw)
    assert found.kind == REQUEST
    assert found.request is not None
    headers = found.request.headers
    assert not found.request.has_timeout
    assert found.request.describe("dubbo") == "dubbo (unreadable headers)"
    for use in (
        found.request.service,
        found.request.method_name,
        lambda: headers.get("group"),
        lambda: headers.get_all("method"),
        lambda: headers.items(),
        lambda: headers.set("group", "a"),
        lambda: headers.remove("group"),
        lambda: headers.remove_raw(b"group"),
        lambda: headers.add_raw(b"a", b"b"),
        lambda: headers.copy(),
    ):
        with pytest.raises(UnreadableHeaders) as caught:
            use()
        assert caught.value.failure is UNREADABLE_HEADERS
    assert encoded(found.message, 1, found.message.payload) == raw
    assert encoded(found.message, 1, b"other") == frame(0xC0 + serialization, 0, b"other")
    assert local(found, 400)[3] == 40


@pytest.mark.parametrize("serialization", [1, 8, FASTJSON, FASTJSON2])
def test_a_response_in_another_serialization(serialization: int) -> None:
    raw = frame(serialization, 20, b"\xff whatever")
    message = only(SPEC, raw).message
    for use in (lambda: message.headers.get("a"), lambda: message.headers.remove_raw(b"a")):
        with pytest.raises(UnreadableHeaders) as caught:
            use()
        assert caught.value.failure is UNREADABLE_RESPONSE_HEADERS
    assert encoded(message, 1, message.payload) == raw
    error = only(SPEC, frame(serialization, 70, b"\xff whatever")).message
    assert not error.headers.remove("a")
    assert error.headers.items() == []


RECORDED = recorded("dubbo-3-fastjson2")
CALLS = [name for name in RECORDED if name.endswith("request") and RECORDED[name][2] & 0x20 == 0]


@pytest.mark.parametrize("name", CALLS)
def test_a_recorded_request_in_fastjson2(name: str) -> None:
    raw = RECORDED[name]
    found = only(SPEC, raw)
    assert found.request is not None
    headers = found.request.headers
    step = name.split(".")[0].split("-")[0]
    assert found.request.service() == headers.get("path") == "interop.EchoService"
    assert found.request.method == ("$invoke" if step == "generic" else step)
    assert headers.get("version") == "1.0.1"
    assert headers.get("group") == "blue"
    assert headers.get("remote.application") == "consumer"
    assert headers.get("colour") == ("green" if step == "attachment" else None)
    assert found.request.timeout == 10.0
    assert encoded(found.request, found.request_id, found.request.payload) == raw
    assert local(found, 504) == frame(2, 31, write_text(b"504|timeout"), found.request_id)


@pytest.mark.parametrize("name", CALLS)
def test_a_changed_attachment_in_fastjson2_leaves_all_else_as_it_was(name: str) -> None:
    raw = RECORDED[name]
    found = only(SPEC, raw)
    assert found.request is not None
    found.request.headers.set("group", "grün")
    assert found.request.headers.remove("timeout")
    found.request.headers.add("long", "x" * 3000)
    sent = encoded(found.request, found.request_id, found.request.payload)
    changed = only(SPEC, sent).message.headers
    wanted = {**dict(only(SPEC, raw).message.headers.items()), "group": "grün", "long": "x" * 3000}
    del wanted["timeout"]
    assert dict(changed.items()) == wanted
    start = raw.index(b"\xa6\x4dpath") - 4 if name != "generic.request" else raw.rindex(b"\xa6\x4dpath") - 4
    assert sent[16:start] == raw[16:start]
    found.request.headers.set("service", "other.Service")
    again = only(SPEC, encoded(found.request, 1, found.request.payload)).message.headers
    assert (again["service"], again["path"], again["interface"]) == ("other.Service",) * 3


def test_recorded_events_and_responses_in_fastjson2() -> None:
    assert only(SPEC, RECORDED["heartbeat.request"]).answer == RECORDED["heartbeat.reply"]
    assert only(SPEC, RECORDED["readonly.request"]).kind == GOAWAY
    for name, raw in RECORDED.items():
        if name.endswith("reply") and raw[2] & 0x20 == 0:
            found = only(SPEC, raw)
            message = found.message
            assert isinstance(message, RpcResponse)
            assert message.status == 200
            assert message.headers.items() == [("dubbo", "2.0.2")]
            assert encoded(message, found.request_id, message.payload) == raw
            message.headers.set("a", "b")
            assert message.headers.remove("dubbo")
            sent = only(SPEC, encoded(message, found.request_id, message.payload)).message
            assert sent.headers.items() == [("a", "b")]
            assert sent.payload.startswith(raw[16 : raw.rindex(b"\xa6\x4edubbo") - 4])


def jsonb(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


FRONT = (b"\x4e2.0.2", b"\x4aS", b"\xaf", b"\x4am", b"\x49")


def request(body: bytes, serialization: int) -> RpcRequest:
    found = only(SPEC, frame(0xC0 + serialization, 0, body))
    assert found.request is not None
    return found.request


@pytest.mark.parametrize(
    ("front", "service"),
    [
        ((b"\x4e2.0.2", b"\x4aS", b"\xaf", b"\x4am", b"\x49"), "S"),
        ((b"\x4e2.0.2", b"\x79\x38\x30" + b"S" * 48, b"\x49", b"\x4am", b"\x49"), "S" * 48),
        ((b"\x4e2.0.2", b"\x7a\x02\xc3\xa9", b"\x49", b"\x4am", b"\x49"), "é"),
        ((b"\x4e2.0.2", b"\x79\x44\x08\x00" + b"S" * 2048, b"\x49", b"\x4am", b"\xaf"), "S" * 2048),
        ((b"\x4e2.0.2", b"\x4bS", b"\x49", b"\x4am", b"\x49"), None),
        ((b"\x4e2.0.2", b"\x4aS", b"\x49", b"", b"\x49"), None),
        ((b"\x4e2.0.2", b"\x4aS", b"\x49"), None),
        ((b"\x4e2.0.2", b"\x91S", b"\x49", b"\x4am", b"\x49"), None),
        ((b"\x4e2.0.2", b"\x79\xff", b"\x49", b"\x4am", b"\x49"), None),
        ((b"\x4e2.0.2", b"\x4aS", b"\x49", b"\x4am", b"\x5aLjava/lang/String"), None),
        ((), None),
    ],
)
def test_the_front_of_fastjson2(front: tuple[bytes, ...], service: str | None) -> None:
    body = jsonb(*front, b"\xa6\xa5")
    message = request(body, FASTJSON2)
    if service is None:
        with pytest.raises(UnreadableHeaders):
            message.service()
    else:
        assert message.service() == service
    assert encoded(message, 1, body) == frame(0xC0 + FASTJSON2, 0, body)


INTEGERS = {
    b"\xf0": "-16",
    b"\x00": "0",
    b"\x2f": "47",
    b"\x39\x05": "261",
    b"\x45\x01\x02": "65794",
    b"\x48\x00\x00\x00\x09": "9",
    b"\xd8": "-8",
    b"\xef": "15",
    b"\xd1\x02": "258",
    b"\xc5\x01\x02": "65794",
    b"\xbc\x01\x02": "258",
    b"\xbd\xff": "-1",
    b"\xbf\x00\x00\x00\x08": "8",
}


@pytest.mark.parametrize(
    ("attachments", "fields"),
    [
        (b"\xaf", {}),
        (b"\xa6\xa5", {}),
        (b"\xa6\x4aa\x4ab\x4aa\x4ab\xa5", {"a": "b"}),
        (b"\xa6\x4aa\xb1\x4ab\xb0\x4ac\xaf\xa5", {"a": "true", "b": "false"}),
        (
            b"\xa6\x4a\xe9\x79\x01\xe9\x7a\x02\xc3\xaa\x7c\x02\x2d\x4e\x7d\x02\x4e\x2d\x4ab\xa5",
            {"é": "é", "ê": "中", "中": "b"},
        ),
        (b"\xa6\x05\x4ab\x4aa\xbe" + bytes(7) + b"\x07\xa5", {"5": "b", "a": "7"}),
    ],
)
def test_attachments_in_fastjson2(attachments: bytes, fields: dict[str, str]) -> None:
    message = request(jsonb(*FRONT, attachments), FASTJSON2)
    assert dict(message.headers.items()[3:]) == fields


@pytest.mark.parametrize(("value", "text"), INTEGERS.items())
def test_integers_in_fastjson2(value: bytes, text: str) -> None:
    assert request(jsonb(*FRONT, b"\xa6\x4aa" + value + b"\xa5"), FASTJSON2).headers.get("a") == text


#: Attachments that Java reads, and that a rule must not overlook because the proxy does not.
REFUSED = {
    "another value": b"\xa6\x4aa\x4ab\x4aa\x4ac\xa5",
    "another case": b"\xa6\x4aa\x4ab\x4aA\x4ac\xa5",
    "a list": b"\xa6\x4aa\x95\x4ax\xa5",
    "a map": b"\xa6\x4aa\xa6\x4ax\x4ay\xa5\xa5",
    "doubles": b"\xa6\x4aa\xb2\x4ab\xb3\x4ac\xb4\x05\x4ad\xb5" + bytes(8) + b"\x4ae\xb6\x05\x4af\xb7" + bytes(4) + b"\xa5",
    "a symbol": b"\xa6\x7f\x4aa\x00\x4ab\xa5",
    "a reference": b"\xa6\x4aa\x93\x4a$\xa5",
    "a typed map": b"\x92\x5ajava.util.HashMap\x00\xa6\x4aa\x4ab\xa5",
    "more than a map": b"\xa6\x4aa\x4ab\xa5\x4ac",
    "overlong UTF-8": b"\xa6\x7a\x02\xc1\xa1\x4ab\xa5",
    "a negative size": b"\xa6\x4aa\xa4\x30\x00\xa5",
    "no end": b"\xa6\x4aa\x4ab",
    "too deep": b"\xa6\x4aa" + b"\x95" * 200 + b"\xaf\xa5",
    "another path": b"\xa6\x4aa\x4ab\x4dpath\x4aT\xa5",
}


@pytest.mark.parametrize("attachments", REFUSED.values(), ids=REFUSED)
def test_attachments_in_fastjson2_that_are_refused(attachments: bytes) -> None:
    body = jsonb(*FRONT, attachments)
    message = request(body, FASTJSON2)
    with pytest.raises(UnreadableHeaders):
        message.headers.items()
    with pytest.raises(UnreadableHeaders):
        message.headers.get("service" if b"path" in attachments else "a")
    assert encoded(message, 1, body) == frame(0xC0 + FASTJSON2, 0, body)


# ---- fastjson: lines


LINES = b'"2.0.2"\n"S"\nnull\n"m"\n"Ljava/lang/String;I"\n{any thing}\n7\n'


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b'{"a":"b"}\n', {"a": "b"}),
        (b'{"a":"b"}', {"a": "b"}),
        (b'{"a":"b"}\r\nrest', {"a": "b"}),
        (b' { "\\u0061" : "b" , "c":1,"d":true,"e":null,"f":"\xc3\xa9"} \n', {"a": "b", "c": "1", "d": "true", "f": "é"}),
        (b"{ }\n", {}),
        (b"null\n", {}),
    ],
)
def test_attachments_in_fastjson(line: bytes, fields: dict[str, str]) -> None:
    message = request(LINES + line, FASTJSON)
    assert message.service() == "S"
    assert message.method == "m"
    assert dict(message.headers.items()[3:]) == fields
    message.headers.set("new", 'a"é')
    message.headers.set("service", "T")
    body = encoded(message, 1, message.payload)[16:]
    again = request(body, FASTJSON)
    assert dict(again.headers.items()[3:]) == {**fields, "new": 'a"é'}
    assert again.service() == "T"
    assert b"\n{any thing}\n7\n" in body


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{'a':'b'}\n",
        b'{"a":"b",,"c":"d"}\n',
        b'{"a":"b"} {}\n',
        b'{"a":"b"\n',
        b'{"a" "b"}\n',
        b'{1:"b"}\n',
        b'{"@type":"java.util.HashMap","a":"b"}\n',
        b'{"a":"b","$ref":"$"}\n',
        b'{"a":"b","a":"c"}\n',
        b'{"a":"b",\r"c":"d"}\n',
        b'{"a":["b"]}\n',
        b'{"a":{"b":"c"}}\n',
        b'{"a":1.5}\n',
        b'{"a":"\xff"}\n',
        b'{"a":' + b"[" * 100_000 + b"\n",
        b'["a"]\n',
    ],
)
def test_attachments_in_fastjson_that_are_refused(line: bytes) -> None:
    message = request(LINES + line, FASTJSON)
    with pytest.raises(UnreadableHeaders):
        message.headers.items()
    with pytest.raises(UnreadableHeaders):
        message.headers.get("a")
    assert encoded(message, 1, message.payload) == frame(0xC0 + FASTJSON, 0, LINES + line)


def test_a_response_in_fastjson() -> None:
    message = only(SPEC, frame(FASTJSON, 20, b'4\n"hello"\n{"a":"b","c":1.50}\n')).message
    assert message.headers.get("a") == "b"
    assert message.headers.remove("a")
    message.headers.set("x", "y")
    assert encoded(message, 1, message.payload) == frame(FASTJSON, 20, b'4\n"hello"\n{"c":1.50,"x":"y"}\n')
    assert only(SPEC, frame(FASTJSON, 20, b'1\n"hello"\n')).message.headers.items() == []
    for kind in (b"9", b'"4"', b"4.0", b"260"):
        with pytest.raises(UnreadableHeaders):
            only(SPEC, frame(FASTJSON, 20, kind + b'\n"hello"\n{"a":"b"}\n')).message.headers.get("a")


@pytest.mark.parametrize("serialization", [FASTJSON, FASTJSON2])
def test_a_body_of_a_filter_that_cannot_carry_the_changed_attachments(serialization: int) -> None:
    body = jsonb(*FRONT, b"\xa6\x4aa\x4ab\xa5") if serialization == FASTJSON2 else LINES + b'{"a":"b"}\n'
    message = request(body, serialization)
    message.headers.set("a", "c")
    with pytest.raises(HeaderError, match="the body that a filter set"):
        encoded(message, 1, b"not a body")
    assert request(encoded(message, 1, body + b"")[16:], serialization).headers.get("a") == "c"
