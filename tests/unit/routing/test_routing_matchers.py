"""Conditions on requests, and what routes do with them."""

import random

import pytest
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import GrpcRequest
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection
from pymosn.api.routing import Route, RouteMatcher
from pymosn.core.headers import HttpHeaders, headers_from
from pymosn.core.message import RequestHead
from pymosn.routing.actions import Forward, ForwardWeighted, Redirect, Target
from pymosn.routing.conditions import CertificateTest
from pymosn.routing.matchers import (
    AllOf,
    AnyRequest,
    Header,
    Method,
    Path,
    PathRegex,
    Prefix,
    Service,
    path_text,
)
from pymosn.routing.regex import PatternError
from pymosn.routing.table import VirtualHost


def exchange_of(head: RequestHead) -> Exchange:
    exchange = Exchange(Connection())
    exchange.request = head
    return exchange


def request(
    path: bytes = b"/", method: bytes = b"GET", headers: bytes = b"", host: bytes = b"a", query: bytes | None = None
) -> RequestHead:
    head = HttpRequest()
    head.raw_path, head.raw_method, head.headers, head.raw_host, head.raw_query = (
        path,
        method,
        HttpHeaders(headers),
        host,
        query,
    )
    return head


@pytest.mark.parametrize(
    ("matcher", "head", "expected"),
    [
        (AnyRequest(), request(), True),
        (Prefix("/"), request(b"/x"), True),
        (Prefix("/"), request(b"*"), True),
        (Prefix("/*"), request(b"*"), False),
        (Prefix("/api"), request(b"/api/x"), True),
        (Prefix("/api"), request(b"/apix"), True),
        (Prefix("/api"), request(b"/API"), False),
        (Prefix("/a b"), request(b"/a%20b"), True),
        (Prefix("/ü"), request(b"/%C3%BC/x"), True),
        (Path("/a"), request(b"/A"), True),
        (Path("/a"), request(b"/a/"), False),
        (Path("/a"), request(b"/ab"), False),
        (Path("/a"), request(b"/a", query=b"b"), True),
        (PathRegex("b+"), request(b"/abbc"), True),
        (PathRegex("^/b"), request(b"/ab"), False),
        (PathRegex("y"), request(b"/x", query=b"y"), False),
        (Header("X-A", "1"), request(headers=b"x-a: 1\r\n"), True),
        (Header("X-A", "1"), request(headers=b"x-a: 1\r\nx-a: 2\r\n"), False),
        (Header("X-A", "1,2"), request(headers=b"x-a: 1\r\nX-A: 2\r\n"), True),
        (Header("X-A", "v"), request(headers=b"x-a: V\r\n"), False),
        (Header("X-A", ""), request(), False),
        (Header("X-A", ""), request(headers=b"X-A:\r\n"), True),
        (Header("X-A", "^v\\d$", True), request(headers=b"x-a: v7\r\n"), True),
        (Header("X-A", ".*", True), request(), False),
        (Method("POST"), request(method=b"POST"), True),
        (Method("post"), request(method=b"POST"), False),
        (Method("^(GET|HEAD)$", True), request(method=b"HEAD"), True),
        (Method("^(GET|HEAD)$", True), request(method=b"POST"), False),
        (AllOf([Prefix("/a"), Method("GET")]), request(b"/a"), True),
        (AllOf([Prefix("/a"), Method("PUT")]), request(b"/a"), False),
    ],
)
def test_matcher(matcher: RouteMatcher, head: RequestHead, expected: bool) -> None:
    assert matcher.matches(exchange_of(head)) is expected


@pytest.mark.parametrize("make", [PathRegex, lambda text: Method(text, True), lambda text: Header("a", text, True)])
def test_bad_regex(make: type[PathRegex]) -> None:
    with pytest.raises(PatternError):
        make("(")


def test_path_text() -> None:
    assert path_text("/a%2Fb") == b"/a%2Fb"
    assert path_text("/a#\\") == b"/a%23%5C"


@pytest.mark.parametrize(
    ("redirect", "head", "location"),
    [
        (Redirect(301, "", "", ""), request(b"/x", query=b"y"), "http://a/x?y"),
        (Redirect(301, "https", "", ""), request(b"/x"), "https://a/x"),
        (Redirect(301, "https", "", ""), request(b"/x", host=b"a:80"), "https://a/x"),
        (Redirect(301, "https", "", ""), request(b"/x", host=b"a:8080"), "https://a:8080/x"),
        (Redirect(301, "http", "", ""), request(b"/x", host=b"a:80"), "http://a:80/x"),
        (Redirect(301, "", "", ""), request(b"/x", host=b"a:80"), "http://a:80/x"),
        (Redirect(301, "https", "b:80", ""), request(b"/x", host=b"a:80"), "https://b:80/x"),
        (Redirect(301, "", "", "/n"), request(b"/x", query=b""), "http://a/n?"),
        (Redirect(301, "https", "", ""), request(b"/x", host=b"[::1]:80"), "https://[::1]/x"),
        (Redirect(301, "https", "", ""), request(b"/x", host=b"", query=b"y"), "/x?y"),
    ],
)
def test_location(redirect: Redirect, head: RequestHead, location: str) -> None:
    assert redirect.location(head) == location


def test_location_of_https() -> None:
    head = request(b"/x", host=b"a:443")
    head.scheme = "https"
    assert Redirect(302, "http", "", "").location(head) == "http://a/x"
    assert Redirect(302, "", "", "").location(head) == "https://a:443/x"


def test_weights_are_kept() -> None:
    random.seed(7)
    action = ForwardWeighted([(Target("a"), 1), (Target("never"), 0), (Target("b"), 3)], 5.0)
    drawn = [action.choose(exchange_of(request())).cluster for _ in range(8000)]
    assert set(drawn) == {"a", "b"}
    assert drawn.count("b") == pytest.approx(6000, rel=0.05)
    assert action.timeout == 5.0


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "\u0663", "1" * 21])
def test_a_number_that_is_none_is_drawn(text: str) -> None:
    random.seed(7)
    action = ForwardWeighted([(Target("a"), 1), (Target("b"), 1)], 5.0, header="X-Pick")
    head = request()
    head.headers.set("x-pick", text)
    assert {action.choose(exchange_of(head)).cluster for _ in range(60)} == {"a", "b"}


def test_a_number_in_a_header_chooses() -> None:
    action = ForwardWeighted([(Target("a"), 1), (Target("b"), 2)], 5.0, header="X-Pick")
    found = []
    for number in ("0", "1", "2", "3"):
        head = request()
        head.headers.set("x-pick", number)
        found.append(action.choose(exchange_of(head)).cluster)
    assert found == ["a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("presented", "verified", "expected"),
    [
        (True, None, (False, True, True)),
        (False, None, (True, False, False)),
        (None, True, (False, False, True)),
        (None, False, (True, True, False)),
        (True, False, (False, True, False)),
    ],
)
def test_certificates_of_clients(presented: bool | None, verified: bool | None, expected: tuple[bool, ...]) -> None:
    """Without one, with one that is not verified, and with a verified one."""
    matcher = CertificateTest(presented, verified)
    found = []
    for tls in (None, tls_info(certificate(is_verified=False)), tls_info(certificate(is_verified=True))):
        exchange = exchange_of(request())
        exchange.connection.tls = tls
        found.append(matcher.matches(exchange))
    assert tuple(found) == expected
    assert "certificate" in matcher.text()


def test_weights_that_are_all_zero() -> None:
    with pytest.raises(ValueError, match="all 0"):
        ForwardWeighted([(Target("a"), 0)], 1.0)


def test_forward() -> None:
    assert Forward("a", 1.0).choose(exchange_of(request())).cluster == "a"


def grpc_call(path: bytes, headers: bytes = b"") -> RequestHead:
    head = GrpcRequest(HttpHeaders(headers))
    head.raw_method, head.raw_path = b"POST", path
    return head


@pytest.mark.parametrize(
    "matcher", [Service("pkg.Echo"), Service(".*"), Header("service", "pkg.Echo"), Prefix("/pkg.Echo/")]
)
def test_the_service_of_a_grpc_call_is_that_of_its_path(matcher: RouteMatcher) -> None:
    assert matcher.matches(exchange_of(grpc_call(b"/pkg.Echo/Say")))
    assert not matcher.matches(exchange_of(grpc_call(b"/", b"service: pkg.Echo\r\n")))
    routes = [Route(str(n), Path(f"/none/{n}"), Forward("c", 1.0)) for n in range(20)]
    host = VirtualHost("v", [], [*routes, Route("found", matcher, Forward("c", 1.0))])
    found = host.find(exchange_of(grpc_call(b"/pkg.Echo/Say", b"service: other\r\n")))
    assert found is not None
    assert found.name == "found"


def test_variables_of_a_grpc_call() -> None:
    exchange = exchange_of(grpc_call(b"/pkg.Echo/Say"))
    names = ("x-mosn-rpc-service", "x-mosn-rpc-method", "gRPC_serviceName", "grpc_status", "requestResult")
    assert [exchange.variable(name) for name in names] == ["pkg.Echo", "Say", "pkg.Echo", None, None]
    exchange.response = HttpResponse(200)
    exchange.response.trailers = headers_from({"grpc-status": "5"})
    assert [exchange.variable(name) for name in names[3:]] == ["5", "false"]
    assert exchange_of(request(b"/pkg.Echo/Say")).variable("gRPC_serviceName") is None
