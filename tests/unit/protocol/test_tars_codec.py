"""The TARS codec. Its packets are made here as TARS' own RequestPacket and ResponsePacket are written, field by field."""

from __future__ import annotations

import struct

import pytest
from tests.unit.protocol.decoding import one_by_one, pieces
from tests.unit.protocol.rpc_frames import Found, built, decoded, encoded, only

from pymosn.api.protocol import MORE, NO, ONE_WAY, REQUEST, RESPONSE, YES
from pymosn.core.headers import HeaderError, Headers, HttpHeaders, headers_from
from pymosn.protocol.tars.codec import TarsDecoder, TarsSpec
from pymosn.protocol.tars.jce import MAX_DEPTH, MAX_PAIRS, JceError, JceReader, write_integer, write_text

SPEC = TarsSpec()
NO_MAPS = b"\x98\x0c\xa8\x0c"


def packet(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 4 + len(body)) + body


def pair(key: bytes, value: bytes) -> bytes:
    return b"\x06" + bytes((len(key),)) + key + b"\x16" + bytes((len(value),)) + value


def request(number: bytes = b"\x40\x05", version: int = 1, kind: bytes = b"\x2c", tail: bytes = NO_MAPS) -> bytes:
    return packet(
        bytes((0x10, version)), kind, b"\x3c", number, b"\x56\x05A.B.C\x66\x04echo\x7d\x00\x00\x02hi\x81\x0b\xb8", tail
    )


def reply(result: bytes = b"\x5c", number: bytes = b"\x30\x05", tail: bytes = b"\x78\x0c") -> bytes:
    return packet(b"\x10\x01\x2c", number, b"\x4c", result, b"\x6d\x00\x00\x02hi", tail)


CONTEXT = b"\x98\x00\x02" + pair(b"colour", b"green") + pair(b"n", b"1") + b"\xa8\x0c"
FRAMES = {
    "request": request(),
    "request with context": request(tail=CONTEXT),
    "request without maps": request(tail=b""),
    "request with status only": request(tail=b"\xa8\x00\x01" + pair(b"a", b"b")),
    "one-way": request(kind=b"\x20\x01"),
    "tup": request(version=3),
    "reply": reply(),
    "reply with all": reply(b"\x50\xfc", tail=b"\x78\x0c\x86\x03why\x98\x00\x01" + pair(b"a", b"b")),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_facts_of_a_packet(name: str) -> None:
    found = only(SPEC, FRAMES[name])
    assert found.request_id == 5
    assert found.message.payload == b"hi"
    if name.startswith("reply"):
        assert found.kind == RESPONSE
        assert found.message.status == (404 if name == "reply with all" else 200)
        return
    assert found.kind == (ONE_WAY if name == "one-way" else REQUEST)
    assert found.request is not None
    assert found.request.service() == "A.B.C"
    assert found.request.method == "echo"
    assert found.request.timeout == 3.0
    assert found.request.has_timeout
    fields = [("service", "A.B.C"), ("method", "echo")]
    if name == "request with context":
        fields += [("colour", "green"), ("n", "1")]
    assert found.request.headers.items() == fields


@pytest.mark.parametrize("name", FRAMES)
def test_a_packet_is_forwarded_and_re_encoded(name: str) -> None:
    raw = FRAMES[name]
    found = only(SPEC, raw)
    assert built(found.message, 5, found.message.payload) == raw
    for number in (0, 5, -1, 127, 128, -129, 70000, 0x7FFFFFFF, -0x80000000):
        sent = only(SPEC, encoded(found.message, number, found.message.payload))
        assert sent.request_id == number
        assert encoded(sent.message, 5, sent.message.payload) == raw


@pytest.mark.parametrize("name", FRAMES)
def test_any_cut_gives_the_same_and_a_short_packet_is_refused(name: str) -> None:
    raw = FRAMES[name]
    whole = only(SPEC, raw).key()
    assert [found.key() for found in decoded(SPEC, one_by_one(raw + raw)).found] == [whole, whole]
    for cut in range(1, len(raw)):
        assert [found.key() for found in decoded(SPEC, pieces(raw, [cut])).found] == [whole]
    for end in range(6, raw.index(b"hi") + 2):
        assert decoded(SPEC, [packet(raw[4:end])]).reason == "bad_frame"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x00\x00\x05",
        b"\x00\x00\x01\x00\x11",
        b"GET / HTTP/1.1",
        packet(b"\x10\x01\x2c\x3c\x4c\x58\x0c"),
        packet(b"\x10\x01\x2c\x3c\x43" + bytes(7) + b"\x01\x56\x01a"),
        packet(b"\x10\x01\x2c\x3c\x43\x01" + bytes(7) + b"\x56\x01a\x66\x01b\x7d\x00\x0c"),
        request(tail=b"\x98\x0c\x98\x0c"),
        request(tail=b"\x8c"),
        request(tail=b"\x98\x00\x7f"),
        request(tail=b"\x98\x00\xff"),
        request(tail=b"\x98\x02\x7f\xff\xff\xff"),
        request(tail=b"\x98\x00\x01\x00\x01\x10\x01"),
        request(tail=b"\xaf"),
        request(tail=b"\xba" + b"\x0a" * 20000),
        request(tail=b"\xbb"),
        request(tail=b"\xbe"),
        request(tail=b"\xbd\x01\x00\x01a"),
        packet(b"\x10\x01\x2c\x3c\x4c\x57\xff\xff\xff\xff"),
        request(tail=b"\x98\x01\x10\x01" + pair(b"a", b"b") * (MAX_PAIRS + 1)),
        request(version=0),
        request(version=4),
        request(tail=b"\x98\x10\x01" + pair(b"a", b"b")),  # a count that is part 1
        request(tail=b"\x98\x00\x01\x16\x01a\x06\x01b"),  # the value before the key
    ],
)
def test_packets_that_are_refused(raw: bytes) -> None:
    outcome = decoded(SPEC, [raw])
    assert outcome.reason in ("bad_frame", "frame_too_large"), outcome.detail
    assert not outcome.found


def test_another_way_to_write_a_length_is_kept() -> None:
    raw = request().replace(b"\x7d\x00\x00\x02hi", b"\x7d\x00\x02\x00\x00\x00\x02hi")
    raw = packet(raw[4:])
    message = only(SPEC, raw).message
    assert built(message, 5, message.payload) == raw
    assert b"\x7d\x00\x00\x03hey" in built(message, 5, b"hey")


def test_as_many_entries_as_are_allowed() -> None:
    assert MAX_PAIRS == 0x1000
    pairs = b"".join(pair(b"%d" % number, b"b") for number in range(MAX_PAIRS))
    headers = only(SPEC, request(tail=b"\x98\x01\x10\x00" + pairs)).message.headers
    assert len(headers) == MAX_PAIRS + 2


@pytest.mark.parametrize(
    "field",
    [
        b"\x00\x01",
        b"\x01\x01\x01",
        b"\x02" + bytes(4),
        b"\x03" + bytes(8),
        b"\x04" + bytes(4),
        b"\x05" + bytes(8),
        b"\x06\x02ab",
        b"\x07\x00\x00\x00\x02ab",
        b"\x08\x0c",
        b"\x08\x00\x01\x06\x01a\x18\x0c",
        b"\x09\x00\x02\x0c\x00\x01",
        b"\x09\x00\x01\x09\x0c",
        b"\x0a\x0b",
        b"\x0a\x06\x01a\x1a\x0b\x0b",
        b"\x0c",
        b"\x0d\x00\x00\x02ab",
        b"\x0a" * MAX_DEPTH + b"\x0b" * MAX_DEPTH,
    ],
)
def test_a_field_is_skipped_to_its_end(field: bytes) -> None:
    reader = JceReader(field + b"\x10\x07", 0)
    assert reader.head()
    reader.skip()
    assert reader.at == len(field)
    assert reader.head()
    assert reader.tag == 1
    assert reader.integer() == 7
    assert not reader.head()
    for end in range(1, len(field)):
        reader = JceReader(field[:end], 0)
        assert reader.head()
        with pytest.raises(JceError):
            reader.skip()


def test_the_context_changes_and_the_call_does_not() -> None:
    call = only(SPEC, FRAMES["request with context"]).message
    call.headers.set("colour", "red")
    assert call.headers.remove("n")
    assert encoded(call, 5, call.payload) == request(tail=b"\x98\x00\x01" + pair(b"colour", b"red") + b"\xa8\x0c")
    call = only(SPEC, FRAMES["request without maps"]).message
    call.headers.add("a", "b")
    assert encoded(call, 5, call.payload) == request(tail=b"\x98\x00\x01" + pair(b"a", b"b"))
    call = only(SPEC, FRAMES["request with status only"]).message
    call.headers.add("a", "b")
    with_both = b"\x98\x00\x01" + pair(b"a", b"b") + b"\xa8\x00\x01" + pair(b"a", b"b")
    assert encoded(call, 5, call.payload) == request(tail=with_both)
    for name in ("service", "method"):
        for change in (call.headers.add, call.headers.set):
            with pytest.raises(HeaderError):
                change(name, "x")
        with pytest.raises(HeaderError):
            call.headers.remove(name)
        assert not call.headers.remove_raw(name.encode())


def test_the_context_cannot_change_the_called_service() -> None:
    call = only(SPEC, request(tail=b"\x98\x00\x01" + pair(b"Service", b"other") + b"\xa8\x0c")).message
    name = call.headers.get("service")
    assert name
    assert call.headers.get_all("service") == [name]
    assert dict(call.headers.items())["service"] == name
    assert encoded(call, 5, call.payload) == request(tail=b"\x98\x00\x01" + pair(b"Service", b"other") + b"\xa8\x0c")


def test_another_buffer() -> None:
    call = only(SPEC, FRAMES["request"]).message
    longer = encoded(call, 5, b"x" * 300)
    assert only(SPEC, longer).message.payload == b"x" * 300
    assert longer == packet(FRAMES["request"][4:].replace(b"\x7d\x00\x00\x02hi", b"\x7d\x00\x01\x01\x2c" + b"x" * 300))


def local(found: Found, status: int, body: bytes = b"", headers: Headers | None = None) -> bytes:
    assert found.request is not None
    made = found.request.local_reply(status, headers or HttpHeaders(), body)
    return encoded(made, found.request_id, made.payload)


@pytest.mark.parametrize(
    ("status", "result", "text"),
    [
        (400, -1, b"400|bad request"),
        (403, -99, b"403|permission denied"),
        (404, -4, b"404|router unavailable"),
        (502, -8, b"502|no health upstream"),
        (503, -9, b"503|upstream overflow"),
        (504, -7, b"504|timeout"),
    ],
)
def test_a_failure_is_a_result(status: int, result: int, text: bytes) -> None:
    made = local(only(SPEC, FRAMES["request"]), status)
    tail = b"\x78\x0c\x86" + bytes((len(text),)) + text
    assert made == packet(b"\x10\x01\x2c\x30\x05\x4c\x50", struct.pack("b", result), b"\x6d\x00\x0c", tail)
    assert only(SPEC, made).message.status == (500 if status == 403 else status)


def test_a_failure_in_tup_is_read_by_a_client() -> None:
    made = local(only(SPEC, FRAMES["tup"]), 504)
    status = b"\xa8\x00\x02" + pair(b"STATUS_RESULT_CODE", b"-7") + pair(b"STATUS_RESULT_DESC", b"504|timeout")
    begin = b"\x10\x03\x2c\x3c\x40\x05\x56\x05A.B.C\x66\x04echo\x7d\x00\x0c\x81\x0b\xb8\x98\x0c"
    assert made == packet(begin, status)
    decoder = TarsDecoder(1 << 20)
    decoder.is_client = True
    decoder.feed(made)
    assert decoder.decode() == RESPONSE
    assert decoder.request_id == 5
    assert decoder.response is not None
    assert decoder.response.status == 504
    assert encoded(decoder.response, 5, decoder.response.payload) == made


def test_a_result_of_a_filter() -> None:
    call = only(SPEC, FRAMES["request"])
    assert local(call, 200, b"hi") == reply()
    with_context = local(call, 200, b"hi", headers_from({"a": "b"}))
    assert with_context == reply(tail=b"\x78\x0c\x98\x00\x01" + pair(b"a", b"b"))
    assert b"my own" in local(call, 404, b"my own")


def test_a_filter_changes_a_reply() -> None:
    found = only(SPEC, FRAMES["reply with all"]).message
    found.headers.set("a", "c")
    tail = b"\x78\x0c\x86\x03why\x98\x00\x01" + pair(b"a", b"c")
    assert encoded(found, 5, found.payload) == reply(b"\x50\xfc", tail=tail)
    found.status = 503
    assert only(SPEC, encoded(found, 5, found.payload)).message.status == 503


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x00", MORE),
        (b"\x00\x00\x00\x30\x10", MORE),
        (b"\x00\x00\x00\x30\x10\x01", YES),
        (b"\x00\x00\x00\x30\x10\x03", YES),
        (b"\x00\x00\x00\x30\x10\x04", NO),
        (b"\x00\x00\x00\x30\xda", NO),
        (b"G", NO),
        (b"\xda", NO),
    ],
)
def test_match(data: bytes, answer: int) -> None:
    assert SPEC.match(data) == answer


@pytest.mark.parametrize("value", [0, 1, -1, 127, -128, 128, -129, 32767, 32768, -32769, 2**31 - 1, -(2**31)])
def test_numbers(value: int) -> None:
    reader = JceReader(write_integer(3, value), 0)
    assert reader.head()
    assert reader.tag == 3
    assert reader.integer() == value


@pytest.mark.parametrize("size", [0, 255, 256, 70000])
def test_strings(size: int) -> None:
    reader = JceReader(write_text(3, b"a" * size), 0)
    assert reader.head()
    assert reader.text() == b"a" * size


def test_the_head_of_a_frame_above_the_limit_is_the_same_however_it_is_cut() -> None:
    data = bytes.fromhex("00100001 1001 2c3c 4000 560500000000 00 66 000000")
    [whole] = decoded(TarsSpec(), [data], 1 << 20).found
    [split] = decoded(TarsSpec(), one_by_one(data), 1 << 20).found
    assert whole.key() == split.key()
