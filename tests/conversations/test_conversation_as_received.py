"""What is checked is what is passed on: the client's scheme behind trusted proxies, and its request as it was received."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit import GET, Peer, Start, Talk
from tests.kit.options import http1_policy, http_options

from pymosn.api import Exchange, StreamFilter
from pymosn.api.routing import Route
from pymosn.config.typed import typed
from pymosn.filters.stream import cors, gzip
from pymosn.routing.actions import Forward, ForwardOptions, Mirror, Redirect, RetryPolicy
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.expressions import Expression
from pymosn.routing.hashing import HashHeader
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges
from pymosn.upstream.plan import BalancingPlan, HostPlan

pytestmark = pytest.mark.also_h2

CLIENT, PROXY = "9.9.9.9", "192.0.2.7"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
TO_HTTPS = [
    Route("plain", Expression('request.scheme == "http"'), Redirect(301, "https", "", "")),
    Route("rest", AnyRequest(), Forward("service", 60.0)),
]


class Seen(StreamFilter):
    """Notes what a filter sees of the scheme, and what it is told to believe of the client's headers."""

    def __init__(self) -> None:
        super().__init__(None)
        self.schemes: list[str | None] = []
        self.received: list[list[tuple[str, str]]] = []

    def on_request(self, exchange: Exchange) -> None:
        self.schemes += [exchange.request.scheme, exchange.variable("x-mosn-scheme")]

    def on_response(self, exchange: Exchange) -> None:
        self.received.append(exchange.received_headers.items())


def behind_proxies(start: Start, hops: int = 1, trusts: bool = False, **options: Any) -> Talk:
    http1 = http_options(policy=http1_policy(trusts_peer=hops > 0 or trusts))
    return start(x_forwarded=True, trusted_hops=hops, trusts_peer=trusts, http1=http1, **options)


def get(*fields: str) -> bytes:
    return "".join(["GET /a HTTP/1.1\r\nHost: h\r\n", *(f"{field}\r\n" for field in fields), "\r\n"]).encode()


def forwarded_fields(upstream: Peer) -> list[bytes]:
    lines = upstream.takes().split(b"\r\n")
    return [line.lower() for line in lines if line.lower().startswith(b"x-forwarded-proto")]


@pytest.mark.parametrize(
    ("hops", "trusts", "said", "scheme"),
    [
        (1, False, ["https"], "https"),
        (1, False, ["http"], "http"),
        (1, False, ["HTTPS"], "https"),
        (1, False, ["wss"], "https"),
        (1, False, ["http, https"], "https"),
        (1, False, ["https, http"], "http"),
        (1, False, ["https", "http"], "http"),
        (2, False, ["https, http"], "https"),
        (2, False, ["http, https, http"], "https"),
        (2, False, ["https"], "https"),
        (0, True, ["https"], "https"),
        (0, True, ["javascript"], "http"),
        (1, False, ["javascript"], "http"),
        (1, False, ["https://"], "http"),
        (1, False, [""], "http"),
        (1, False, ["https,"], "http"),
        (0, False, ["https"], "http"),
    ],
)
def test_the_scheme_that_a_trusted_proxy_reports_is_the_scheme_everywhere(
    start: Start, hops: int, trusts: bool, said: list[str], scheme: str
) -> None:
    seen = Seen()
    talk = behind_proxies(start, hops, trusts, filters={"seen": seen}, routes=TO_HTTPS)
    client = talk.connect(PROXY)
    fields = [f"X-Forwarded-For: {CLIENT}, 10.0.0.9", *(f"X-Forwarded-Proto: {value}" for value in said)]
    client.sends(get(*fields))
    if scheme == "https":
        upstream = talk.expect_dial()
        assert forwarded_fields(upstream) == [b"x-forwarded-proto: https"]
        upstream.sends(OK)
        client.receives(OK)
    else:
        answer = client.takes()
        assert answer.startswith(b"HTTP/1.1 301 ")
        assert b"\r\nlocation: https://h/a\r\n" in answer
    assert seen.schemes == [scheme, scheme]


def test_each_request_of_a_connection_has_its_own_scheme(start: Start) -> None:
    talk = behind_proxies(start)
    client = talk.connect(PROXY)
    for number, said in enumerate(["https", "ftp", "https", "", "http", "WSS"]):
        client.sends(get(f"X-Forwarded-For: {CLIENT}", *([f"X-Forwarded-Proto: {said}"] if said else [])))
        upstream = talk.expect_dial() if number == 0 else talk.upstreams[0]
        expected = b"https" if said in ("https", "WSS") else b"http"
        assert forwarded_fields(upstream) == [b"x-forwarded-proto: " + expected]
        upstream.sends(OK)
        client.receives(OK)


@pytest.mark.parametrize("address", ["", "unknown", "9.9.9.9:x"])
def test_a_client_that_bypassed_the_proxies_is_not_believed(start: Start, address: str) -> None:
    seen = Seen()
    talk = behind_proxies(start, filters={"seen": seen})
    client = talk.connect(PROXY)
    claims = ["X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1"]
    client.sends(get(*([f"X-Forwarded-For: {address}"] if address else []), *claims, "X-Mosn-Global-Timeout: 9000"))
    upstream = talk.expect_dial()
    upstream.receives(b"GET /a HTTP/1.1\r\nHost: h\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n")
    upstream.sends(OK)
    client.takes()
    assert seen.schemes == ["http", "http"]


class Secures(StreamFilter):
    """Says that each request with a mark came by TLS."""

    def on_request(self, exchange: Exchange) -> None:
        if "x-tls" in exchange.request.headers:
            exchange.set_variable("x-mosn-scheme", "https")


def test_a_scheme_that_a_filter_sets_is_forwarded_with_this_request_only(start: Start) -> None:
    talk = start(x_forwarded=True, filters={"secures": Secures(None)})
    client = talk.connect()
    for number, fields in enumerate([["X-TLS: 1"], [], ["X-TLS: 1"]]):
        client.sends(get(*fields))
        upstream = talk.expect_dial() if number == 0 else talk.upstreams[0]
        assert forwarded_fields(upstream) == [b"x-forwarded-proto: " + (b"https" if fields else b"http")]
        upstream.sends(OK)
        client.receives(OK)


# ---- filters of the response


def changed(additions: dict[str, str], removals: list[str], **options: Any) -> list[Route]:
    level = ChangeLevel([HeaderAddition(name, value, False) for name, value in additions.items()], removals)
    made = ForwardOptions(changes=RequestChanges(LevelChanges([level])), **options)
    return [Route("all", AnyRequest(), Forward("service", 60.0, made))]


def shipped(**settings: dict[str, Any]) -> dict[str, StreamFilter]:
    made: dict[str, StreamFilter] = {}
    for name, given in settings.items():
        if name == "cors":
            made[name] = cors.CorsFilter(typed(given, cors.Settings))
        else:
            made[name] = gzip.GzipFilter(typed(given, gzip.Settings))
    return made


@pytest.mark.parametrize(
    ("sent", "additions", "removals", "allowed"),
    [
        ("https://app.example", {}, ["origin"], "https://app.example"),
        ("https://app.example", {"origin": "https://inside.example"}, [], "https://app.example"),
        ("", {"origin": "https://app.example"}, [], ""),
        ("https://evil.example", {"origin": "https://app.example"}, [], ""),
    ],
)
def test_cors_judges_the_clients_origin(
    start: Start, sent: str, additions: dict[str, str], removals: list[str], allowed: str
) -> None:
    filters = shipped(cors={"allow_origins": ["https://app.example"]})
    talk = start(routes=changed(additions, removals), filters=filters)
    client, upstream = talk.opening(get(*([f"Origin: {sent}"] if sent else [])))
    upstream.takes()
    upstream.sends(OK)
    answer = client.takes()
    assert (f"access-control-allow-origin: {allowed}".encode() in answer) == bool(allowed)
    assert (b"access-control-allow-origin" in answer) == bool(allowed)


@pytest.mark.http1_only("spelling")
@pytest.mark.parametrize(
    ("sent", "additions", "removals", "coded"),
    [
        ("gzip", {}, ["accept-encoding"], True),
        ("gzip", {"accept-encoding": "identity"}, [], True),
        ("identity", {"accept-encoding": "gzip"}, [], False),
        ("", {"accept-encoding": "gzip"}, [], False),
    ],
)
def test_gzip_judges_what_the_client_accepts(
    start: Start, sent: str, additions: dict[str, str], removals: list[str], coded: bool
) -> None:
    filters = shipped(gzip={"content_types": ["text/html"], "encodings": ["gzip"]})
    talk = start(routes=changed(additions, removals), filters=filters)
    client, upstream = talk.opening(get(*([f"Accept-Encoding: {sent}"] if sent else [])))
    upstream.takes()
    upstream.sends(OK)
    answer = client.takes()
    assert (b"\r\nContent-Encoding: gzip\r\n" in answer) == coded
    assert (b"hello" in answer) != coded


class AtHost(StreamFilter):
    """Judges each attempt."""

    def __init__(self) -> None:
        super().__init__(None)
        self.received: list[str | None] = []

    def on_host(self, exchange: Exchange) -> None:
        self.received.append(exchange.received_headers.get("x-gone"))


def test_a_filter_of_attempts_judges_each_by_the_request_as_received(start: Start) -> None:
    judge = AtHost()
    routes = changed({}, ["x-gone"], retry_policy=RetryPolicy(True, 1))
    talk = start(routes=routes, filters={"judge": judge}, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client, first = talk.opening(get("X-Gone: 1"), address="10.0.0.1:80")
    first.takes()
    first.resets()
    second = talk.expect_dial("10.0.0.2:80")
    second.takes()
    second.sends(OK)
    client.receives(OK)
    assert judge.received == ["1", "1"]


class Removes(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers.remove("accept-encoding")


@pytest.mark.http1_only("spelling")
def test_neither_filters_nor_retries_change_what_was_received(start: Start) -> None:
    seen = Seen()
    routes = changed({"x-added": "1"}, ["x-gone"], retry_policy=RetryPolicy(True, 1))
    talk = start(routes=routes, filters={"removes": Removes(None), "seen": seen}, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client, first = talk.opening(get("Accept-Encoding: gzip", "X-Gone: 1"), address="10.0.0.1:80")
    asked = first.takes()
    first.resets()
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(asked)
    assert asked == b"GET /a HTTP/1.1\r\nHost: h\r\nx-added: 1\r\n\r\n"
    second.sends(OK)
    client.receives(OK)
    assert seen.received == [[("host", "h"), ("accept-encoding", "gzip"), ("x-gone", "1")]]


# ---- copies, and the path


def test_a_copy_goes_by_the_hash_of_the_request_as_received(start: Start) -> None:
    """The route removes the header of the hash: copies of one user still go to one host."""
    hosts = tuple(HostPlan(f"10.0.1.{number}:80") for number in range(1, 6))
    balancing = BalancingPlan("LB_MAGLEV")
    routes = changed({}, ["x-user"], hash_policies=[HashHeader("x-user")], mirrors=[Mirror("other", 100)])
    talk = start(routes=routes, other_plan={"hosts": hosts, "balancing": balancing})
    copied: dict[str, str] = {}
    for user in [*"abcdefgh"] * 2:
        client = talk.connect()
        client.sends(get(f"X-User: {user}"))
        while talk.dials:
            talk.hold_dial(talk.dials[0].address).connects()
        for peer in talk.upstreams:
            asked = peer.takes()
            if asked:
                assert b"X-User" not in asked
                if peer.name != "upstream 10.0.0.1:80":
                    assert copied.setdefault(user, peer.name) == peer.name
                peer.sends(OK)
        client.receives(OK)
    assert len(set(copied.values())) > 1


def test_the_path_is_rewritten_once_and_logged_as_received(start: Start) -> None:
    options = ForwardOptions(changes=RequestChanges(path=PrefixRewrite(b"/a", "/a/a")), retry_policy=RetryPolicy(True, 1))
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, options))]
    talk = start(routes=routes, hosts=["10.0.0.1:80", "10.0.0.2:80"], filters={"seen": Seen()})
    client, first = talk.opening(get(), address="10.0.0.1:80")
    asked = first.takes()
    assert asked.startswith(b"GET /a/a HTTP/1.1\r\n")
    first.resets()
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(asked)
    second.sends(OK)
    client.receives(OK)
    exchange = talk.outcomes.exchanges[0]
    names = ("request_path", "request_uri", "x-mosn-path", "x-mosn-path-original")
    assert [exchange.variable(name) for name in names] == ["/a", "/a", "/a/a", "/a"]


def test_an_unchanged_request_costs_no_copy(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    client.receives(OK)
    exchange = talk.outcomes.exchanges[0]
    assert exchange.as_received is None
    assert exchange.received_headers is exchange.request.headers
