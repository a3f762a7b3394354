"""Dubbo calls that are not in hessian 2."""

from __future__ import annotations

import struct

import pytest
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.dubbo_messages import SPEC, local
from tests.unit.protocol.rpc_frames import encoded, only, recorded

from pymosn.api.protocol import GOAWAY, REQUEST
from pymosn.core.headers import HeaderError
from pymosn.protocol.dubbo.java_text import write_text


@pytest.mark.parametrize("flags", [0xC2 + 21, 0xC1, 0xC0])
def test_another_serialization_is_passed_through(flags: int) -> None:
    raw = frame(flags, 0, b"\xff whatever timeout")
    found = only(SPEC, raw)
    assert found.kind == REQUEST
    assert found.message.headers.items() == []
    assert found.request is not None
    assert found.request.service() == ""
    assert not found.request.has_timeout
    assert encoded(found.message, 1, found.message.payload) == raw
    with pytest.raises(HeaderError, match="serialization"):
        found.message.headers.set("group", "a")
    assert encoded(found.message, 1, b"other") == frame(flags, 0, b"other")


FASTJSON2 = recorded("dubbo-3-fastjson2")


@pytest.mark.parametrize("name", [name for name in FASTJSON2 if name.endswith("request") and FASTJSON2[name][2] & 0x20 == 0])
def test_a_recorded_request_in_fastjson2_names_its_service(name: str) -> None:
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
    assert encoded(found.request, found.request_id, found.request.payload) == raw
    assert local(found, 504) == frame(2, 31, write_text(b"504|timeout"), found.request_id)


def test_recorded_events_in_fastjson2() -> None:
    assert only(SPEC, FASTJSON2["heartbeat.request"]).answer == FASTJSON2["heartbeat.reply"]
    assert only(SPEC, FASTJSON2["readonly.request"]).kind == GOAWAY
    for name, raw in FASTJSON2.items():
        if name.endswith("reply") and raw[2] & 0x20 == 0:
            message = only(SPEC, raw).message
            assert message.status == 200
            assert encoded(message, only(SPEC, raw).request_id, message.payload) == raw


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
    assert encoded(found.request, 1, body) == frame(0xC0 + 23, 0, body)
