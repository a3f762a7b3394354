"""Text of certificates: whatever it contains, it stays one element of a header, a list or a log line."""

import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.tls_facts import FINGERPRINT, certificate, tls_info

from pymosn.api.client_cert import MOST, forwarded_element
from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.api.variables import LONGEST, TLS
from pymosn.core.certificate_text import listed, safe_dn, safe_name, safe_uri
from pymosn.core.forwarding import CERT_HAS_DNS, CERT_HAS_SUBJECT, CERT_HAS_URI
from pymosn.observe.variables import getter

HOSTILE = [
    "a\r\nx-evil: 1",
    'a";Hash=00;Subject="b',
    "a\\",
    'a\\"',
    "a,b;c=d",
    "a\x00b",
    "a\udcff\udc80",
    "a\ud800b",
    "J\u00f6rg \u2028\U0001f600",
    "x" * 4096,
    "%0d%0a",
    "\\0d\\0A",
    "",
]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("CN=client,O=Example", "CN=client,O=Example"),
        ("CN=a\\, b,O=c", "CN=a\\2C b,O=c"),
        ('CN=a\\"b', "CN=a\\22b"),
        ('CN="', "CN=\\22"),
        ("CN=a\\\\b", "CN=a\\5Cb"),
        ("CN=a\\", "CN=a\\5C"),
        ("CN=\\C3\\B6", "CN=\\C3\\B6"),
        ("CN=\u00f6", "CN=\\C3\\B6"),
        ("CN=\r\n\x00\x7f", "CN=\\0D\\0A\\00\\7F"),
        ("CN=\udcff", "CN=\\FF"),
        ("CN=\\\u00f6", "CN=\\C3\\B6"),
    ],
)
def test_distinguished_names(text: str, safe: str) -> None:
    assert safe_dn(text) == safe
    assert safe_dn(safe) == safe


@pytest.mark.parametrize(
    ("text", "name", "uri"),
    [
        ("*.a-b.example", "*.a-b.example", "*.a-b.example"),
        ("spiffe://a/ns?x#y", "spiffe%3A%2F%2Fa%2Fns%3Fx%23y", "spiffe://a/ns?x#y"),
        ("a%2Cb", "a%252Cb", "a%2Cb"),
        ("a,b;c=d", "a%2Cb%3Bc%3Dd", "a%2Cb%3Bc%3Dd"),
        ('a"b\\', "a%22b%5C", "a%22b%5C"),
        ("\u00f6\r\n\x00 ", "%C3%B6%0D%0A%00%20", "%C3%B6%0D%0A%00%20"),
    ],
)
def test_names_and_uris(text: str, name: str, uri: str) -> None:
    assert safe_name(text) == name
    assert safe_uri(text) == uri


@pytest.mark.parametrize(("limit", "found"), [(0, ""), (2, ""), (3, "ab"), (5, "ab"), (6, "ab,cd"), (100, "ab,cd,e")])
def test_lists_are_bounded_and_never_cut_a_name(limit: int, found: str) -> None:
    assert listed(["ab", "cd", "e"], limit) == found


def elements(header: str) -> list[list[tuple[str, str]]]:
    """X-Forwarded-Client-Cert as read by a parser that knows quotes and escaped quotes, as Envoy describes the format."""
    pair = r'([A-Za-z]+)=("(?:\\"|[^"])*"|[^,;"]*)'
    assert re.fullmatch(rf"{pair}(?:[;,]{pair})*", header), header
    found: list[list[tuple[str, str]]] = [[]]
    for match in re.finditer(rf"{pair}([;,]?)", header):
        found[-1].append((match.group(1), match.group(2)))
        if match.group(3) == ",":
            found.append([])
    return found


def check_element(text: str) -> None:
    tls = tls_info(certificate(text, uris=[text, "spiffe://a/b"], dns_names=[text]))
    element = forwarded_element(tls, CERT_HAS_SUBJECT + CERT_HAS_URI + CERT_HAS_DNS).decode("ascii")
    assert element.isprintable()
    assert len(element) <= MOST
    [pairs] = elements(element)
    assert pairs[0] == ("Hash", FINGERPRINT)
    assert ("URI", "spiffe://a/b") in pairs
    assert [key for key, _ in pairs] in (["Hash", "Subject", "URI", "URI", "DNS"], ["Hash", "URI"])
    # One that ignores quotes sees no further pair that the proxy would have written either, but in the subject.
    outside = re.sub('"[^"]*"', "", element)
    assert outside.count("Hash=") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_certificate_makes_one_element(text: str) -> None:
    check_element(text)


@given(st.text(max_size=60) | st.text(alphabet='\\",;=%aB0\r\n', max_size=30))
def test_any_text_makes_one_element(text: str) -> None:
    check_element(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_variables_are_short_printable_and_whole(text: str) -> None:
    connection = Connection()
    connection.tls = tls_info(
        certificate(text, issuer=text, uris=["spiffe://" + text, text], dns_names=[text, "b.example"]), server_name=text
    )
    connection.alpn = text[:255]
    exchange = Exchange(connection)
    for name in TLS:
        value = exchange.variable(name)
        assert value is None or (value.isascii() and value.isprintable() and len(value) <= LONGEST)
        log = getter(name)
        assert log is not None
        line = log(exchange)
        assert line is not None
        assert line == "-" or json.loads(f'"{line}"') == value
    dns = exchange.variable("downstream_peer_dns_san") or ""
    assert set(dns) <= set(string.ascii_letters + string.digits + "-._*%,")
    if len(text) < LONGEST:
        assert dns.endswith(",b.example")
    else:
        assert exchange.variable("downstream_peer_subject") is None
        assert exchange.variable("downstream_peer_spiffe_id") is None


def test_plain_connections_have_none_of_them() -> None:
    exchange = Exchange(Connection())
    assert {exchange.variable(name) for name in TLS} == {None}
