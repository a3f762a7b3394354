"""The header of the PROXY protocol, version 1 (text) and 2 (binary), as HAProxy's proxy-protocol.txt specifies it.

A header that is not exactly as specified is refused: the receiver would otherwise believe a wrong address, or take bytes of
the header for bytes of the client. Of the additional fields (TLVs) of version 2 only the checksum is used.
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i16_be, read_i32_be
from mypy_extensions import i64

from pymosn.api.protocol import ProtocolError
from pymosn.core.addresses import ip_text, normal_ip, packed_ip, port_number
from pymosn.core.failure import BAD_PROXY_HEADER, NO_PROXY_HEADER

#: The kinds of headers: of a connection that the load balancer makes for itself, without addresses, or of a client.
LOCAL: Final = "LOCAL"
UNKNOWN: Final = "UNKNOWN"
TCP4: Final = "TCP4"
TCP6: Final = "TCP6"
UNIX: Final = "UNIX"

V1: Final = "v1"
V2: Final = "v2"

_BEGIN_V1: Final = b"PROXY "
#: The longest line of version 1, with its end.
_LONGEST_V1: Final[i64] = 107
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final[i64] = 16
#: Maximum bytes after the fixed part of version 2. The specification permits 64 KiB, senders use some hundreds.
LARGEST_V2: Final[i64] = 4096
_CHECKSUM: Final[i64] = 3

#: Families and transports of version 2 with the lengths of their addresses. Datagrams do not arrive on a connection.
_ADDRESS_SIZES: Final[dict[int, int]] = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}


class ProxyHeader:
    """A complete header. Immutable."""

    def __init__(
        self, kind: str, size: i64, source_ip: str = "", source_port: i64 = 0, target_ip: str = "", target_port: i64 = 0
    ) -> None:
        """`size`: bytes of the header. Source: the client's end of its connection; target: the end that it connected to.

        Mapped IPv4 addresses are IPv4 addresses here. The addresses are empty except for TCP4 and TCP6.
        """
        self.kind = kind
        self.size = size
        self.source_ip = source_ip
        self.source_port = source_port
        self.target_ip = target_ip
        self.target_port = target_port


def read_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of a connection; None if `data`, not empty, is only a part of it.

    Raises ProtocolError: NO_PROXY_HEADER for bytes with which no header begins, otherwise BAD_PROXY_HEADER.
    """
    if data[0] == 0x0D:
        return _read_v2(data)
    if not data.startswith(_BEGIN_V1):
        if _BEGIN_V1.startswith(data):
            return None
        raise ProtocolError(NO_PROXY_HEADER, "no header begins like this")
    return _read_v1(data)


def _bad(detail: str) -> ProtocolError:
    return ProtocolError(BAD_PROXY_HEADER, detail)


def _read_v1(data: bytes) -> ProxyHeader | None:
    """Reads `PROXY TCP4 source target port port` or `PROXY UNKNOWN` with anything after it, ended by CR LF."""
    end = data.find(b"\n", 0, _LONGEST_V1)
    if end < 0:
        if len(data) >= _LONGEST_V1:
            raise _bad(f"no end of line in {_LONGEST_V1} bytes")
        return None
    if data[end - 1] != 0x0D:
        raise _bad("the line ends with LF alone, expected CR LF")
    size: i64 = end + 1
    try:
        fields = data[len(_BEGIN_V1) : end - 1].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise _bad("the line is not ASCII") from None
    kind = fields[0]
    if kind == UNKNOWN:
        return ProxyHeader(UNKNOWN, size)
    if kind not in (TCP4, TCP6):
        raise _bad(f"protocol {kind!r}, expected TCP4, TCP6 or UNKNOWN")
    if len(fields) != 5:
        raise _bad(f"{len(fields)} fields after PROXY, expected 5")
    return ProxyHeader(kind, size, _ip(fields[1], kind), _port(fields[3]), _ip(fields[2], kind), _port(fields[4]))


def _ip(text: str, kind: str) -> str:
    ip = normal_ip(text) if (":" in text) == (kind == TCP6) else ""
    if not ip:
        raise _bad(f"{text!r} is not an address of {kind}")
    return ip


def _port(text: str) -> i64:
    port: i64 = port_number(text)
    if port < 0 or (len(text) > 1 and text[0] == "0"):
        raise _bad(f"{text!r} is not a port")
    return port


def _read_v2(data: bytes) -> ProxyHeader | None:
    size: i64 = len(data)
    if not data.startswith(_SIGNATURE):
        if _SIGNATURE.startswith(data):
            return None
        raise ProtocolError(NO_PROXY_HEADER, "no header begins like this")
    if size > 12 and data[12] not in (0x20, 0x21):
        raise _bad(f"version and command {data[12]:#04x}, expected 0x20 or 0x21")
    if size > 13 and data[12] == 0x21 and data[13] not in _ADDRESS_SIZES:
        raise _bad(f"family and transport {data[13]:#04x}, expected 0x00, 0x11, 0x21 or 0x31")
    if size < _FIXED:
        return None
    length = _u16(data, 14)
    if length > LARGEST_V2:
        raise _bad(f"{length} bytes of addresses and further fields, expected at most {LARGEST_V2}")
    if data[12] == 0x20:
        return ProxyHeader(LOCAL, _FIXED + length) if size >= _FIXED + length else None
    addresses: i64 = _ADDRESS_SIZES[data[13]]
    if length < addresses:
        raise _bad(f"{length} bytes, expected at least the {addresses} of the addresses")
    end = _FIXED + length
    if size < end:
        return None
    _check_fields(data, _FIXED + addresses, end)
    if addresses == 12 or addresses == 36:
        middle = _FIXED + (addresses - 4) // 2
        ports = _FIXED + addresses - 4
        source, target = ip_text(data[_FIXED:middle]), ip_text(data[middle:ports])
        return ProxyHeader(TCP4 if addresses == 12 else TCP6, end, source, _u16(data, ports), target, _u16(data, ports + 2))
    return ProxyHeader(UNKNOWN if addresses == 0 else UNIX, end)


def _u16(data: bytes, at: i64) -> i64:
    """The unsigned 16-bit number at offset `at`."""
    return i64(read_i16_be(data, at)) & 0xFFFF


def _check_fields(data: bytes, at: i64, end: i64) -> None:
    """Checks the lengths of the additional fields, and the checksum of the header if there is one."""
    while at < end:
        if at + 3 > end or at + 3 + _u16(data, at + 1) > end:
            raise _bad("invalid length of a further field")
        value = at + 3
        length = _u16(data, at + 1)
        if data[at] == _CHECKSUM:
            if length != 4:
                raise _bad(f"a checksum of {length} bytes, expected 4")
            found = i64(read_i32_be(data, value)) & 0xFFFFFFFF
            expected = crc32c(data[:value] + bytes(4) + data[value + 4 : end])
            if found != expected:
                raise _bad(f"checksum {found:08x}, expected {expected:08x}")
        at = value + length


def _crc_table() -> list[int]:
    table: list[int] = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC: Final = _crc_table()


def crc32c(data: bytes) -> i64:
    """The CRC-32C of `data` (RFC 3720 appendix B.4)."""
    value: i64 = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def local_header(version: str) -> bytes:
    """The header of a connection that the proxy makes for itself, such as a health check."""
    return b"PROXY UNKNOWN\r\n" if version == V1 else _SIGNATURE + b"\x20\x00\x00\x00"


def write_header(version: str, source_ip: str, source_port: i64, target_ip: str, target_port: i64) -> bytes:
    """The header for a client, whose addresses are IP addresses, or empty if it came by a unix socket.

    If only one of the two is an IPv6 address, the other one becomes a mapped one.
    """
    if version == V1:
        return _write_v1(source_ip, source_port, target_ip, target_port)
    source, target = packed_ip(source_ip), packed_ip(target_ip)
    if not source or not target:
        return _SIGNATURE + b"\x21\x00\x00\x00"
    if len(source) != len(target):
        source, target = _mapped(source), _mapped(target)
    family = b"\x21\x11\x00\x0c" if len(source) == 4 else b"\x21\x21\x00\x24"
    return _SIGNATURE + family + source + target + _put16(source_port) + _put16(target_port)


def _write_v1(source_ip: str, source_port: i64, target_ip: str, target_port: i64) -> bytes:
    if not source_ip or not target_ip:
        return b"PROXY UNKNOWN\r\n"
    kind = TCP4
    if ":" in source_ip or ":" in target_ip:
        kind = TCP6
        source_ip = source_ip if ":" in source_ip else f"::ffff:{source_ip}"
        target_ip = target_ip if ":" in target_ip else f"::ffff:{target_ip}"
    return f"PROXY {kind} {source_ip} {target_ip} {source_port} {target_port}\r\n".encode("ascii")


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def _put16(number: i64) -> bytes:
    return int(number).to_bytes(2, "big")
