"""Fuzzing of the ClientHello reader: it never fails but by ProtocolError, and reads what a second parser reads.

The second opinions are the parser below, written from RFC 8446 without a thought of speed, and Python's own `ssl`: what we
accept with a server name, OpenSSL must not see with another one.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import CUTS, SECONDS, fuzz
from tests.kit.client_hello import (
    alpn,
    extension,
    message,
    numbers,
    recorded,
    recorded_names,
    records,
    server_name,
    versions,
)

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import BAD_CLIENT_HELLO, NOT_TLS
from pymosn.protocol.tls.hello import HELLO_LIMIT, ClientHello, read_hello

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

U16 = st.integers(0, 0xFFFF)
NAMES = st.binary(max_size=12) | st.sampled_from([b"a.example", b"A.b", b"a..b", b"192.0.2.1", b"::1", b"a.", b"x" * 64])
EXTENSIONS = (
    st.builds(server_name, NAMES, st.sampled_from([0, 0, 0, 1]))
    | st.lists(st.binary(max_size=6), max_size=3).map(lambda names: alpn(*names))
    | st.lists(U16, max_size=4).map(lambda values: versions(*values))
    | st.lists(U16, max_size=4).map(lambda values: extension(10, numbers(*values)))
    | st.lists(U16, max_size=4).map(lambda values: extension(13, numbers(*values)))
    | st.builds(extension, st.sampled_from([0, 10, 11, 13, 16, 41, 43, 51, 0x0A0A, 0xFF01]), st.binary(max_size=12))
)
MESSAGES = st.builds(
    lambda extensions, version, session: message(*extensions, version=version, session=session),
    st.lists(EXTENSIONS, max_size=6),
    st.sampled_from([0x0303, 0x0303, 0x0301, 0x0300, 0x0203]),
    st.binary(max_size=34),
)
REAL = st.sampled_from([recorded(name)[5:] for name in recorded_names()])
EDITS = st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=3), st.integers(0, 3)), max_size=3)


def edited(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """`data` with bytes put in, taken out and overwritten."""
    for at, put, dropped in edits:
        data = data[:at] + put + data[at + dropped :]
    return data


def overwritten(data: bytes, edits: list[tuple[int, int]]) -> bytes:
    """`data` with other bytes at some places."""
    copy = bytearray(data)
    for at, value in edits:
        copy[at % len(copy)] = value
    return bytes(copy)


CHANGED = st.builds(overwritten, MESSAGES | REAL, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3))


def cut(data: bytes, cuts: list[int]) -> bytes:
    """`data` in records of these sizes and one for the rest."""
    bounds, at = [], 0
    for size in cuts:
        at += size
        if at < len(data):
            bounds.append(at)
    return records(data, *bounds)


ANY = st.builds(edited, st.builds(cut, CHANGED, CUTS), EDITS) | st.binary(max_size=60)


class Reader:
    """Reads from the front, and fails at the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise ValueError("too short")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int, least: int = 0) -> Reader:
        found = Reader(self.take(self.number(size)))
        if len(found.data) < least:
            raise ValueError("empty")
        return found

    def items(self, size: int) -> Iterator[int]:
        while self.data:
            yield self.number(size)

    def end(self) -> None:
        if self.data:
            raise ValueError("bytes are left over")


def second_opinion(data: bytes) -> tuple[str, list[bytes], list[int], list[int]]:
    """Server name, protocols, versions and the types of extensions. Raises ValueError."""
    whole = Reader(data)
    if whole.number(1) != 1:
        raise ValueError("not a ClientHello")
    body = whole.block(3)
    whole.end()
    legacy = body.number(2)
    body.take(32)
    if legacy >> 8 != 3 or len(body.block(1).data) > 32:
        raise ValueError("version or session")
    list(body.block(2, 2).items(2))
    if 0 not in body.block(1, 1).data:
        raise ValueError("compression")
    name, protocols, offered, seen = "", [], [legacy], []
    if body.data:
        rest = body.block(2)
        body.end()
        while rest.data:
            kind, content = rest.number(2), rest.block(2)
            if kind in seen or (kind == 41 and rest.data):
                raise ValueError("order of extensions")
            seen.append(kind)
            if kind == 0:
                names = content.block(2, 1)
                if names.number(1) != 0:
                    raise ValueError("type of name")
                name = names.block(2, 1).data.decode("ascii").lower()
                names.end()
            elif kind == 16:
                listed = content.block(2, 2)
                while listed.data:
                    protocols.append(listed.block(1, 1).data)
            elif kind == 43:
                offered = list(content.block(1, 2).items(2))
            elif kind in (10, 13):
                list(content.block(2, 2).items(2))
            elif kind == 11:
                content.block(1, 1)
            else:
                content.take(len(content.data))
            content.end()
    return name, protocols, offered, seen


def read(data: bytes) -> ClientHello | str | None:
    """The hello, the reason of a refusal, or None."""
    try:
        return read_hello(data)
    except ProtocolError as error:
        failure = error.failure
    assert failure in (BAD_CLIENT_HELLO, NOT_TLS)
    return failure.reason


def check_message(data: bytes) -> None:
    found = read(records(data)) if data else None
    if not isinstance(found, ClientHello):
        return
    name, protocols, offered, seen = second_opinion(data)
    assert found.server_name in (name, ""), name
    assert found.server_name or not name or not any(letter in "ghijklmnopqrstuvwxyz-_" for letter in name)
    assert [text.encode() for text in found.protocols if "\\" not in text] == [
        wire for wire, text in zip(protocols, found.protocols, strict=True) if "\\" not in text
    ]
    assert list(found.versions) == [value for value in offered if value & 0x0F0F != 0x0A0A or value >> 8 != value & 0xFF]
    assert found.extensions() == seen
    assert len(found.ja3()) == 32
    head, ciphers, rest = found.ja4().split("_")
    assert (len(head), len(ciphers), len(rest)) == (10, 12, 12)


def check_valid(extensions: list[bytes]) -> None:
    """What the second parser accepts, we refuse only for a reason that it does not know: names, and the limit."""
    data = message(*extensions)
    try:
        name, *_ = second_opinion(data)
    except ValueError:
        assert read(records(data)) == "bad_client_hello"
        return
    found = read(records(data))
    assert isinstance(found, ClientHello) or name, data


def check_splits(data: bytes, cuts: list[int]) -> None:
    """However it arrives, the result is the same, and nothing is decided of a part that the whole contradicts."""
    whole = read(data)
    for size in range(1, min(len(data), 700)):
        part = read(data[:size])
        if part is None:
            continue
        if isinstance(part, str):
            assert part == whole
        else:
            assert isinstance(whole, ClientHello)
            assert part.raw == whole.raw
            break


def check_records(data: bytes, cuts: list[int]) -> None:
    """Records make no difference, below the limit."""
    one, many = records(data), cut(data, cuts)
    if not data or len(many) > HELLO_LIMIT:
        return
    first, second = read(one), read(many)
    if isinstance(first, ClientHello):
        assert isinstance(second, ClientHello)
        assert first.raw == second.raw == data
    else:
        assert not isinstance(second, ClientHello)


def openssl_name(data: bytes) -> tuple[bool, str | None]:
    """Whether OpenSSL asked for a certificate by name, and which."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.sni_callback = lambda _, name, __: asked.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    with contextlib.suppress(ssl.SSLError, UnicodeError, ValueError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return bool(asked), asked[0] if asked else None


def check_openssl(data: bytes) -> None:
    found = read(records(data)) if data else None
    if isinstance(found, ClientHello):
        was_asked, name = openssl_name(records(data))
        if was_asked and found.server_name:
            assert (name or "").lower() == found.server_name


def test_messages_are_what_a_second_parser_sees() -> None:
    fuzz(check_message, 1500, CHANGED)


def test_valid_messages_are_accepted() -> None:
    fuzz(check_valid, 500, st.lists(EXTENSIONS, max_size=6))


def test_splits() -> None:
    fuzz(check_splits, 150, ANY, CUTS)


def test_records() -> None:
    fuzz(check_records, 500, CHANGED, CUTS)


def test_names_are_what_openssl_sees() -> None:
    fuzz(check_openssl, 150, CHANGED)
