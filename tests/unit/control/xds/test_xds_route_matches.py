"""Which route of a RouteConfiguration a request gets: tables of expected results, as Envoy's documentation has them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.control.xds.xds_routes import Json, ask, convert, forward, one_host

from pymosn.routing.conditions import fold

PATHS = [
    ({"prefix": "/a"}, {"/a": True, "/ab": True, "/a/b": True, "/A": False, "/b": False}),
    ({"prefix": ""}, {"/": True, "/x?y": True}),
    ({"prefix": "/a", "caseSensitive": False}, {"/A": True, "/Ab": True, "/b": False}),
    ({"path": "/a"}, {"/a": True, "/a?x=1": True, "/A": False, "/a/": False, "/ab": False}),
    ({"path": "/a", "caseSensitive": False}, {"/A": True, "/a": True, "/ab": False}),
    ({"pathSeparatedPrefix": "/a"}, {"/a": True, "/a/": True, "/a/b": True, "/ab": False, "/a?x": True, "/A": False}),
    ({"pathSeparatedPrefix": "/a", "caseSensitive": False}, {"/A/b": True, "/Ab": False}),
    ({"safeRegex": {"regex": "/a[0-9]"}}, {"/a1": True, "/a1?x": True, "/a12": False, "/x/a1": False, "/a": False}),
    ({"safeRegex": {"regex": "/a|/b"}}, {"/a": True, "/b": True, "/ac": False, "/cb": False}),
]


@pytest.mark.parametrize(("match", "results"), PATHS, ids=[str(row[0]) for row in PATHS])
def test_paths(match: Json, results: dict[str, bool]) -> None:
    source = one_host(forward(match))
    assert {url: ask(source, url).index == 0 for url in results} == results


@pytest.mark.parametrize(("match", "results"), PATHS, ids=[str(row[0]) for row in PATHS])
def test_paths_among_many(match: Json, results: dict[str, bool]) -> None:
    # Enough routes for an index.
    others = [forward({"path": f"/other/{i}"}) for i in range(20)]
    source = one_host(*others, forward(match), forward({"prefix": "/"}))
    assert {url: ask(source, url).index == 20 for url in results} == results


def test_connect() -> None:
    source = one_host(forward({"connectMatcher": {}}))
    assert ask(source, "//a:443", method="CONNECT").index == 0
    assert ask(source, "//a/").index == -1


#: A condition on the header `x`, and whether requests with these values of it match; None: without the header.
HEADERS: list[tuple[Json, dict[str | None, bool]]] = [
    ({"stringMatch": {"exact": "ab"}}, {"ab": True, "AB": False, "abc": False, "": False, None: False}),
    ({"stringMatch": {"exact": "Ab", "ignoreCase": True}}, {"aB": True, "abc": False}),
    ({"stringMatch": {"prefix": "ab"}}, {"ab": True, "abc": True, "xab": False, None: False}),
    ({"stringMatch": {"prefix": "AB", "ignoreCase": True}}, {"abc": True, "xab": False}),
    ({"stringMatch": {"suffix": "ab"}}, {"ab": True, "xab": True, "abc": False}),
    ({"stringMatch": {"contains": "ab"}}, {"xabx": True, "a b": False}),
    ({"stringMatch": {"contains": "aB", "ignoreCase": True}}, {"xAbx": True}),
    ({"stringMatch": {"safeRegex": {"regex": "a+"}}}, {"aa": True, "aab": False, "baa": False, None: False}),
    ({"stringMatch": {"exact": "ab"}, "invertMatch": True}, {"ab": False, "x": True, None: False}),
    ({"stringMatch": {"exact": "ab"}, "invertMatch": True, "treatMissingHeaderAsEmpty": True}, {"ab": False, None: True}),
    ({"stringMatch": {"exact": ""}, "treatMissingHeaderAsEmpty": True}, {"": True, "a": False, None: True}),
    ({"stringMatch": {"safeRegex": {"regex": "^$"}}, "treatMissingHeaderAsEmpty": True}, {"": True, None: True, "a": False}),
    ({"presentMatch": True}, {"": True, "a": True, None: False}),
    ({"presentMatch": False}, {"": False, "a": False, None: True}),
    ({"presentMatch": True, "invertMatch": True}, {"a": False, None: True}),
    ({"presentMatch": False, "invertMatch": True}, {"a": True, None: False}),
    ({"presentMatch": True, "treatMissingHeaderAsEmpty": True}, {"a": True, None: True}),
    ({}, {"a": True, "": True, None: False}),
    ({"invertMatch": True}, {"a": False, None: True}),
    (
        {"rangeMatch": {"start": -5, "end": 5}},
        {"-5": True, "4": True, "5": False, "-6": False, "x": False, "1.0": False, "": False, None: False},
    ),
    ({"rangeMatch": {"start": 0, "end": 5}, "invertMatch": True}, {"4": False, "x": True, None: False}),
    ({"rangeMatch": {"start": 0, "end": 5}, "invertMatch": True, "treatMissingHeaderAsEmpty": True}, {None: True}),
    ({"exactMatch": "ab"}, {"ab": True, "abc": False, None: False}),
    ({"exactMatch": ""}, {"": True, "x": True, None: False}),
    ({"prefixMatch": "ab"}, {"abc": True, "xab": False}),
    ({"suffixMatch": "ab"}, {"xab": True, "abc": False}),
    ({"containsMatch": "ab"}, {"xabx": True, "x": False}),
    ({"safeRegexMatch": {"regex": "a+"}}, {"aa": True, "aab": False}),
]


@pytest.mark.parametrize(("condition", "results"), HEADERS, ids=[str(row[0]) for row in HEADERS])
@pytest.mark.parametrize("others", [0, 20])
def test_headers(condition: Json, results: dict[str | None, bool], others: int) -> None:
    many = [forward({"prefix": "/", "headers": [{"name": "x", "exactMatch": f"other {i}"}]}) for i in range(others)]
    source = one_host(*many, forward({"prefix": "/", "headers": [{"name": "X", **condition}]}))
    found = {value: ask(source, "/", [] if value is None else [("x", value)]).index == others for value in results}
    assert found == results


@pytest.mark.parametrize("others", [0, 30])
def test_one_of_repeated_headers_has_to_match(others: int) -> None:
    """As in Envoy, whose answers these are; but it joins the fields of some names."""

    def matches(name: str, condition: Json, *values: str) -> bool:
        many = [forward({"prefix": "/", "headers": [{"name": name, "exactMatch": f"other {i}"}]}) for i in range(others)]
        source = one_host(*many, forward({"prefix": "/", "headers": [{"name": name, **condition}]}))
        return ask(source, "/", [(name, value) for value in values]).index == others

    def exact(text: str, **more: bool) -> Json:
        return {"stringMatch": {"exact": text}, **more}

    assert matches("x", exact("a"), "a", "b")
    assert matches("x", exact("b"), "a", "b")
    assert not matches("x", exact("a,b"), "a", "b")
    assert matches("x", {"rangeMatch": {"start": 1, "end": 5}}, "9", "3")
    assert not matches("x", exact("b", invertMatch=True), "a", "b")
    assert matches("x", exact("a,b", invertMatch=True), "a", "b")
    assert matches("x", exact("", treatMissingHeaderAsEmpty=True), "a", "")
    assert matches("user-agent", exact("a,b"), "a", "b")
    assert not matches("user-agent", exact("a"), "a", "b")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (":method", "GET", True),
        (":method", "POST", False),
        (":path", "/p?q=1", True),
        (":path", "/p", False),
        (":authority", "Host.Example:80", True),
        ("host", "host.example:80", True),
        (":scheme", "http", True),
        (":scheme", "https", False),
    ],
)
def test_parts_of_the_request(name: str, value: str, expected: bool) -> None:
    source = one_host(forward({"prefix": "/", "headers": [{"name": name, "stringMatch": {"exact": value}}]}))
    assert (ask(source, "//host.example:80/p?q=1").index == 0) is expected


#: A condition on the parameter `q`, and whether requests with these queries match.
QUERIES: list[tuple[Json, dict[str, bool]]] = [
    ({"stringMatch": {"exact": "1"}}, {"?q=1": True, "?q=2": False, "?a&q=1": True, "?q=2&q=1": False, "": False}),
    ({"stringMatch": {"exact": "a b"}}, {"?q=a%20b": False}),
    ({"stringMatch": {"exact": "a%20b"}}, {"?q=a%20b": True}),
    ({"stringMatch": {"safeRegex": {"regex": "[0-9]+"}}}, {"?q=12": True, "?q=1a": False}),
    ({"stringMatch": {"prefix": "ab"}}, {"?q=abc": True, "?q=xab": False}),
    ({"presentMatch": True}, {"?q": True, "?q=": True, "?q=1": True, "?r=1": False, "": False}),
    ({"presentMatch": False}, {"?q": False, "?r": True, "": True}),
    ({}, {"?q": True, "": False}),
]


@pytest.mark.parametrize(("condition", "results"), QUERIES, ids=[str(row[0]) for row in QUERIES])
def test_query_parameters(condition: Json, results: dict[str, bool]) -> None:
    source = one_host(forward({"prefix": "/", "queryParameters": [{"name": "q", **condition}]}))
    assert {query: ask(source, f"/{query}").index == 0 for query in results} == results


def test_grpc() -> None:
    source = one_host(forward({"prefix": "/", "grpc": {}}))
    found = {kind: ask(source, "/", [("content-type", kind)]).index == 0 for kind in ("application/grpc+proto", "text/x")}
    assert found == {"application/grpc+proto": True, "text/x": False}


def test_a_share_of_the_requests() -> None:
    def route(percent: int) -> Json:
        return forward({"prefix": "/", "runtimeFraction": {"defaultValue": {"numerator": percent}, "runtimeKey": "k"}})

    source = one_host(route(20), route(50), forward({"prefix": "/"}))
    counts = [0, 0, 0]
    for _ in range(2000):
        counts[ask(source).index] += 1
    # One random number for all routes: the second gets what is below 50 and not below 20.
    assert all(abs(count - expected) < 120 for count, expected in zip(counts, (400, 600, 1000), strict=True)), counts
    assert ask(one_host(route(0))).index == -1
    assert ask(one_host(route(100))).index == 0


DOMAINS = {
    "exact": ["a.example", "b.example:8080"],
    "suffix": ["*.example"],
    "longer suffix": ["*.b.example", "*-x.b.example"],
    "prefix": ["a.*"],
    "default": ["*"],
}
HOSTS = {
    "a.example": "exact",
    "A.Example": "exact",
    "b.example:8080": "exact",
    "b.example": "suffix",
    "c.b.example": "longer suffix",
    "c-x.b.example": "longer suffix",
    ".example": "default",
    "a.other": "prefix",
    "a.": "default",
    "other": "default",
    "a.example:80": "prefix",
    "x.example:80": "default",
}


def domains(**more: Any) -> Json:
    hosts = [{"name": name, "domains": names, "routes": [forward()]} for name, names in reversed(DOMAINS.items())]
    return {"virtualHosts": hosts, **more}


def test_domains() -> None:
    assert {host: ask(domains(), f"//{fold(host)}/").host for host in HOSTS} == HOSTS


def test_domains_without_the_port() -> None:
    source = domains(ignorePortInHostMatching=True)
    wanted = {"a.example:80": "exact", "x.example:80": "suffix", "[::1]:80": "default", "b.example:8080": "suffix"}
    assert {host: ask(source, f"//{host}/").host for host in wanted} == wanted


def test_no_domain_matches() -> None:
    source = {"virtualHosts": [{"name": "a", "domains": ["a.example"], "routes": [forward()]}]}
    assert ask(source, "//b.example/").route is None


#: Conditions that are not built, or invalid, with the path of the fault: row 19 of the contract.
REJECTED: list[tuple[Json, str]] = [
    ({"prefix": "/", "dynamicMetadata": [{"filter": "x"}]}, "dynamic_metadata"),
    ({"prefix": "/", "filterState": [{"key": "x"}]}, "filter_state"),
    ({"pathMatchPolicy": {"name": "x"}}, "path_match_policy"),
    ({}, "expected one of prefix"),
    ({"safeRegex": {"regex": "("}}, "safe_regex.regex: not a regular expression"),
    ({"pathSeparatedPrefix": "/a/"}, "path_separated_prefix: must not end with a slash"),
    (
        {"prefix": "/", "headers": [{"name": "x", "stringMatch": {"custom": {"name": "y"}}}]},
        "headers[0].string_match.custom",
    ),
    ({"prefix": "/", "headers": [{"name": "x", "stringMatch": {}}]}, "headers[0].string_match: expected one of exact"),
    ({"prefix": "/", "headers": [{"name": "x"}, {"stringMatch": {"exact": "y"}}]}, "headers[1].name: must not be empty"),
    ({"prefix": "/", "headers": [{"name": ":x", "stringMatch": {"exact": "y"}}]}, "headers[0]: ':x' is neither"),
    ({"prefix": "/", "headers": [{"name": "te", "stringMatch": {"exact": "y"}}]}, "headers[0]: routes do not see te"),
    ({"prefix": "/", "queryParameters": [{"name": "x", "stringMatch": {}}]}, "query_parameters[0].string_match: expected"),
]


@pytest.mark.parametrize(("match", "fault"), REJECTED, ids=[row[1] for row in REJECTED])
def test_a_condition_that_is_not_known_rejects_the_table(match: Json, fault: str) -> None:
    _, report = convert(one_host(forward(), forward(match)))
    separator = ": " if fault.startswith("expected") else "."
    assert report.text().startswith(f"virtual_hosts[0].routes[1].match{separator}{fault}")


def test_a_condition_of_a_newer_version_rejects_the_table() -> None:
    from envoy.config.route.v3 import route_components_pb2
    from tests.unit.control.xds.xds_routes import message

    from pymosn.control.xds.convert.routes import convert_routes
    from pymosn.control.xds.convert.view import Report, View

    source = message(one_host(forward()))
    newer = b"\x0a\x01x" + b"\xc2\x3e\x01y"  # a header condition with field 1000
    source.virtual_hosts[0].routes[0].match.headers.append(route_components_pb2.HeaderMatcher.FromString(newer))
    report = Report()
    convert_routes(View(source, "", report), "table")
    assert report.text().startswith("virtual_hosts[0].routes[0].match.headers[0]: field number 1000")
