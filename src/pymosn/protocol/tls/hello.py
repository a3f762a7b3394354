"""Reads the ClientHello, the first message of a TLS connection (RFC 8446 section 4.1.2), without changing or answering it.

The context of a connection is chosen from it, before the handshake. So OpenSSL must see the same in it: every length is
checked, nothing may be left over, and an extension that occurs twice is refused. Fields that only fingerprints need are
checked at once, and read when they are asked for.
"""

from __future__ import annotations

import hashlib
from typing import Final

from librt.strings import read_i16_be
from mypy_extensions import i64

from pymosn.api.protocol import ProtocolError
from pymosn.api.tls import Fingerprints
from pymosn.core.failure import BAD_CLIENT_HELLO, NOT_TLS

#: Maximum bytes of a ClientHello with its record headers.
HELLO_LIMIT: Final[i64] = 16 * 1024

#: Record and message header, version, random value.
_RECORD_HEADER: Final[i64] = 5
_MESSAGE_HEADER: Final[i64] = 4
_SESSION_ID_AT: Final[i64] = _MESSAGE_HEADER + 2 + 32
#: The largest fragment of a record (RFC 8446 section 5.1).
_LARGEST_FRAGMENT: Final[i64] = 1 << 14

_HANDSHAKE: Final[i64] = 22
_CLIENT_HELLO: Final[i64] = 1

# Extensions.
_SERVER_NAME: Final[i64] = 0
_GROUPS: Final[i64] = 10
_POINT_FORMATS: Final[i64] = 11
_SIGNATURES: Final[i64] = 13
_ALPN: Final[i64] = 16
_PRE_SHARED_KEY: Final[i64] = 41
_VERSIONS: Final[i64] = 43

#: Other printable characters of the names of protocols. Not the backslash, which escapes, nor separators of lists.
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()*+-./:<=>?@[]^_`{|}~"
_LETTERS_DIGITS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

#: The versions in JA4.
_JA4_VERSIONS: Final[dict[int, str]] = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}
_JA4_NOTHING: Final = "000000000000"


class ClientHello(Fingerprints):
    """A complete ClientHello. Immutable, but for the fingerprints that it keeps."""

    def __init__(self, *, server_name: str, protocols: tuple[str, ...], versions: tuple[int, ...], raw: bytes) -> None:
        """`server_name`: SNI in lower case, empty without one. `protocols`: offered by ALPN, in the client's order.

        In names of protocols, bytes that are not printable ASCII, spaces, quotes, commas, semicolons and backslashes are
        escaped: `\\x0a`. `versions`: the offered TLS versions as on the wire, 0x0304 is TLS 1.3; of a client without the
        extension `supported_versions` only the highest one. `raw`: the handshake message.
        """
        super().__init__()
        self.server_name = server_name
        self.protocols = protocols
        self.versions = versions
        self.raw = raw
        # Once they have been computed: an access log asks for them with each request.
        self._ja3 = ""
        self._ja4 = ""

    def ciphers(self) -> list[int]:
        """The cipher suites in the client's order."""
        at = _ciphers_at(self.raw)
        return _numbers(self.raw, at + 2, at + 2 + _u16(self.raw, at))

    def extensions(self) -> list[int]:
        """The types of the extensions in the client's order."""
        raw = self.raw
        found: list[int] = []
        at = _extensions_at(raw)
        while at < len(raw):
            found.append(_u16(raw, at))
            at += 4 + _u16(raw, at + 2)
        return found

    def groups(self) -> list[int]:
        """The groups (curves) for the key exchange, in the client's order."""
        return self._list_of(_GROUPS)

    def signature_algorithms(self) -> list[int]:
        """The algorithms for signatures, in the client's order."""
        return self._list_of(_SIGNATURES)

    def point_formats(self) -> list[int]:
        """The formats of points on curves."""
        return list(self._content(_POINT_FORMATS)[1:])

    def _list_of(self, extension: i64) -> list[int]:
        content = self._content(extension)
        return _numbers(content, 2, len(content))

    def _content(self, extension: i64) -> bytes:
        """The content of an extension; empty without it."""
        raw = self.raw
        at = _extensions_at(raw)
        while at < len(raw):
            size = _u16(raw, at + 2)
            if _u16(raw, at) == extension:
                return raw[at + 4 : at + 4 + size]
            at += 4 + size
        return b""

    def ja3(self) -> str:
        """The JA3 fingerprint: an MD5 in hexadecimal."""
        if not self._ja3:
            self._ja3 = self._compute_ja3()
        return self._ja3

    def _compute_ja3(self) -> str:
        version = int(_u16(self.raw, _MESSAGE_HEADER))
        lists = [self.ciphers(), self.extensions(), self.groups(), self.point_formats()]
        fields = ["-".join([str(number) for number in numbers if not _is_grease(number)]) for numbers in lists]
        return hashlib.md5(f"{version},{','.join(fields)}".encode(), usedforsecurity=False).hexdigest()

    def ja4(self) -> str:
        """The JA4 fingerprint, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`."""
        if not self._ja4:
            self._ja4 = self._compute_ja4()
        return self._ja4

    def _compute_ja4(self) -> str:
        ciphers = _hex(self.ciphers())
        extensions = [number for number in self.extensions() if not _is_grease(number)]
        signatures = _hex(self.signature_algorithms())
        others = _hex([number for number in extensions if number not in (_SERVER_NAME, _ALPN)])
        name = "d" if _SERVER_NAME in extensions else "i"
        version = _JA4_VERSIONS.get(max(self.versions, default=0), "00")
        counts = _count(len(ciphers)) + _count(len(extensions))
        listed = ",".join(sorted(others))
        if listed and signatures:
            listed += "_" + ",".join(signatures)
        head = f"t{version}{name}{counts}{_ja4_protocol(self._content(_ALPN))}"
        return f"{head}_{_ja4_digest(','.join(sorted(ciphers)))}_{_ja4_digest(listed)}"


def is_tls(data: bytes) -> bool:
    """Whether a connection that begins with `data`, not empty, is TLS: its first byte is that of a handshake record."""
    return data[0] == _HANDSHAKE


def read_hello(data: bytes) -> ClientHello | None:
    """The ClientHello at the beginning of a connection; None if `data` is only a part of it.

    It may be split over several records (RFC 8446 section 5.1). Bytes after its last record are ignored.

    Raises ProtocolError for bytes that are not a ClientHello, and above HELLO_LIMIT as soon as a length exceeds it.
    """
    size: i64 = len(data)
    at: i64 = 0
    # The four bytes of the message header as a number, as far as they have been read.
    header: i64 = 0
    got: i64 = 0  # bytes of the message
    while True:
        end = _record_end(data, at, size)
        if end < 0:
            return None
        at += _RECORD_HEADER
        stop = min(end, size)
        while at < stop and got < _MESSAGE_HEADER:
            header = header << 8 | data[at]
            at += 1
            got += 1
            if got == 1 and header != _CLIENT_HELLO:
                raise _bad(f"the first message has type {header}, expected 1 (ClientHello)")
        if got >= _MESSAGE_HEADER:
            rest = (header & 0xFFFFFF) + _MESSAGE_HEADER - got  # of the message, from `at` on
            if at + rest > HELLO_LIMIT:
                raise _bad(f"{at + rest} bytes with record headers, expected at most {HELLO_LIMIT}")
            if end - at > rest:
                raise _bad(f"{end - at - rest} bytes after the ClientHello in its record")
            got += end - at
            if end - at == rest and end <= size:
                return _parse(_without_records(data, end))
        if end > size:
            return None
        at = end


def _record_end(data: bytes, at: i64, size: i64) -> i64:
    """The end of the record at `at`; -1 if its header is incomplete."""
    if at < size and data[at] != _HANDSHAKE:
        if at == 0:
            raise ProtocolError(NOT_TLS, f"the first byte is {data[0]}, expected 22 (a handshake record)")
        raise _bad(f"a record has type {data[at]}, expected 22 (handshake)")
    if at + 1 < size and data[at + 1] != 3:
        raise _bad(f"a record has version {data[at + 1]}, expected 3")
    if at + _RECORD_HEADER > size:
        return -1
    length = _u16(data, at + 3)
    if length == 0 or length > _LARGEST_FRAGMENT:
        raise _bad(f"a record has a length of {length}, expected 1 to {_LARGEST_FRAGMENT}")
    return at + _RECORD_HEADER + length


def _without_records(data: bytes, end: i64) -> bytes:
    """The message in the complete records up to `end`."""
    parts: list[bytes] = []
    at: i64 = 0
    while at < end:
        start = at + _RECORD_HEADER
        at = start + _u16(data, at + 3)
        parts.append(data[start:at])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _bad(detail: str) -> ProtocolError:
    return ProtocolError(BAD_CLIENT_HELLO, detail)


def _u16(data: bytes, at: i64) -> i64:
    """The unsigned 16-bit number at offset `at`."""
    return i64(read_i16_be(data, at)) & 0xFFFF


def _numbers(data: bytes, at: i64, end: i64) -> list[int]:
    """The 16-bit numbers between two offsets."""
    found: list[int] = []
    while at < end:
        found.append(_u16(data, at))
        at += 2
    return found


def _ciphers_at(raw: bytes) -> i64:
    """The offset of the length of the cipher suites."""
    return _SESSION_ID_AT + 1 + raw[_SESSION_ID_AT]


def _extensions_at(raw: bytes) -> i64:
    """The offset of the first extension, or the end."""
    at = _ciphers_at(raw)
    at += 2 + _u16(raw, at)
    at += 1 + raw[at]
    return at + 2


def _parse(raw: bytes) -> ClientHello:
    """Checks a complete message."""
    size: i64 = len(raw)
    if size <= _SESSION_ID_AT:
        raise _bad(f"{size} bytes, too short for a session id")
    version = _u16(raw, _MESSAGE_HEADER)
    if version >> 8 != 3:
        raise _bad(f"version {version:#06x}, expected 0x03..")
    if raw[_SESSION_ID_AT] > 32:
        raise _bad(f"a session id of {raw[_SESSION_ID_AT]} bytes, expected at most 32")
    at = _ciphers_at(raw)
    at = _list_end(raw, at, size, "cipher suites")
    if at >= size or raw[at] == 0 or at + 1 + raw[at] > size:
        raise _bad("invalid length of compression methods")
    if 0 not in raw[at + 1 : at + 1 + raw[at]]:
        raise _bad("no compression method `null`")
    at += 1 + raw[at]
    if at == size:  # a client of TLS 1.2 or older may have no extensions
        return ClientHello(server_name="", protocols=(), versions=(version,), raw=raw)
    if at + 2 > size or at + 2 + _u16(raw, at) != size:
        raise _bad("invalid length of extensions")
    return _parse_extensions(raw, at + 2, size, version)


def _parse_extensions(raw: bytes, at: i64, size: i64, version: i64) -> ClientHello:
    server_name = ""
    protocols: tuple[str, ...] = ()
    versions: tuple[int, ...] = (version,)
    seen: i64 = 0  # a bit for each of the types up to 62
    others: list[int] = []
    while at < size:
        if at + 4 > size or at + 4 + _u16(raw, at + 2) > size:
            raise _bad("invalid length of an extension")
        kind = _u16(raw, at)
        at += 4
        end = at + _u16(raw, at - 2)
        if kind < 63:
            bit: i64 = 1  # a variable: mypyc makes a constant a C int, which has no bit 32
            bit <<= kind
            if seen & bit != 0:
                raise _bad(f"extension {kind} occurs twice")
            seen |= bit
        elif kind in others:
            raise _bad(f"extension {kind} occurs twice")
        else:
            others.append(kind)
        if kind == _SERVER_NAME:
            server_name = _server_name(raw, at, end)
        elif kind == _ALPN:
            protocols = _protocols(raw, at, end)
        elif kind == _VERSIONS:
            versions = _versions(raw, at, end)
        elif kind == _GROUPS:
            _whole_list(raw, at, end, "groups")
        elif kind == _SIGNATURES:
            _whole_list(raw, at, end, "signature algorithms")
        elif kind == _POINT_FORMATS:
            if at == end or raw[at] == 0 or at + 1 + raw[at] != end:
                raise _bad("invalid length of point formats")
        elif kind == _PRE_SHARED_KEY and end != size:
            raise _bad("the pre-shared key is not the last extension")
        at = end
    return ClientHello(server_name=server_name, protocols=protocols, versions=versions, raw=raw)


def _list_end(raw: bytes, at: i64, end: i64, what: str) -> i64:
    """The end of a list of 16-bit numbers with its length in front, not empty."""
    if at + 2 > end:
        raise _bad(f"no {what}")
    length = _u16(raw, at)
    if length == 0 or length & 1 or at + 2 + length > end:
        raise _bad(f"invalid length of {what}")
    return at + 2 + length


def _whole_list(raw: bytes, at: i64, end: i64, what: str) -> None:
    """Checks that such a list ends at `end`."""
    if _list_end(raw, at, end, what) != end:
        raise _bad(f"invalid length of {what}")


def _versions(raw: bytes, at: i64, end: i64) -> tuple[int, ...]:
    """The extension `supported_versions`, without values that only test the server (RFC 8701)."""
    if at == end or raw[at] == 0 or raw[at] & 1 or at + 1 + raw[at] != end:
        raise _bad("invalid length of supported versions")
    found: list[int] = []
    at += 1
    while at < end:
        version = _u16(raw, at)
        if not _is_grease(version):
            found.append(version)
        at += 2
    return tuple(found)


def _server_name(raw: bytes, at: i64, end: i64) -> str:
    """The one name of the server (RFC 6066 section 3); empty for an IP address, which is not permitted, but sent."""
    if at + 5 > end or at + 2 + _u16(raw, at) != end:
        raise _bad("invalid length of the list of server names")
    if raw[at + 2] != 0:
        raise _bad(f"a server name of type {raw[at + 2]}, expected 0 (host name)")
    length = _u16(raw, at + 3)
    at += 5
    if at + length != end:
        raise _bad("invalid length of the server name, or several names")
    name = raw[at:end].lower()
    if _is_address(name):
        return ""
    if not _is_host_name(name):
        raise _bad("the server name is not a host name")
    return name.decode("ascii")


def _is_host_name(name: bytes) -> bool:
    """Whether `name`, in lower case, is a host name of labels of 1 to 63 bytes, without a dot at its end (RFC 6066)."""
    size: i64 = len(name)
    if size == 0 or size > 253:
        return False
    label: i64 = 0
    at: i64 = 0
    while at < size:
        if name[at] == 0x2E:
            if label == 0:
                return False
            label = 0
        else:
            if not _is_name_byte(name[at]):
                return False
            label += 1
            if label > 63:
                return False
        at += 1
    return label > 0


def _is_name_byte(byte: i64) -> bool:
    """Whether it is a letter, a digit, a hyphen, or an underscore: not part of RFC 1123, but used."""
    return 0x61 <= byte <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x2D or byte == 0x5F


def _is_address(name: bytes) -> bool:
    """Whether `name` has the form of an IP address."""
    if b":" in name:
        return not name.strip(b"0123456789abcdef:.")
    if not 0x30 <= (name[-1] if name else 0) <= 0x39:
        return False
    labels = name.split(b".")
    return len(labels) == 4 and all(label.isdigit() and int(label) < 256 for label in labels)


def _protocols(raw: bytes, at: i64, end: i64) -> tuple[str, ...]:
    """The names of the extension ALPN (RFC 7301 section 3.1)."""
    if at + 2 >= end or at + 2 + _u16(raw, at) != end:
        raise _bad("invalid length of the list of protocols")
    at += 2
    found: list[str] = []
    while at < end:
        length: i64 = raw[at]
        at += 1
        if length == 0 or at + length > end:
            raise _bad("invalid length of the name of a protocol")
        found.append(_protocol_text(raw[at : at + length]))
        at += length
    return tuple(found)


def _protocol_text(name: bytes) -> str:
    """The name of a protocol, escaped."""
    if not name.strip(_PLAIN):
        return name.decode("ascii")
    return "".join([chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in name])


def _is_grease(number: i64) -> bool:
    """Whether it is a value without a meaning that clients send to test servers (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _ja4_protocol(content: bytes) -> str:
    """The two characters of JA4 for the first protocol of the extension ALPN."""
    if not content:
        return "00"
    name = content[3 : 3 + content[2]]
    if name[0] in _LETTERS_DIGITS and name[-1] in _LETTERS_DIGITS:
        return chr(name[0]) + chr(name[-1])
    text = name.hex()
    return text[0] + text[-1]


def _hex(numbers: list[int]) -> list[str]:
    """The 16-bit numbers with four hexadecimal digits each, without GREASE."""
    return [number.to_bytes(2, "big").hex() for number in numbers if not _is_grease(number)]


def _count(number: int) -> str:
    """A number with two digits, at most 99."""
    return str(min(number, 99)).zfill(2)


def _ja4_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _JA4_NOTHING
