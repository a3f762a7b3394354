"""The strings before the arguments in every serialization of Dubbo: real bodies, parts of them, and what may be done."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.dubbo_messages import SPEC
from tests.unit.protocol.rpc_frames import encoded, only

from pymosn.api.rpc import RpcRequest
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.fronts import read_front
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dubbo-serializations.txt"
LONG = f"interop.{'l' * 100}.Service"
#: What the three bodies of each serialization contain: service, version, method.
CONTENTS = [
    ("interop.EchoService", "1.0.1", "echo"),
    (LONG, "", "grüße"),
    (LONG * 3, "", "grüße"),
]
BODIES: dict[str, tuple[int, int, bytes]] = {}
for line in FIXTURES.read_text().splitlines():
    if not line.startswith("#"):
        name, serialization, number, digits = line.split()
        BODIES[f"{name}-{number}"] = (int(serialization), int(number), bytes.fromhex(digits))


def request(serialization: int, body: bytes) -> RpcRequest:
    found = only(SPEC, frame(0xC0 + serialization, 0, body))
    assert found.request is not None
    return found.request


def test_all_serializations_are_there() -> None:
    assert sorted({serialization for serialization, _, _ in BODIES.values()}) == [
        3,
        4,
        7,
        8,
        9,
        10,
        11,
        12,
        16,
        21,
        22,
        25,
        27,
    ]
    assert len(BODIES) == 3 * 13


@pytest.mark.parametrize("name", BODIES)
def test_routes_and_logs_know_service_method_and_version(name: str) -> None:
    serialization, number, body = BODIES[name]
    service, version, method = CONTENTS[number]
    found = request(serialization, body)
    assert (found.service(), found.method_name()) == (service, method)
    assert (found.route_value("service"), found.route_value("method"), found.route_value("version")) == (
        service,
        method,
        version,
    )
    assert read_front(body, serialization).dubbo == b"2.0.2"


@pytest.mark.parametrize("name", BODIES)
def test_rules_that_guard_are_not_given_what_attachments_may_replace(name: str) -> None:
    serialization, _, body = BODIES[name]
    found = request(serialization, body)
    for use in (
        lambda: found.headers.get("service"),
        lambda: found.headers.items(),
        lambda: found.headers.get("group"),
        lambda: found.headers.set("service", "other"),
        lambda: found.route_value("group"),
    ):
        with pytest.raises(UnreadableHeaders):
            use()
    assert encoded(found, 1, found.payload) == frame(0xC0 + serialization, 0, body)


@pytest.mark.parametrize("name", [name for name in BODIES if not name.endswith("-2")])
def test_a_body_that_is_cut_off_is_forwarded_but_not_routed(name: str) -> None:
    serialization, number, body = BODIES[name]
    service = CONTENTS[number][0]
    for end in range(len(body)):
        found = request(serialization, body[:end])
        try:
            assert found.service() == service, end
            assert end > len(service)
        except UnreadableHeaders:
            assert end < 250
    # Whatever the bytes are, nothing else is raised.
    for at in range(min(len(body), 120)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            changed = body[:at] + bytes((value,)) + body[at + 1 :]
            try:
                read_front(changed, serialization)
            except Hessian2Error:
                continue


@pytest.mark.parametrize(
    ("serialization", "body"),
    [
        (3, b"\xac\xed\x00\x05\x77\x04\xff\xff\xff\xff\x77\x06\x00\x00\x00\x01\x00\x01" + b"a"),
        (3, b"\xac\xed\x00\x04\x77\x04\xff\xff\xff\xff"),
        (7, b"\xac\xed\x00\x05\x77\x03\x00\x01\xff"),
        (8, b"ab"),
        (9, b"\x81\x00\x00"),
        (11, b"\x01"),
        (11, b"\xff\xff\xff\xff\xff\xff"),
        (12, b"\x7f\xff\xff\xff"),
        (22, b"\x03\x0a\x05abc"),
        (22, b"\x03\x12\x01a"),
        (22, b"\x04\x0a\x01a\x00"),
        (27, b"\x93"),
        (27, b"\xdb\xff\xff\xff\xff"),
        (99, b"\x05hello"),
    ],
)
def test_what_is_no_string(serialization: int, body: bytes) -> None:
    with pytest.raises(Hessian2Error):
        read_front(body, serialization)


def test_java_joins_blocks_and_knows_null_and_overlong_characters() -> None:
    magic = b"\xac\xed\x00\x05"
    data = b"\x00\x03a\xc1\xa2" + b"\x00\x01s" + b"\x00\x01v" + b"\x00\x01m"
    stream = magic + b"\x77\x02" + data[:2] + b"\x7a\x00\x00\x00\x04" + data[2:6] + b"\x77\x08" + data[6:]
    front = read_front(stream, 7)
    assert (front.dubbo, front.service, front.version, front.method) == (b"ab", b"s", b"v", b"m")
    null = b"\xff\xff\xff\xff"
    data = null + b"\x00\x00\x00\x01\x00\x01s" + null + null
    front = read_front(magic + b"\x77" + bytes((len(data),)) + data, 3)
    assert (front.dubbo, front.service, front.version, front.method) == (None, b"s", None, None)
