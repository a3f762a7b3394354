"""Attachments of Dubbo calls: how they are read and changed, and what cannot be."""

from __future__ import annotations

import pytest
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.dubbo_messages import CALL, FRAMES, SPEC, request
from tests.unit.protocol.rpc_frames import encoded, only

from pymosn.core.failure import UNREADABLE_HEADERS
from pymosn.core.headers import HeaderError, Headers
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.attachments import MAX_ATTACHMENTS, argument_count
from pymosn.protocol.dubbo.hessian2 import Hessian2Error
from pymosn.protocol.dubbo.java_text import write_text

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
        (b"H\x01a\x01b\x01a\x01bZ", [("a", "b")]),
        (b"H\x01aN\x01b\x91\x01cT\x01dL" + bytes(7) + b"\x05Z", [("b", "1"), ("c", "true"), ("d", "5")]),
        (b"H\x04NAME\x01bZ", [("name", "b")]),
        (b"H\x02\xc3\xa9\xe2\x82\xac\x00Z", [("é€", "")]),
        (b"H\x90\x01b\xe1\x01cZ", [("0", "b"), ("1", "c")]),
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


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 1023, 1024])
@pytest.mark.parametrize("behind", [b"", b"\x90"])
def test_a_map_of_ascii_strings_reads_like_any_other(size: int, behind: bytes) -> None:
    name, value = b"k" * (size or 1), b"v" * size
    entries = b"\x01a\x01b" + write_text(name) + write_text(value) + b"\x01A\x01b"
    plain = request(CALL + b"\x00H" + entries + b"Z" + behind)
    typed = request(CALL + b"\x00M\x01t" + entries + b"Z" + behind)
    for message in (plain, typed):
        assert message.headers.get("a") == "b"  # found in the map, without decoding all of it
        assert message.headers.get("K" * (size or 1)) == value.decode()
        assert message.headers.get("b") is None
        message.headers["x"] = "y"
    assert plain.headers.items() == typed.headers.items()
    written = [encoded(message, 1, message.payload) for message in (plain, typed)]
    assert written[0] == frame(0xC2, 0, CALL + b"\x00H" + entries + b"\x01x\x01yZ" + behind, 1)
    assert written[1] == frame(0xC2, 0, CALL + b"\x00M\x01t" + entries + b"\x01x\x01yZ" + behind, 1)


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


@pytest.mark.parametrize(
    "types", [b"Ljava", b"X", b"I;", b"\xff", b"[L", b"I[", b"L;", b"L II;", b"L1;", b"Ljava//I;", b"La/;"]
)
def test_types_that_are_none(types: bytes) -> None:
    with pytest.raises(Hessian2Error):
        argument_count(types)


def refuses_everything(headers: Headers) -> None:
    """Whether whatever reads or changes attachments, or what they may replace, raises."""
    for use in (
        lambda: headers.items(),
        lambda: headers.get("group"),
        lambda: headers.get_all("group"),
        lambda: "group" in headers,
        lambda: headers.get("service"),
        lambda: headers.get("version"),
        lambda: headers.set("a", "b"),
        lambda: headers.add("a", "b"),
        lambda: headers.remove("a"),
        lambda: headers.set("service", "b"),
        lambda: headers.add_raw(b"a", b"b"),
        lambda: headers.remove_raw(b"a"),
        lambda: headers.copy(),
    ):
        with pytest.raises(UnreadableHeaders) as caught:
            use()
        assert caught.value.failure is UNREADABLE_HEADERS


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
def test_unreadable_attachments_are_forwarded_and_can_be_neither_read_nor_changed(tail: bytes) -> None:
    message = request(CALL + tail)
    assert message.headers.get("method") == "m"  # attachments do not replace it
    assert message.headers.get("dubbo") == "2.0.2"
    refuses_everything(message.headers)
    assert "unreadable" in repr(message.headers)
    assert not message.headers.remove_raw(b"service")
    assert encoded(message, 3, message.payload) == frame(0xC2, 0, CALL + tail, 3)


def test_the_service_changes_wherever_it_appears() -> None:
    message = request(CALL + b"\x00H\x04path\x01S\x09interface\x01S\x07version\x01v\x01x\x01yZ")
    message.headers.set("service", "T")
    message.headers.set("Version", "2")
    assert message.headers.get("service") == "T"
    assert message.service() == "T"
    body = b"\x052.0.2\x01T\x012\x01m\x00H\x04path\x01T\x09interface\x01T\x07version\x012\x01x\x01yZ"
    assert encoded(message, 1, message.payload) == frame(0xC2, 0, body)


def test_the_fields_before_the_attachments_cannot_be_lost() -> None:
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
    raw = b"H\x01aHZ\x01bQ\x91\x01cN\x01d\x91Z"
    message = request(CALL + b"\x00" + raw)
    for change in (
        lambda: message.headers.set("A", "x"),
        lambda: message.headers.remove("a"),
        lambda: message.headers.remove_raw(b"a"),
    ):
        with pytest.raises(UnreadableHeaders, match="an object"):
            change()
    message.headers.set("b", "x")
    message.headers.set("c", "y")
    assert message.headers.remove("d")
    assert encoded(message, 1, message.payload) == frame(0xC2, 0, CALL + b"\x00H\x01aHZ\x01b\x01x\x01c\x01yZ")


def test_a_null_map_gets_its_first_attachment() -> None:
    message = request(CALL + b"\x00N")
    message.headers.set("a", "b")
    assert encoded(message, 1, message.payload) == frame(0xC2, 0, CALL + b"\x00H\x01a\x01bZ")


def test_a_copy_of_the_headers_is_equal() -> None:
    raw = FRAMES["dubbo-2.7/mixed.request"]
    found = only(SPEC, raw)
    found.message.headers = found.message.headers.copy()
    assert encoded(found.message, found.request_id, found.message.payload) == raw
    found.message.headers.set("group", "x")
    assert only(SPEC, encoded(found.message, 1, found.message.payload)).message.headers.get("group") == "x"


def test_a_body_of_a_filter_gets_the_changed_attachments() -> None:
    message = request(CALL + b"\x00H\x01a\x01bZ")
    message.headers.set("a", "c")
    body = CALL + b"\x01I\x91H\x01a\x01b\x01x\x01yZ"
    assert encoded(message, 1, body) == frame(0xC2, 0, CALL + b"\x01I\x91H\x01a\x01cZ")
    with pytest.raises(HeaderError, match="the body that a filter set"):
        encoded(message, 1, b"no hessian")


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
