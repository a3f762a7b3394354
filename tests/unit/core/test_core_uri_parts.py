"""URIs by their parts: split as RFC 3986 says, and written so that they are read in the same way."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.passes import one_of

from pymosn.core.uri import Uri, parse_target, parse_uri, target_of

ASCII = {*range(0x21, 0x7F)}
Parts = tuple[bytes, bytes | None, bytes, bytes | None, bytes | None]


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "path", "query", "fragment"),
    [
        (b"http://a:80/b?c#d", b"http", b"a:80", b"/b", b"c", b"d"),
        (b"HTTP://a", b"http", b"a", b"", None, None),
        (b"http://a:/", b"http", b"a:", b"/", None, None),
        (b"http://a?", b"http", b"a", b"", b"", None),
        (b"http://[::1]:80/", b"http", b"[::1]:80", b"/", None, None),
        (b"//a/b", b"", b"a", b"/b", None, None),
        (b"/a:b?c:d", b"", None, b"/a:b", b"c:d", None),
        (b"/a?b?c#d?e", b"", None, b"/a", b"b?c", b"d?e"),
        (b"?a", b"", None, b"", b"a", None),
        (b"#", b"", None, b"", None, b""),
        (b"mailto:a@b", b"mailto", None, b"a@b", None, None),
        (b"1a:b", b"", None, b"1a:b", None, None),
        (b"http:/a", b"http", None, b"/a", None, None),
        (b"", b"", None, b"", None, None),
    ],
)
def test_parse_uri(text: bytes, scheme: bytes, authority: bytes | None, path: bytes, query: bytes, fragment: bytes) -> None:
    uri = parse_uri(text)
    assert (uri.scheme, uri.authority, uri.path, uri.query, uri.fragment) == (scheme, authority, path, query, fragment)


def test_a_target_has_no_authority() -> None:
    target = parse_target(b"//evil.example/x?a#b")
    assert (target.authority, target.path, target.query, target.fragment) == (None, b"//evil.example/x", b"a", b"b")
    assert target.write() == b"/.//evil.example/x?a#b"
    assert target.target() == b"//evil.example/x?a"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (Uri(b"/a", scheme=b"http", authority=b"h"), b"http://h/a"),
        (Uri(b"a", scheme=b"http", authority=b"h"), b"http://h/a"),
        (Uri(b"", scheme=b"http", authority=b"h"), b"http://h"),
        (Uri(b"", b"q", scheme=b"http", authority=b"h"), b"http://h?q"),
        (Uri(b"//e/x", scheme=b"http", authority=b"h"), b"http://h//e/x"),
        (Uri(b"//e/x"), b"/.//e/x"),
        (Uri(b"x:y"), b"/x:y"),
        (Uri(b"/a", b""), b"/a?"),
        (Uri(b"/a", b"b", fragment=b"c"), b"/a?b#c"),
        # What a part cannot have is escaped, and what is escaped stays so.
        (Uri("/ü".encode(), "ü".encode(), fragment="ü".encode()), b"/%C3%BC?%C3%BC#%C3%BC"),
        (Uri(b"/a?b#c", b"d#e", fragment=b"f#g"), b"/a%3Fb%23c?d%23e#f%23g"),
        (Uri(b"/\\evil.example"), b"/%5Cevil.example"),
        (Uri(b"/%41%zz%", b"%4%41"), b"/%41%25zz%25?%254%41"),
        (Uri(b"/a b\r\nc", b"\r\nx: y"), b"/a%20b%0D%0Ac?%0D%0Ax:%20y"),
        (Uri(b'/"<>^`{|}', b'"<>^`{|}'), b"/%22%3C%3E%5E%60%7B%7C%7D?%22%3C%3E%5E%60%7B%7C%7D"),
        (Uri(b"/!$&'()*+,;=:@[]", b"a[]=/?:@!$&'()*+,;"), b"/!$&'()*+,;=:@[]?a[]=/?:@!$&'()*+,;"),
    ],
)
def test_write(uri: Uri, text: bytes) -> None:
    assert uri.write() == text


def test_target_of() -> None:
    assert target_of(b"/a", None) == b"/a"
    assert target_of(b"/a", b"") == b"/a?"
    assert Uri(b"", b"q").target() == b"/?q"


@given(st.binary(max_size=40), st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=20), st.booleans())
@settings(max_examples=500 // one_of(5), deadline=None)
def test_what_is_written_is_read_in_the_same_way(
    path: bytes, query: bytes | None, fragment: bytes | None, has_host: bool
) -> None:
    """By this parser and by Python's, whatever the parts contain: none of them becomes a host or another part."""
    host = b"a.example:8080" if has_host else None
    text = Uri(path, query, scheme=b"http" if has_host else b"", authority=host, fragment=fragment).write()
    assert set(text) <= ASCII
    again = parse_uri(text)
    assert again.authority == host
    assert (again.query is None, again.fragment is None) == (query is None, fragment is None)
    assert again.write() == text
    python = urlsplit(text)
    assert (python.scheme, python.netloc) == (b"http" if has_host else b"", host or b"")
    assert python.path == again.path
    assert python.query == (again.query or b"")
