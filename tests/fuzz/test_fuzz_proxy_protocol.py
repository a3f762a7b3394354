"""Fuzzing of the PROXY protocol: it never fails but by ProtocolError, never depends on splits, and reads what is written.

The second opinion on version 1 is a regular expression with the `ipaddress` module, on version 2 `struct`.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_bolt import EDITS, edited
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import BAD_PROXY_HEADER, NO_PROXY_HEADER
from pymosn.protocol.proxy_protocol.header import (
    LARGEST_V2,
    UNKNOWN,
    V1,
    V2,
    ProxyHeader,
    crc32c,
    local_header,
    read_header,
    write_header,
)

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPS = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)
VERSIONS = st.sampled_from([V1, V2])
WRITTEN = st.builds(write_header, VERSIONS, IPS, PORTS, IPS, PORTS) | st.builds(local_header, VERSIONS)
FIELDS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=9)), max_size=3).map(
    lambda fields: b"".join(bytes([kind]) + struct.pack("!H", len(value)) + value for kind, value in fields)
)
BINARY = st.builds(
    lambda command, family, content: SIGNATURE + bytes([command, family]) + struct.pack("!H", len(content)) + content,
    st.sampled_from([0x20, 0x21, 0x21, 0x21, 0x11]),
    st.sampled_from([0x00, 0x11, 0x21, 0x31, 0x12]),
    st.builds(lambda size, fields: bytes(range(size)) + fields, st.sampled_from([0, 12, 36, 216]), FIELDS),
)
ANY = st.builds(edited, WRITTEN | BINARY, EDITS) | WRITTEN | BINARY | st.binary(max_size=40)
LINE = re.compile(
    rb"PROXY (?:(UNKNOWN)(?: [\x00-\x7f]*)?"
    rb"|(TCP[46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))"
)


def read(data: bytes) -> ProxyHeader | str | None:
    try:
        return read_header(data)
    except ProtocolError as error:
        failure = error.failure
    assert failure in (BAD_PROXY_HEADER, NO_PROXY_HEADER)
    return failure.reason


def facts(header: ProxyHeader) -> tuple[str, int, str, int, str, int]:
    return (header.kind, header.size, header.source_ip, header.source_port, header.target_ip, header.target_port)


def plain(address: IPv4Address | IPv6Address) -> str:
    """As text, a mapped IPv4 address as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def expected_v1(line: bytes) -> tuple[str, str, int, str, int] | None:
    """What a line without its end means; None if it is invalid."""
    found = LINE.fullmatch(line)
    if found is None:
        return None
    if found[1]:
        return UNKNOWN, "", 0, "", 0
    try:
        ends = [ip_address(found[3].decode()), ip_address(found[4].decode())]
    except ValueError:
        return None
    ports = [int(found[5]), int(found[6])]
    if any(f"TCP{end.version}".encode() != found[2] for end in ends) or max(ports) > 65535:
        return None
    return found[2].decode(), plain(ends[0]), ports[0], plain(ends[1]), ports[1]


def check_any(data: bytes) -> None:
    if not data:
        return
    whole = read(data)
    for size in range(1, len(data)):
        part = read(data[:size])
        if isinstance(part, str):
            assert part == whole
        elif part is not None:
            assert isinstance(whole, ProxyHeader)
            assert facts(part) == facts(whole)
    if isinstance(whole, ProxyHeader):
        assert whole.size <= len(data)
        assert whole.size <= 16 + LARGEST_V2
        assert isinstance(read(data[: whole.size] + b"more"), ProxyHeader)


def check_v1(line: bytes) -> None:
    data = b"PROXY " + line + b"\r\n"
    if len(data) > 107 or b"\n" in line:
        return
    expected, found = expected_v1(data[:-2]), read(data)
    if expected is None:
        assert found == BAD_PROXY_HEADER.reason
    else:
        assert isinstance(found, ProxyHeader)
        assert facts(found) == (expected[0], len(data), *expected[1:])


def check_v2(data: bytes) -> None:
    found = read(data)
    if not isinstance(found, ProxyHeader) or found.kind not in ("TCP4", "TCP6"):
        return
    form = "!4s4sHH" if found.kind == "TCP4" else "!16s16sHH"
    source, target, source_port, target_port = struct.unpack_from(form, data, 16)
    assert facts(found)[2:] == (plain(ip_address(source)), source_port, plain(ip_address(target)), target_port)


def check_written(version: str, source: str, source_port: int, target: str, target_port: int, rest: bytes) -> None:
    data = write_header(version, source, source_port, target, target_port)
    found = read(data + rest)
    assert isinstance(found, ProxyHeader)
    kind = "TCP6" if ":" in source + target else "TCP4"
    ends = plain(ip_address(source)), source_port, plain(ip_address(target)), target_port
    assert facts(found) == (kind, len(data), *ends)


def check_checksum(content: bytes, at: int, bit: int) -> None:
    """A header with a checksum is believed, and with any bit of it changed it is not believed with the same addresses."""
    body = bytes(range(12)) + b"\x04" + struct.pack("!H", len(content)) + content + b"\x03\x00\x04"
    head = SIGNATURE + b"\x21\x11" + struct.pack("!H", len(body) + 4) + body
    data = head + struct.pack("!I", crc32c(head + bytes(4)))
    assert isinstance(read(data), ProxyHeader)
    place = 16 + at % 12
    assert read(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]) == BAD_PROXY_HEADER.reason


TEXT_IPS = IPS | st.sampled_from(["1.2.3", "01.2.3.4", "::ffff:1.2.3.4", "1::2::3", "", "::1%lo"])
TEXT_PORTS = st.integers(-1, 70000).map(str) | st.sampled_from(["", "00", "1 ", "+1"])
LINES = st.builds(
    lambda kind, source, target, first, second: f"{kind} {source} {target} {first} {second}".encode(),
    st.sampled_from(["TCP4", "TCP6", "UNKNOWN", "UDP4"]),
    *(TEXT_IPS, TEXT_IPS, TEXT_PORTS, TEXT_PORTS),
)


def test_any_bytes() -> None:
    fuzz(check_any, 400, ANY)


def test_lines() -> None:
    fuzz(check_v1, 1000, LINES | st.builds(edited, LINES, EDITS) | st.binary(max_size=99))


def test_binary_headers() -> None:
    fuzz(check_v2, 700, BINARY | st.builds(edited, BINARY, EDITS))


def test_what_is_written_is_read() -> None:
    fuzz(check_written, 700, VERSIONS, IPS, PORTS, IPS, PORTS, st.binary(max_size=20))


def test_checksums() -> None:
    fuzz(check_checksum, 300, st.binary(max_size=30), st.integers(0, 11), st.integers(0, 7))
