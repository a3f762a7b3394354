"""URIs and hosts as clients write them, and what routes, upstreams and Location get of them."""

import pytest
from tests.kit import GET, OK, Start, forward
from tests.kit.options import http1_policy, http_options

from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse, Redirect
from pymosn.routing.matchers import AnyRequest, Prefix
from pymosn.routing.rewrites import PrefixRewrite
from pymosn.routing.table import RouteTable, VirtualHost

pytestmark = pytest.mark.also_h2

NOT_IN_HTTP2 = "an absolute target"


def ask(target: bytes, host: bytes = b"a", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return method + b" " + target + b" HTTP/" + version + b"\r\nHost: " + host + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("redirect", "target", "host", "location"),
    [
        # One query: that of the path, or else of the request.
        (Redirect(301, "", "", "/new?x=1"), b"/old?y=2", b"a", b"http://a/new?x=1"),
        (Redirect(301, "", "", "/new?x=1"), b"/old", b"a", b"http://a/new?x=1"),
        (Redirect(301, "", "", "/new?"), b"/old?y", b"a", b"http://a/new?"),
        (Redirect(301, "", "", "/new"), b"/old?y=2?z", b"a", b"http://a/new?y=2?z"),
        (Redirect(301, "", "", "/new?x", strips_query=True), b"/old?y", b"a", b"http://a/new?x"),
        (Redirect(301, "", "", "/new", strips_query=True), b"/old?y", b"a", b"http://a/new"),
        # A fragment is last.
        (Redirect(301, "", "", "/new#part"), b"/old?y=2", b"a", b"http://a/new?y=2#part"),
        (Redirect(301, "", "", "/new?x=1#part?y"), b"/old?y=2", b"a", b"http://a/new?x=1#part?y"),
        # What a URI cannot have is escaped, once.
        (Redirect(301, "", "", "/ü/%C3%BC?ü#ü"), b"/", b"a", b"http://a/%C3%BC/%C3%BC?%C3%BC#%C3%BC"),
        (Redirect(301, "", "", "/a b\\c%"), b"/", b"a", b"http://a/a%20b%5Cc%25"),
        (Redirect(301, "", "", ""), b"/x{y}?\\|", b"a", b"http://a/x%7By%7D?%5C%7C"),
        (Redirect(301, "", "", "new"), b"/old", b"a", b"http://a/new"),
        # Hosts and ports.
        (Redirect(301, "", "b.example", ""), b"/x?y", b"a:8080", b"http://b.example/x?y"),
        (Redirect(301, "", "b.example:8443", ""), b"/x", b"a:8080", b"http://b.example:8443/x"),
        (Redirect(301, "", "b.example:8443", "", port=9), b"/x", b"a", b"http://b.example:9/x"),
        (Redirect(301, "", "[2001:db8::1]", "", port=9), b"/x", b"a", b"http://[2001:db8::1]:9/x"),
        (Redirect(301, "", "", "", port=9), b"/x", b"[::1]:80", b"http://[::1]:9/x"),
        (Redirect(301, "HTTPS", "", ""), b"/x", b"a:80", b"https://a/x"),
        (Redirect(301, "https", "", ""), b"/x", b"[::1]:80", b"https://[::1]/x"),
        (Redirect(301, "https", "", ""), b"/x", b"a:00080", b"https://a/x"),
        (Redirect(301, "https", "", ""), b"/x", b"a:0443", b"https://a:0443/x"),
        (Redirect(301, "https", "", ""), b"/x", b"a:8080", b"https://a:8080/x"),
        (Redirect(301, "https", "b:80", ""), b"/x", b"a:80", b"https://b:80/x"),
        (Redirect(301, "", "", ""), b"/x", b"A.example:", b"http://a.example/x"),
        (Redirect(301, "https", "", ""), b"/x", b"[::1]:", b"https://[::1]/x"),
        # Paths do not become hosts.
        (Redirect(301, "", "", "//evil.example"), b"/x", b"a", b"http://a//evil.example"),
        (Redirect(301, "", "", "/\\evil.example"), b"/x", b"a", b"http://a/%5Cevil.example"),
        (Redirect(301, "", "", "", rewrite=PrefixRewrite(b"/go", "")), b"/go@evil", b"a", b"http://a/@evil"),
        (Redirect(301, "", "", "", rewrite=PrefixRewrite(b"/go", "")), b"/go.evil.example", b"a", b"http://a/.evil.example"),
    ],
)
def test_location(start: Start, redirect: Redirect, target: bytes, host: bytes, location: bytes) -> None:
    talk = start(routes=[Route("r", AnyRequest(), redirect)])
    client = talk.connect()
    client.sends(ask(target, host))
    assert b"\r\nlocation: " + location + b"\r\n" in client.takes()


@pytest.mark.http1_only("HTTP/1.0")
@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        (Redirect(301, "https", "", "//evil.example/x"), b"/.//evil.example/x"),
        (Redirect(301, "", "", "/a", port=80), b"/a"),
        (Redirect(301, "", "b", "/a"), b"http://b/a"),
    ],
)
def test_location_of_a_request_without_host(start: Start, redirect: Redirect, location: bytes) -> None:
    talk = start(routes=[Route("r", AnyRequest(), redirect)])
    client = talk.connect()
    client.sends(b"GET /x HTTP/1.0\r\n\r\n")
    assert b"\r\nlocation: " + location + b"\r\n" in client.takes()


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (b"a.example:", b"a.example"),
        (b"A.Example:", b"a.example"),
        (b"[::1]:", b"[::1]"),
        (b"a.example:8080", b"a.example:8080"),
        (b"A.Example", b"A.Example"),
    ],
)
def test_an_empty_port_is_not_forwarded(start: Start, said: bytes, sent: bytes) -> None:
    talk = start()
    client, upstream = talk.opening(ask(b"/", said))
    assert b"\r\nhost: " + sent.lower() + b"\r\n" in upstream.takes().lower()
    upstream.sends(OK)
    client.receives(OK)
    assert [exchange.request.host for exchange in talk.outcomes.exchanges] == [sent.decode().lower()]


@pytest.mark.http1_only(NOT_IN_HTTP2)
@pytest.mark.parametrize(
    ("target", "line", "host"),
    [
        (b"http://b.example:/", b"GET / HTTP/1.1", b"b.example"),
        (b"http://b.example:", b"GET / HTTP/1.1", b"b.example"),
        (b"HTTP://B.example:?x", b"GET /?x HTTP/1.1", b"b.example"),
        (b"http://[::1]:/x/../y?\\", b"GET /y?\\ HTTP/1.1", b"[::1]"),
        (b"http://b.example:80/", b"GET / HTTP/1.1", b"b.example:80"),
    ],
)
def test_absolute_targets(start: Start, target: bytes, line: bytes, host: bytes) -> None:
    _, upstream = start().opening(ask(target, b"other"))
    upstream.receives(line + b"\r\nHost: " + host + b"\r\n\r\n")


@pytest.mark.parametrize("host", [b"a.example:", b"A.example", b"a.example"])
def test_routes_by_host_see_one_form(start: Start, host: bytes) -> None:
    table = RouteTable("table")
    table.add(VirtualHost("other", ["*"], [Route("o", AnyRequest(), DirectResponse(404, "other"))]))
    table.add(VirtualHost("own", ["a.example"], [Route("d", Prefix("/"), DirectResponse(200, "own"))]))
    client = start(table=table).connect()
    client.sends(ask(b"/", host))
    assert client.takes().endswith(b"\r\n\r\nown")


@pytest.mark.parametrize("query", [b"a\\b", b"\\", b"a=\\..\\..\\c", b'"<>^`{|}', b"a[]=1&b=%5C"])
def test_queries_are_forwarded_unchanged(start: Start, query: bytes) -> None:
    client, upstream = start().opening(ask(b"/a?" + query))
    assert b"/a?" + query + b" HTTP/1.1" in upstream.takes().partition(b"\r\n")[0]
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.http1_only("HTTP/2 resets the stream")
@pytest.mark.parametrize("target", [b"/a\\b", b"/\\?a", b"/a?\xc3\xa9", b"/\xc3\xa9"])
def test_what_a_strict_listener_refuses(start: Start, target: bytes) -> None:
    talk = start()
    client = talk.connect()
    client.sends(ask(target))
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["bad_target"]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/a?\xc3\xa9", b"/a?%C3%A9"),
        (b"/\xc3\xa9/../\xff", b"/%FF"),
        (b"/a?\\\xe9{}", b"/a?\\%E9{}"),
        (b"/%c3%a9?%c3", b"/%C3%A9?%c3"),
    ],
)
def test_a_tolerant_listener_escapes_8_bit_bytes(start: Start, target: bytes, sent: bytes) -> None:
    talk = start(http1=http_options(policy=http1_policy(is_strict=False)))
    client, upstream = talk.opening(ask(target))
    assert b" " + sent + b" HTTP/1.1" in upstream.takes().partition(b"\r\n")[0]
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.http1_only("a host of HTTP/1.0")
@pytest.mark.parametrize(
    ("address", "host"), [("[fe80::1%lo]:80", b"[fe80::1]:80"), ("10.0.0.1:80", b"10.0.0.1:80"), ("[::1]:80", b"[::1]:80")]
)
def test_the_zone_of_an_address_is_not_sent(start: Start, address: str, host: bytes) -> None:
    talk = start(hosts=[address])
    client = talk.connect()
    client.sends(b"GET / HTTP/1.0\r\n\r\n")
    talk.expect_dial(address).receives(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")


# ---- Max-Forwards


def limited(method: bytes, value: bytes, target: bytes = b"/a?b") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: A.example\r\nCookie: secret\r\nMax-Forwards: " + value + b"\r\n\r\n"


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
@pytest.mark.parametrize(
    ("value", "sent"), [(b"1", b"0"), (b"10", b"9"), (b"007", b"6"), (b"99999999999999999999", b"999999998")]
)
def test_max_forwards_is_counted_down(start: Start, method: bytes, value: bytes, sent: bytes) -> None:
    client, upstream = start().opening(limited(method, value))
    assert b"\r\nmax-forwards: " + sent + b"\r\n" in upstream.takes().lower()
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
@pytest.mark.parametrize("value", [b"0", b"1", b"x"])
def test_max_forwards_means_nothing_elsewhere(start: Start, method: bytes, value: bytes) -> None:
    _, upstream = start().opening(limited(method, value))
    assert b"\r\nmax-forwards: " + value + b"\r\n" in upstream.takes().lower()


@pytest.mark.parametrize(
    ("method", "body"),
    [(b"OPTIONS", b""), (b"TRACE", b"TRACE /a?b HTTP/1.1\r\nhost: A.example\r\nmax-forwards: 0\r\n\r\n")],
)
def test_the_last_recipient_answers(start: Start, method: bytes, body: bytes) -> None:
    talk = start()
    client = talk.connect()
    client.sends(limited(method, b"0"))
    head, _, found = client.takes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert (b"\r\ncontent-type: message/http" in head) == (method == b"TRACE")
    assert (found, b"secret" in found) == (body, False)
    talk.expect_no_dial()
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1,2", b"0x1", b"1.0", b"\xc2\xb2", b"1\r\nMax-Forwards: 2"])
def test_max_forwards_that_is_not_a_number(start: Start, value: bytes) -> None:
    talk = start()
    client = talk.connect()
    client.sends(limited(b"TRACE", value))
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["bad_request"]


def test_max_forwards_does_not_hinder_local_answers(start: Start) -> None:
    talk = start(routes=[Route("d", Prefix("/a"), DirectResponse(204, "")), *forward()])
    client = talk.connect()
    client.sends(limited(b"OPTIONS", b"0"))
    assert client.takes().startswith(b"HTTP/1.1 204 ")


# ---- clients that close their side


@pytest.mark.http1_only("a half-close", "h2-h1", "h2-h2")
@pytest.mark.parametrize(
    ("timeout", "late", "is_answered"), [(1.0, 0.9, True), (1.0, 1.2, False), (5.0, 4.5, True), (0.0, 50.0, True)]
)
def test_half_close(start: Start, timeout: float, late: float, is_answered: bool) -> None:
    talk = start(http1=http_options(half_close_timeout=timeout))
    client, upstream = talk.forwarded(GET)
    client.shuts()
    talk.advance(late)
    if is_answered:
        upstream.sends(OK)
        assert client.takes().startswith(b"HTTP/1.1 200 OK\r\n")
        assert talk.reasons() == ["ok"]
    else:
        assert upstream.is_reset() or upstream.is_closed()
        assert talk.reasons() == ["client_gone"]
