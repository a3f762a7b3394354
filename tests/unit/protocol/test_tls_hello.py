"""The reader of the ClientHello: recorded and built messages, every truncation, every length."""

from __future__ import annotations

import hashlib
import ssl

import pytest
from tests.kit.client_hello import (
    alpn,
    block,
    extension,
    hello,
    message,
    number,
    numbers,
    recorded,
    recorded_names,
    records,
    server_name,
    versions,
)

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import BAD_CLIENT_HELLO, NOT_TLS
from pymosn.protocol.tls.hello import HELLO_LIMIT, ClientHello, is_tls, read_hello

TLS_1_2, TLS_1_3 = 0x0303, 0x0304


def read(data: bytes) -> ClientHello:
    found = read_hello(data)
    assert found is not None
    return found


def fault(data: bytes) -> str:
    """Why `data` is refused."""
    with pytest.raises(ProtocolError) as caught:
        read_hello(data)
    assert caught.value.failure is BAD_CLIENT_HELLO
    return caught.value.detail


@pytest.mark.parametrize(
    ("name", "server", "protocols", "offered"),
    [
        ("openssl-sni-alpn", "www.example.com", ("h2", "http/1.1"), (0x0304, 0x0303, 0x0302, 0x0301)),
        ("openssl-tls12", "", (), (0x0303,)),
        ("openssl-tls13", "a_b.example", (), (0x0304,)),
        ("curl-http2", "curl.example", ("h2", "http/1.1"), (0x0304, 0x0303, 0x0302, 0x0301)),
        ("curl-http11-address", "", ("http/1.1",), (0x0304, 0x0303, 0x0302, 0x0301)),
        ("python-ssl", "python.example", ("h2", "http/1.1"), (0x0304, 0x0303)),
        ("python-ssl-tls12", "", (), (0x0303,)),
        ("go-tls", "go.example", ("h2", "http/1.1"), (0x0304, 0x0303)),
        ("go-tls-address", "", ("h2", "http/1.1"), (0x0304, 0x0303)),
    ],
)
def test_real_clients(name: str, server: str, protocols: tuple[str, ...], offered: tuple[int, ...]) -> None:
    data = recorded(name)
    found = read(data)
    assert (found.server_name, found.protocols, found.versions) == (server, protocols, offered)
    assert found.raw == data[5:]
    assert is_tls(data)


@pytest.mark.parametrize("name", recorded_names())
def test_openssl_sees_the_same_name_and_protocols(name: str) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, server, __: names.append(server)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(recorded(name))
    with pytest.raises(ssl.SSLError):  # it has no certificate, but has read the name
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    assert [(server or "").lower() for server in names] == [read(recorded(name)).server_name]


@pytest.mark.parametrize("name", recorded_names())
def test_every_beginning_is_incomplete(name: str) -> None:
    data = recorded(name)
    for size in range(1, len(data)):
        assert read_hello(data[:size]) is None
    assert read_hello(b"") is None


def test_split_over_records_at_every_byte() -> None:
    data = message(server_name(b"a.example"), alpn(b"h2"))
    for cut in range(1, len(data)):
        split = records(data, cut)
        assert read(split).raw == data
        assert [size for size in range(len(split)) if read_hello(split[:size])] == []
    single = records(data, *range(1, len(data)))
    assert read(single).raw == data
    assert [size for size in range(len(single)) if read_hello(single[:size])] == []


def test_what_follows_the_last_record_is_ignored() -> None:
    early_data = b"\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x05hello"
    assert read(hello(alpn(b"h2")) + early_data).protocols == ("h2",)


# ---- limits


def test_the_limit_counts_record_headers() -> None:
    padding = HELLO_LIMIT - len(hello(extension(21)))
    largest = hello(extension(21, bytes(padding)))
    assert len(largest) == HELLO_LIMIT
    assert read(largest)
    assert "16385 bytes with record headers, expected at most 16384" in fault(hello(extension(21, bytes(padding + 1))))
    assert "with record headers" in fault(records(largest[5:], 9))


def test_a_length_above_the_limit_is_refused_at_once() -> None:
    assert "with record headers, expected at most" in fault(b"\x16\x03\x01\x40\x00\x01\x00\x40\x00")
    assert "16777224 bytes" in fault(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")


# ---- records and message


def test_bytes_that_are_not_tls() -> None:
    for data in (b"GET / HTTP/1.1", b"\x80\x2e\x01\x00\x02", b"\x17\x03\x01\x00\x01a"):
        with pytest.raises(ProtocolError) as caught:
            read_hello(data)
        assert caught.value.failure is NOT_TLS
        assert f"the first byte is {data[0]}, expected 22" in caught.value.detail
        assert not is_tls(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16\x02", "a record has version 2, expected 3"),
        (b"\x16\x03\x01\x00\x00", "a record has a length of 0, expected 1 to 16384"),
        (b"\x16\x03\x01\x40\x01", "a record has a length of 16385, expected 1 to 16384"),
        (b"\x16\x03\x01\x01\x00\x02", "the first message has type 2, expected 1 (ClientHello)"),
        (records(message() + b"\x00"), "1 bytes after the ClientHello in its record"),
        (records(message(), 10)[:15] + b"\x15", "a record has type 21, expected 22 (handshake)"),
        (records(message(), 10)[:15] + b"\x16\x01", "a record has version 1, expected 3"),
        (records(message(), 10)[:15] + b"\x16\x03\x01\x00\x00", "a record has a length of 0"),
        (records(b"\x01\x00\x00\x00"), "4 bytes, too short for a session id"),
        (records(message(version=0x0203)), "version 0x0203, expected 0x03.."),
        (records(message(session=bytes(33))), "a session id of 33 bytes, expected at most 32"),
        (records(message(ciphers=b"\x00\x00")), "invalid length of cipher suites"),
        (records(message(ciphers=b"\x00\x03\x13\x01\x13")), "invalid length of cipher suites"),
        (records(message(ciphers=b"\x01\x00\x13\x01")), "invalid length of cipher suites"),
        (records(message(ciphers=b"", compression=b"")), "no cipher suites"),
        (records(message(compression=b"")), "invalid length of compression methods"),
        (records(message(compression=b"\x00")), "invalid length of compression methods"),
        (records(message(compression=b"\x05\x00")), "invalid length of compression methods"),
        (records(message(compression=b"\x01\x01")), "no compression method `null`"),
        (records(message(tail=b"\x00")), "invalid length of extensions"),
        (records(message(extension(21), tail=b"\x00")), "invalid length of extensions"),
        (hello(b"\x00"), "invalid length of an extension"),
        (hello(b"\x00\x15\x00\x01"), "invalid length of an extension"),
        (hello(extension(21), extension(21)), "extension 21 occurs twice"),
        (hello(extension(0), extension(0)), "invalid length of the list of server names"),
        (hello(extension(62), extension(1), extension(62)), "extension 62 occurs twice"),
        (hello(extension(63), extension(1), extension(63)), "extension 63 occurs twice"),
        (hello(extension(0xFF01, b"\x00"), extension(0x4469), extension(0xFF01, b"\x00")), "extension 65281 occurs twice"),
        (hello(extension(41, b"x"), extension(43, b"\x02\x03\x04")), "the pre-shared key is not the last extension"),
        (hello(extension(10, b"")), "no groups"),
        (hello(extension(10, b"\x00\x00")), "invalid length of groups"),
        (hello(extension(10, numbers(29) + b"\x00")), "invalid length of groups"),
        (hello(extension(13, b"\x00\x01\x04")), "invalid length of signature algorithms"),
        (hello(extension(11, b"")), "invalid length of point formats"),
        (hello(extension(11, b"\x00")), "invalid length of point formats"),
        (hello(extension(11, b"\x01\x00\x00")), "invalid length of point formats"),
        (hello(extension(43, b"")), "invalid length of supported versions"),
        (hello(extension(43, b"\x00")), "invalid length of supported versions"),
        (hello(extension(43, b"\x01\x03")), "invalid length of supported versions"),
        (hello(extension(43, b"\x02\x03\x04\x03")), "invalid length of supported versions"),
        (hello(alpn()), "invalid length of the list of protocols"),
        (hello(alpn(b"")), "invalid length of the name of a protocol"),
        (hello(alpn(b"h2", b"")), "invalid length of the name of a protocol"),
        (hello(extension(16, b"\x00\x03\x05h2")), "invalid length of the name of a protocol"),
        (hello(extension(16, b"\x00\x03\x02h2\x00")), "invalid length of the list of protocols"),
    ],
)
def test_invalid_messages(data: bytes, text: str) -> None:
    assert text in fault(data)


@pytest.mark.parametrize("name", recorded_names())
def test_every_byte_changed_never_raises_anything_else(name: str) -> None:
    data = recorded(name)
    for at in range(min(len(data), 600)):
        for value in {0, 1, 255, data[at] ^ 1, (data[at] + 1) % 256, (data[at] - 1) % 256} - {data[at]}:
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                found = read_hello(changed)
            except ProtocolError:
                continue
            if found is not None:
                assert found.raw == changed[5:]
                assert found.ja3()
                assert found.ja4()


# ---- server name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"example.com", "example.com"),
        (b"EXAMPLE.Com", "example.com"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"_sip.a_b.example", "_sip.a_b.example"),
        (b"localhost", "localhost"),
        (b"a" * 63 + b".b", "a" * 63 + ".b"),
        (b"1.2.3", "1.2.3"),
        (b"1.2.3.256", "1.2.3.256"),
        (b"1.2.3.4.example", "1.2.3.4.example"),
        # An address is not permitted as a name, but some clients send one: as without a name.
        (b"192.0.2.1", ""),
        (b"2001:DB8::1", ""),
        (b"::ffff:192.0.2.1", ""),
    ],
)
def test_server_names(name: bytes, expected: str) -> None:
    assert read(hello(server_name(name))).server_name == expected


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"",
            b".",
            b"example.com.",
            b".example.com",
            b"a..b",
            b"a b",
            b"a\x00.example",
            b"caf\xc3\xa9.example",
            b"*.example",
        ),
        *(b"a/b", b"example.com:443", b"[::1]", b"a" * 64 + b".b", b"\n", b"user@example.com", b".".join([b"a" * 50] * 5)),
    ],
)
def test_invalid_server_names(name: bytes) -> None:
    assert "server name" in fault(hello(server_name(name)))


def test_the_list_of_server_names_has_one_host_name() -> None:
    assert "a server name of type 1, expected 0 (host name)" in fault(hello(server_name(b"a.example", kind=1)))
    two = block(b"\x00" + block(b"a.example") + b"\x00" + block(b"b.example"))
    assert "several names" in fault(hello(extension(0, two)))
    assert "list of server names" in fault(hello(extension(0, block(b"\x00" + block(b"a")) + b"\x00")))
    assert "list of server names" in fault(hello(extension(0, block(b""))))


# ---- protocols and versions


def test_names_of_protocols_are_escaped() -> None:
    names = (b"h2", b"http/1.1", b"\x0a\x0a", b"a,b", b"a b", b"caf\xc3\xa9", b"back\\slash", b'"', b"x" * 255)
    assert read(hello(alpn(*names))).protocols == (
        *("h2", "http/1.1", "\\x0a\\x0a", "a\\x2cb", "a\\x20b", "caf\\xc3\\xa9", "back\\x5cslash", "\\x22", "x" * 255),
    )


def test_versions_are_without_grease() -> None:
    assert read(hello(versions(0x7A7A, 0x0304, 0x0303))).versions == (TLS_1_3, TLS_1_2)
    assert read(hello(versions(0x7A7A))).versions == ()
    assert read(records(message())).versions == (TLS_1_2,)
    assert read(records(message(alpn(b"h2"), version=0x0301))).versions == (0x0301,)


# ---- fingerprints

GREASE = 0xDADA
#: From the specification of JA4.
CHROME_CIPHERS = (
    *(
        0x1301,
        0x1302,
        0x1303,
        0xC02B,
        0xC02F,
        0xC02C,
        0xC030,
        0xCCA9,
        0xCCA8,
        0xC013,
        0xC014,
        0x009C,
        0x009D,
        0x002F,
        0x0035,
    ),
)
SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)


def chrome(extensions: str, groups: tuple[int, ...], ciphers: tuple[int, ...] = CHROME_CIPHERS) -> ClientHello:
    """A hello as Chrome sends it, with its reserved values (GREASE) in all lists."""
    contents = {
        0x0000: block(b"\x00" + block(b"a.example")),
        0x000A: numbers(GREASE, *groups),
        0x000B: b"\x01\x00",
        0x000D: numbers(*SIGNATURES),
        0x0010: block(b"\x02h2\x08http/1.1"),
        0x002B: block(number(GREASE) + b"\x03\x04\x03\x03", 1),
    }
    types = [GREASE, *(int(text, 16) for text in extensions.split(",")), 0x1A1A]
    parts = [extension(kind, contents.get(kind, b"")) for kind in types]
    return read(records(message(*parts, ciphers=numbers(GREASE, *ciphers), session=bytes(32))))


def test_the_example_of_the_specification_of_ja4() -> None:
    found = chrome("001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015", (29, 23, 24))
    assert found.ja4() == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_a_published_pair_of_fingerprints_of_chrome_143() -> None:
    found = chrome("002d,0033,0010,fe0d,0017,44cd,0000,000b,000a,002b,ff01,0023,0012,0005,000d,001b", (4588, 29, 23, 24))
    assert found.ja3() == "98487aa16281980e7d1120d399efb6a4"
    assert found.ja4() == "t13d1516h2_8daaf6152771_d8a2da3f94cd"


def test_ja3_without_extensions() -> None:
    found = read(records(message(version=0x0301, ciphers=numbers(47, 53))))
    assert found.ja3() == hashlib.md5(b"769,47-53,,,").hexdigest()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((b"h2", "h2"), (b"http/1.1", "h1"), (b"x", "xx"), (b"\xab", "ab"), (b"\xab\xcd", "ad"), (b"0\xab", "3b")),
        *((b"01\xab\xcd", "3d"), (b"0\xab\xcd1", "01"), (b"h2-", "6d"), (b"\x0a\x0a", "0a")),
    ],
)
def test_the_protocol_in_ja4(name: bytes, expected: str) -> None:
    assert read(hello(alpn(name))).ja4().split("_")[0] == f"t12i0301{expected}"


def test_ja4_without_parts() -> None:
    nothing = read(records(message(ciphers=numbers(GREASE))))
    assert nothing.ja4() == "t12i000000_000000000000_000000000000"
    assert read(records(message(version=0x0300))).ja4().startswith("ts3i0300")
    assert read(hello(versions(GREASE))).ja4().startswith("t00i0301")
    unsigned = "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01".replace(",000d", "")
    found = chrome(unsigned, (29,))
    assert found.ja4().split("_")[2] == hashlib.sha256(unsigned.encode()).hexdigest()[:12]
    many = read(records(message(ciphers=numbers(*range(1, 150)))))
    assert many.ja4().startswith("t12i9900")


def test_fields_on_demand() -> None:
    found = chrome("0000,000a,000b,000d", (29, 23))
    assert found.ciphers() == [GREASE, *CHROME_CIPHERS]
    assert found.extensions() == [GREASE, 0, 10, 11, 13, 0x1A1A]
    assert found.groups() == [GREASE, 29, 23]
    assert found.signature_algorithms() == list(SIGNATURES)
    assert found.point_formats() == [0]
    bare = read(records(message()))
    assert (bare.extensions(), bare.groups(), bare.signature_algorithms(), bare.point_formats()) == ([], [], [], [])
