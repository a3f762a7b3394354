"""Which virtual host: MOSN's order of domains."""

import pytest

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest, Path
from pymosn.routing.table import RouteTable, VirtualHost


def table(*domains: str) -> RouteTable:
    """Each domain is a virtual host of that name."""
    made = RouteTable("t")
    for domain in domains:
        made.add(VirtualHost(domain, [domain], []))
    return made


ALL = (
    "a.com",
    "a.com:8080",
    "b.com:*",
    "*.com",
    "*.a.com",
    "*.a.com:8080",
    "*-x.a.com",
    "*.net:*",
    "*.net:90",
    "[::1]",
    "[::1]:80",
    "*",
)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        # exact host and port
        ("a.com", "a.com"),
        ("a.com:8080", "a.com:8080"),
        # exact host, any port
        ("b.com", "b.com:*"),
        ("b.com:1", "b.com:*"),
        # beyond MOSN: a domain without a port serves every port that nothing names
        ("a.com:1", "a.com"),
        # wildcard with its port: the longest suffix wins
        ("x.com", "*.com"),
        ("x.a.com", "*.a.com"),
        ("y.x.a.com", "*.a.com"),
        ("y-x.a.com", "*-x.a.com"),
        ("x.a.com:8080", "*.a.com:8080"),
        ("z.net:90", "*.net:90"),
        # wildcard with any port
        ("z.net:91", "*.net:*"),
        ("z.net", "*.net:*"),
        # beyond MOSN, once more
        ("x.a.com:1", "*.a.com"),
        # a star matches at least one character
        (".com", "*"),
        ("-x.a.com", "*.a.com"),
        # IPv6
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]:80"),
        ("[::1]:81", "[::1]"),
        ("[::2]:80", "*"),
        # the rest
        ("example.org", "*"),
        ("com", "*"),
        ("", "*"),
    ],
)
def test_order_of_domains(authority: str, expected: str) -> None:
    for domains in (ALL, tuple(reversed(ALL))):
        found = table(*domains).find_virtual_host(authority.encode())
        assert found is not None
        assert found.name == expected


def test_without_a_default_nothing_may_match() -> None:
    made = table("a.com", "*.b.com")
    assert made.find_virtual_host(b"c.com") is None
    assert made.find_virtual_host(b"") is None
    assert made.find_virtual_host(b"b.com") is None


@pytest.mark.parametrize("default", ["*", "*:*"])
def test_only_a_default_ignores_the_host(default: str) -> None:
    made = table(default)
    for authority in (b"", b"a", b"a:1"):
        found = made.find_virtual_host(authority)
        assert found is not None
        assert found.name == default


def test_domains_are_compared_in_lower_case() -> None:
    found = table("A.Com").find_virtual_host(b"a.com")
    assert found is not None


def test_any_host_on_one_port() -> None:
    made = table("*:8080", "*")
    on_port, other = made.find_virtual_host(b"a.com:8080"), made.find_virtual_host(b"a.com:80")
    assert on_port is not None
    assert other is not None
    assert (on_port.name, other.name) == ("*:8080", "*")


@pytest.mark.parametrize(
    "domains",
    [
        ("a.com", "A.com"),
        ("a.com:*", "a.com:*"),
        ("*", "*:*"),
        ("*.a.com", "*.a.com"),
        ("*.a.com:*", "*.A.com:*"),
        ("*.a.com:80", "*.a.com:80"),
        ("a.*",),
        ("a.*.com",),
        ("**.com",),
        ("",),
        (":80",),
    ],
)
def test_domains_that_are_refused(domains: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="domain"):
        table(*domains)


def test_one_virtual_host_may_have_many_domains() -> None:
    made = RouteTable("t")
    host = VirtualHost("v", ["a.com", "*.a.com", "a.com:*"], [])
    made.add(host)
    assert made.find_virtual_host(b"x.a.com") is host
    assert made.find_virtual_host(b"a.com:7") is host


def test_first_route_that_matches() -> None:
    exchange = Exchange(Connection())
    exchange.request = HttpRequest()
    exchange.request.raw_path = b"/x"
    action = DirectResponse(200, "")
    first, second = Route("1", Path("/x"), action), Route("2", AnyRequest(), action)
    assert VirtualHost("v", [], [first, second]).find(exchange) is first
    assert VirtualHost("v", [], [second, first]).find(exchange) is second
    assert VirtualHost("v", [], []).find(exchange) is None
