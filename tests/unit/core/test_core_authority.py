"""Hosts and ports: what is accepted, and the one form in which it is judged and sent."""

import pytest

from pymosn.core.addresses import address_host, address_port, entry_ip, host_field, write_address
from pymosn.core.authority import Authority, as_sent, connect_target, is_host, normal_authority, split_authority


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        (b"a", b"a"),
        (b"A.Example", b"a.example"),
        (b"a.example:8080", b"a.example:8080"),
        (b"a_b.~-", b"a_b.~-"),
        # RFC 3986 section 3.2.3: an empty port is no port.
        (b"a:", b"a"),
        (b"A.example:", b"a.example"),
        (b"1.2.3.4:", b"1.2.3.4"),
        (b"[::1]:", b"[::1]"),
        (b"[2001:DB8::1]:443", b"[2001:db8::1]:443"),
        (b"a:0", b"a:0"),
        (b"a:65535", b"a:65535"),
        *(
            (value, None)
            for value in (b"", b":", b":80", b"a:65536", b"a:123456", b"a:x", b"a: ", b"a::", b"a:80:", b"a:+1")
        ),
        *(
            (value, None)
            for value in (b"u@a", b"a/b", b"a?b", b"a#b", b"a\\b", b"a,b", b"a b", b"\xc3\xa9", b"a%20b", b"a" * 262)
        ),
        *(
            (value, None)
            for value in (b"[::1", b"::1", b"[1.2.3.4]", b"[::1]80", b"[::1]:x", b"[]", b"[::1]x:80", b"[v1.a]")
        ),
        # Zones mean something to the sender only.
        *((value, None) for value in (b"[fe80::1%25eth0]", b"[fe80::1%eth0]", b"[fe80::1%25]")),
    ],
)
def test_normal_authority(value: bytes, normal: bytes | None) -> None:
    assert normal_authority(value) == normal
    assert is_host(value) == (normal is not None)


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        (b"a!b", b"a!b"),
        (b"A%20B:80", b"a%20b:80"),
        (b"[fe80::1%25eth0]", b"[fe80::1]"),
        (b"[FE80::1%25Eth0]:80", b"[fe80::1]:80"),
        (b"[fe80::1%25eth0]:", b"[fe80::1]"),
        *(
            (value, None)
            for value in (b"[fe80::1%eth0]", b"[fe80::1%25]", b"[fe80::1%25a%5D]", b"[1.2.3.4%25eth0]", b"[%25eth0]")
        ),
        *((value, None) for value in (b"a,b", b"u@a", b"a:x", b"", b"\xc3\xa9")),
    ],
)
def test_tolerant(value: bytes, normal: bytes | None) -> None:
    assert normal_authority(value, is_strict=False) == normal


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (b"A:443", b"a:443"),
        (b"[::1]:443", b"[::1]:443"),
        *((value, None) for value in (b"a", b"a:", b"[::1]", b"[::1]:", b":443", b"a:x", b"http://a:443", b"a:443/")),
    ],
)
def test_connect_target(value: bytes, target: bytes | None) -> None:
    assert connect_target(value) == target


@pytest.mark.parametrize(
    ("text", "host", "port", "written"),
    [
        (b"a", b"a", b"", b"a"),
        (b"a:80", b"a", b"80", b"a:80"),
        (b"a:", b"a", b"", b"a"),
        (b"a:*", b"a", b"*", b"a:*"),
        (b"[::1]", b"[::1]", b"", b"[::1]"),
        (b"[::1]:80", b"[::1]", b"80", b"[::1]:80"),
        (b"", b"", b"", b""),
        (b":80", b"", b"80", b""),
    ],
)
def test_parts(text: bytes, host: bytes, port: bytes, written: bytes) -> None:
    authority = split_authority(text)
    assert (authority.host, authority.port) == (host, port)
    assert authority.write() == written


def test_names_and_default_ports() -> None:
    assert split_authority(b"[::1]:80").name() == b"::1"
    assert split_authority(b"a:80").name() == b"a"
    assert Authority(b"a", b"80").without_default_port(b"http").write() == b"a"
    assert Authority(b"a", b"80").without_default_port(b"https").write() == b"a:80"
    assert Authority(b"a", b"443").without_default_port(b"https").write() == b"a"
    assert Authority(b"a").without_default_port(b"ftp").write() == b"a"


def test_it_is_sent_in_its_own_case() -> None:
    assert as_sent(b"A.Example", b"a.example") == b"A.Example"
    assert as_sent(b"A.Example:", b"a.example") == b"a.example"


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("1.2.3.4:80", "1.2.3.4:80"),
        ("name:80", "name:80"),
        ("[::1]:80", "[::1]:80"),
        # RFC 9844 section 3: a zone is not sent.
        ("[fe80::1%eth0]:80", "[fe80::1]:80"),
        ("[fe80::1%25]:80", "[fe80::1]:80"),
        ("unix:/run/a%b", "localhost"),
    ],
)
def test_host_field(address: str, field: str) -> None:
    assert host_field(address) == field


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("1.2.3.4:80", "1.2.3.4", 80),
        ("[::1]:80", "::1", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        (":80", "", 80),
        ("name", "name", 0),
        ("[::1]", "::1", 0),
        ("unix:/a:80", "unix:/a", 0),
    ],
)
def test_parts_of_addresses(address: str, host: str, port: int) -> None:
    assert address_host(address) == host
    assert address_port(address) == port
    if port:
        assert write_address(host, port) == address


@pytest.mark.parametrize(
    ("entry", "ip"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ("[::ffff:1.2.3.4]:5", "1.2.3.4"),
        *(
            (text, "")
            for text in ("", "unknown", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:70000", "[1.2.3.4]:80", "[2001:db8::1", "a:80")
        ),
        *(
            (text, "")
            for text in ("[2001:db8::1]x", "[2001:db8::1]:", "[2001:db8::1]:x", '"[2001:db8::1]"', "[fe80::1%eth0]", "[]:1")
        ),
    ],
)
def test_entries_of_x_forwarded_for(entry: str, ip: str) -> None:
    assert entry_ip(entry) == ip
