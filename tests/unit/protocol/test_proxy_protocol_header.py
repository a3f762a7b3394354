"""The codec of the PROXY protocol: tables of headers, every truncation, and what is written is read again."""

from __future__ import annotations

import socket

import pytest

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import BAD_PROXY_HEADER, NO_PROXY_HEADER
from pymosn.protocol.proxy_protocol.header import (
    LARGEST_V2,
    LOCAL,
    TCP4,
    TCP6,
    UNIX,
    UNKNOWN,
    V1,
    V2,
    ProxyHeader,
    crc32c,
    local_header,
    read_header,
    write_header,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
ADDRESSES = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big")
ADDRESSES_6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2") + ADDRESSES[8:]
)


def v2(command: int, family: int, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + content


def field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def read(data: bytes) -> ProxyHeader:
    header = read_header(data)
    assert header is not None
    return header


def values(header: ProxyHeader) -> tuple[str, str, int, str, int]:
    return header.kind, header.source_ip, header.source_port, header.target_ip, header.target_port


V4 = (TCP4, "192.0.2.1", 4711, "198.51.100.2", 443)
V6 = (TCP6, "2001:db8::1", 4711, "2001:db8::2", 443)
NOTHING = ("", 0, "", 0)
GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", V4),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", (TCP4, "0.0.0.0", 0, "255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", V6),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 2001:0db8::0002 4711 443\r\n", V6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 4711 443\r\n", (TCP6, *V4[1:])),
    (b"PROXY TCP6" + b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * 2 + b" 65535 65535\r\n",
     (TCP6, *("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535) * 2)),
    (b"PROXY UNKNOWN\r\n", (UNKNOWN, *NOTHING)),
    (b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
     (UNKNOWN, *NOTHING)),
    (b"PROXY UNKNOWN anything at all\r\n", (UNKNOWN, *NOTHING)),
    (v2(0x21, 0x11, ADDRESSES), V4),
    (v2(0x21, 0x11, ADDRESSES + field(4, b"padding") + field(0xEA, b"\x01vpce")), V4),
    (v2(0x21, 0x21, ADDRESSES_6), V6),
    (v2(0x21, 0x31, bytes(216)), (UNIX, *NOTHING)),
    (v2(0x21, 0x00, b""), (UNKNOWN, *NOTHING)),
    (v2(0x21, 0x00, field(4, b"x")), (UNKNOWN, *NOTHING)),
    (v2(0x20, 0x00, b""), (LOCAL, *NOTHING)),
    (v2(0x20, 0x11, ADDRESSES), (LOCAL, *NOTHING)),
    (v2(0x20, 0xFF, b"anything"), (LOCAL, *NOTHING)),
    (v2(0x21, 0x11, ADDRESSES + field(4, bytes(LARGEST_V2 - 15))), V4),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_headers(data: bytes, expected: tuple[str, str, int, str, int]) -> None:
    header = read(data)
    assert values(header) == expected
    assert header.size == len(data)
    assert values(read(data + b"GET / HTTP/1.1\r\n\r\n")) == expected
    assert read(data + b"\r\n\r\n").size == len(data)


@pytest.mark.parametrize("data", [data for data, _ in GOOD])
def test_every_beginning_is_incomplete(data: bytes) -> None:
    for size in range(1, len(data)):
        assert read_header(data[:size]) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\n", "LF alone"),
        (b"PROXY \n", "LF alone"),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 4711 443\r\n", "6 fields after PROXY, expected 5"),
        (b"PROXY  TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", "protocol ''"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443 \r\n", "6 fields"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n", "4 fields"),
        (b"PROXY TCP4\t192.0.2.1 198.51.100.2 4711 443\r\n", "protocol"),
        (b"PROXY tcp4 192.0.2.1 198.51.100.2 4711 443\r\n", "protocol 'tcp4', expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 4711 443\r\n", "protocol 'UDP4'"),
        (b"PROXY \r\n", "protocol ''"),
        (b"PROXY UNKNOWN2\r\n", "protocol 'UNKNOWN2'"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n", "'2001:db8::1' is not an address of TCP4"),
        (b"PROXY TCP6 192.0.2.1 198.51.100.2 4711 443\r\n", "'192.0.2.1' is not an address of TCP6"),
        (b"PROXY TCP6 2001:db8::1 198.51.100.2 4711 443\r\n", "'198.51.100.2' is not an address of TCP6"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.2 4711 443\r\n", "'192.0.2.256' is not an address"),
        (b"PROXY TCP4 192.0.2 198.51.100.2 4711 443\r\n", "'192.0.2' is not an address"),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 4711 443\r\n", "'192.0.2.01' is not an address"),
        (b"PROXY TCP4 192.0.2.1\x00 198.51.100.2 4711 443\r\n", "is not an address"),
        (b"PROXY TCP4  198.51.100.2 4711 443\r\n", "'' is not an address"),
        (b"PROXY TCP6 fe80::1%eth0 2001:db8::2 4711 443\r\n", "is not an address of TCP6"),
        (b"PROXY TCP6 [2001:db8::1] 2001:db8::2 4711 443\r\n", "is not an address of TCP6"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 04711 443\r\n", "'04711' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 00\r\n", "'00' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "'65536' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n", "'-1' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", "'+1' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2  443\r\n", "'' is not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\r\n", "'443\\r' is not a port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 4711 ٣\r\n".encode(), "not ASCII"),
        (b"PROXY UNKNOWN " + b"x" * 93, "no end of line in 107 bytes"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no end of line in 107 bytes"),
        (SIGNATURE + b"\x11", "version and command 0x11"),
        (SIGNATURE + b"\x22", "version and command 0x22"),
        (SIGNATURE + b"\x31", "version and command 0x31"),
        (SIGNATURE + b"\x21\x12", "family and transport 0x12"),
        (SIGNATURE + b"\x21\x10", "family and transport 0x10"),
        (SIGNATURE + b"\x21\x01", "family and transport 0x01"),
        (SIGNATURE + b"\x21\x41", "family and transport 0x41"),
        (v2(0x21, 0x11, b"", LARGEST_V2 + 1), "4097 bytes of addresses and further fields, expected at most 4096"),
        (v2(0x20, 0x00, b"", 65535), "65535 bytes of addresses"),
        (v2(0x21, 0x11, ADDRESSES[:-1]), "11 bytes, expected at least the 12 of the addresses"),
        (v2(0x21, 0x21, ADDRESSES_6[:-1]), "35 bytes, expected at least the 36"),
        (v2(0x21, 0x31, bytes(215)), "215 bytes, expected at least the 216"),
        (v2(0x21, 0x11, ADDRESSES + b"\x04"), "invalid length of a further field"),
        (v2(0x21, 0x11, ADDRESSES + b"\x04\x00\x01"), "invalid length of a further field"),
        (v2(0x21, 0x11, ADDRESSES + field(4, b"") + b"\x01\x00"), "invalid length of a further field"),
        (v2(0x21, 0x11, ADDRESSES + field(3, b"abc")), "a checksum of 3 bytes, expected 4"),
        (v2(0x21, 0x11, ADDRESSES + field(3, bytes(4))), "checksum 00000000, expected"),
    ],
)  # fmt: skip
def test_invalid_headers(data: bytes, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_header(data)
    assert caught.value.failure is BAD_PROXY_HEADER
    assert text in caught.value.detail


@pytest.mark.parametrize(
    "data",
    [
        *(b"GET / HTTP/1.1\r\n", b"PROXYTCP4", b"PROX ", b"proxy TCP4", b" PROXY", b"\r\nGET", b"\n", b"\x16\x03\x01"),
        SIGNATURE[:-1] + b"x",
    ],
)
def test_bytes_with_which_no_header_begins(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_header(data)
    assert caught.value.failure is NO_PROXY_HEADER


def test_a_fault_is_found_before_the_header_is_complete() -> None:
    """So nobody waits for the rest of 64 KiB."""
    for data in (SIGNATURE + b"\x11", SIGNATURE + b"\x21\x12", v2(0x21, 0x11, b"", 4097)):
        with pytest.raises(ProtocolError):
            read_header(data)


def test_the_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    content = ADDRESSES + field(4, b"x") + field(3, bytes(4)) + field(5, b"id")
    zeroed = v2(0x21, 0x11, content)
    at = zeroed.index(field(3, bytes(4))) + 3
    good = zeroed[:at] + crc32c(zeroed).to_bytes(4, "big") + zeroed[at + 4 :]
    assert values(read(good)) == V4
    for position in (16, 20, 27, len(good) - 1):
        bad = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(ProtocolError, match="checksum"):
            read_header(bad)


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        *(("192.0.2.1", "198.51.100.2", TCP4), ("2001:db8::1", "2001:db8::2", TCP6), ("192.0.2.1", "2001:db8::2", TCP6)),
        *(("2001:db8::1", "198.51.100.2", TCP6), ("::1", "::1", TCP6), ("", "", UNKNOWN), ("", "192.0.2.1", UNKNOWN)),
    ],
)
def test_what_is_written_is_read(version: str, source: str, target: str, kind: str) -> None:
    data = write_header(version, source, 65535, target, 1)
    header = read(data)
    assert header.size == len(data)
    assert values(header) == ((kind, source, 65535, target, 1) if kind != UNKNOWN else (UNKNOWN, *NOTHING))
    assert data.startswith(b"PROXY " if version == V1 else SIGNATURE)


def test_written_headers_byte_by_byte() -> None:
    assert write_header(V1, "192.0.2.1", 4711, "198.51.100.2", 443) == GOOD[0][0]
    assert write_header(V2, "192.0.2.1", 4711, "198.51.100.2", 443) == v2(0x21, 0x11, ADDRESSES)
    assert write_header(V2, "2001:db8::1", 4711, "2001:db8::2", 443) == v2(0x21, 0x21, ADDRESSES_6)
    assert write_header(V2, "", 0, "", 0) == v2(0x21, 0x00, b"")
    mixed = write_header(V1, "192.0.2.1", 1, "2001:db8::2", 2)
    assert mixed == b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"


def test_headers_of_the_proxys_own_connections() -> None:
    assert local_header(V1) == b"PROXY UNKNOWN\r\n"
    assert local_header(V2) == v2(0x20, 0x00, b"")
    assert values(read(local_header(V2))) == (LOCAL, *NOTHING)
