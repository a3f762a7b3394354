"""What the routes of a RouteConfiguration do with requests: tables of results, as in the documentation of Envoy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.unit.control.xds.xds_routes import Json, ask, convert, forward, one_host

from pymosn.config.schema.router import MirrorPolicy
from pymosn.core.failure import RESET_BEFORE_RESPONSE
from pymosn.core.hash64 import rotated, xxh64
from pymosn.proxy.attempts import pause_before
from pymosn.routing.actions import NO_TIMEOUT, DirectResponse, Forward
from pymosn.routing.envoy_hashing import NO_HASH
from pymosn.routing.hashing import hash_value

# ---- redirects: match, redirect, request, scheme, location

REDIRECTS: list[tuple[Json, Json, str, str, str]] = [
    ({"prefix": "/"}, {"hostRedirect": "b"}, "//a/x?q=1", "http", "http://b/x?q=1"),
    ({"prefix": "/"}, {"httpsRedirect": True}, "//a:80/x", "http", "https://a/x"),
    ({"prefix": "/"}, {"httpsRedirect": True}, "//a:8080/x", "http", "https://a:8080/x"),
    ({"prefix": "/"}, {"schemeRedirect": "http"}, "//a:443/x", "https", "http://a/x"),
    ({"prefix": "/"}, {"httpsRedirect": True, "portRedirect": 8443}, "//a:8080/x", "http", "https://a:8443/x"),
    ({"prefix": "/"}, {"portRedirect": 81}, "//[::1]:8080/x", "http", "http://[::1]:81/x"),
    ({"prefix": "/"}, {"hostRedirect": "b", "portRedirect": 81}, "//a:80/x", "http", "http://b:81/x"),
    ({"prefix": "/"}, {"pathRedirect": "/new"}, "//a/x?q=1", "http", "http://a/new?q=1"),
    ({"prefix": "/"}, {"pathRedirect": "/new?r=2"}, "//a/x?q=1", "http", "http://a/new?r=2"),
    ({"prefix": "/"}, {"pathRedirect": "/new?r=2", "stripQuery": True}, "//a/x?q=1", "http", "http://a/new?r=2"),
    ({"prefix": "/"}, {"stripQuery": True}, "//a/x?q=1", "http", "http://a/x"),
    ({"prefix": "/old"}, {"prefixRewrite": "/new"}, "//a/old/x?q=1", "http", "http://a/new/x?q=1"),
    ({"path": "/old"}, {"prefixRewrite": "/new"}, "//a/old?q=1", "http", "http://a/new?q=1"),
    ({"pathSeparatedPrefix": "/old"}, {"prefixRewrite": "/new"}, "//a/old/x", "http", "http://a/new/x"),
    ({"prefix": "/old", "caseSensitive": False}, {"prefixRewrite": "/new"}, "//a/OLD/x", "http", "http://a/new/x"),
    (
        {"prefix": "/"},
        {"regexRewrite": {"pattern": {"regex": "^/a/([^/]+)/(.*)$"}, "substitution": "/\\2/\\1"}},
        "//h/a/b/c?q=1",
        "http",
        "http://h/c/b?q=1",
    ),
]


@pytest.mark.parametrize(("match", "redirect", "url", "scheme", "location"), REDIRECTS)
def test_redirects(match: Json, redirect: Json, url: str, scheme: str, location: str) -> None:
    source = one_host({"match": match, "redirect": redirect})
    assert ask(source, url, scheme=scheme).location == location


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("MOVED_PERMANENTLY", 301),
        ("FOUND", 302),
        ("SEE_OTHER", 303),
        ("TEMPORARY_REDIRECT", 307),
        ("PERMANENT_REDIRECT", 308),
    ],
)
def test_statuses_of_redirects(word: str, status: int) -> None:
    table, report = convert(one_host({"match": {"prefix": "/"}, "redirect": {"hostRedirect": "b", "responseCode": word}}))
    assert not report.faults
    redirect = table.virtual_hosts[0].routers[0].redirect
    assert redirect is not None
    assert redirect.response_code == status


@pytest.mark.parametrize(
    ("upgrades", "mode"),
    [
        ([], "forward"),
        ([{"upgradeType": "CONNECT"}], "forward"),
        ([{"upgradeType": "CONNECT", "connectConfig": {}}], "terminate"),
        ([{"upgradeType": "websocket"}, {"upgradeType": "connect", "connectConfig": {}}], "terminate"),
    ],
)
def test_where_connect_ends(upgrades: list[Json], mode: str) -> None:
    action = {"cluster": "c", "upgradeConfigs": upgrades}
    table, report = convert(one_host({"match": {"connectMatcher": {}}, "route": action}, forward()))
    assert not report.faults
    first, second = (route.route for route in table.virtual_hosts[0].routers)
    assert (first.connect, second.connect) == (mode, "")


def test_plaintext_is_redirected_where_tls_is_required() -> None:
    source = one_host(forward(), requireTls="ALL")
    assert ask(source, "//a:80/x?q").location == "https://a/x?q"
    assert ask(source, "//a/x", scheme="https").cluster == "c"
    assert "require_tls: EXTERNAL_ONLY is not supported" in convert(one_host(requireTls="EXTERNAL_ONLY"))[1].text()


# ---- rewrites: match, action, path and host that the upstream gets

REWRITES: list[tuple[Json, Json, str, str, str]] = [
    ({"prefix": "/a"}, {"prefixRewrite": "/b"}, "//h/a/x", "/b/x", "h"),
    ({"path": "/a"}, {"prefixRewrite": "/b"}, "//h/a", "/b", "h"),
    ({"pathSeparatedPrefix": "/a"}, {"prefixRewrite": "/b"}, "//h/a/x", "/b/x", "h"),
    ({"safeRegex": {"regex": "/a.*"}}, {"prefixRewrite": "/b"}, "//h/a/x", "/b", "h"),
    ({"prefix": "/A", "caseSensitive": False}, {"prefixRewrite": "/b"}, "//h/a/x", "/b/x", "h"),
    ({"prefix": ""}, {"prefixRewrite": "/b"}, "//h/x", "/b/x", "h"),
    ({"prefix": "/"}, {"regexRewrite": {"pattern": {"regex": "^/(.)"}, "substitution": "/\\1-$1"}}, "//h/x", "/x-$1", "h"),
    ({"prefix": "/"}, {"hostRewriteLiteral": "new.host:81"}, "//h/x", "/x", "new.host:81"),
    ({"prefix": "/"}, {"hostRewriteHeader": "x-host"}, "//h/x", "/x", "from.header"),
    (
        {"prefix": "/"},
        {"hostRewritePathRegex": {"pattern": {"regex": "^/([a-z]+)/.*$"}, "substitution": "\\1.example"}},
        "//h/ab/c?q=1",
        "/ab/c",
        "ab.example",
    ),
]


@pytest.mark.parametrize(("match", "action", "url", "path", "host"), REWRITES)
def test_rewrites(match: Json, action: Json, url: str, path: str, host: str) -> None:
    head = ask(one_host(forward(match, **action)), url, [("x-host", "from.header")]).sent()
    assert (head.path, head.host) == (path, host)


def test_the_host_before_a_rewrite_is_sent_on_demand() -> None:
    source = one_host(forward(hostRewriteLiteral="new", appendXForwardedHost=True))
    assert ask(source, "//old:8/").sent().headers.get_all("x-forwarded-host") == ["old:8"]
    known = [("x-forwarded-host", "first")]
    assert ask(source, "//old/", known).sent().headers.get_all("x-forwarded-host") == ["first,old"]
    assert ask(source, "//old/", [("x-forwarded-host", "first,old")]).sent().headers.get("x-forwarded-host") == "first,old"


def test_the_number_of_the_attempt_is_sent_on_demand() -> None:
    outcome = ask(one_host(forward(), includeRequestAttemptCount=True), "/", [("x-envoy-attempt-count", "7")])
    changes = outcome.forward.changes
    assert changes is not None
    for attempt in (1, 2):
        outcome.exchange.attempts = attempt
        changes.count_attempt(outcome.exchange)
        assert outcome.exchange.request.headers.get_all("x-envoy-attempt-count") == [str(attempt)]
    assert ask(one_host(forward())).forward.changes is None


# ---- headers


def header(name: str, value: str, action: str = "APPEND_IF_EXISTS_OR_ADD", **more: Any) -> Json:
    return {"header": {"key": name, "value": value}, "appendAction": action, **more}


ACTIONS = [
    (header("x", "new"), ["old"], ["old", "new"]),
    (header("x", "new"), [], ["new"]),
    (header("x", "new", "ADD_IF_ABSENT"), ["old"], ["old"]),
    (header("x", "new", "ADD_IF_ABSENT"), [], ["new"]),
    (header("x", "new", "OVERWRITE_IF_EXISTS_OR_ADD"), ["a", "b"], ["new"]),
    (header("x", "new", "OVERWRITE_IF_EXISTS_OR_ADD"), [], ["new"]),
    (header("x", "new", "OVERWRITE_IF_EXISTS"), ["old"], ["new"]),
    (header("x", "new", "OVERWRITE_IF_EXISTS"), [], []),
    (header("x", ""), ["old"], ["old"]),
    (header("x", "", keepEmptyValue=True), [], [""]),
    ({"header": {"key": "x", "value": "new"}, "append": False}, ["old"], ["new"]),
]


@pytest.mark.parametrize(("change", "before", "after"), ACTIONS)
def test_append_actions(change: Json, before: list[str], after: list[str]) -> None:
    source = one_host({**forward(), "requestHeadersToAdd": [change], "responseHeadersToAdd": [change]})
    outcome = ask(source, "/", [("x", value) for value in before])
    assert outcome.sent().headers.get_all("x") == after
    assert outcome.answered([("x", value) for value in before]) == [("x", value) for value in after]


def levels(**more: Any) -> Json:
    """A value for `x` and a removal of `y` at each level."""

    def level(name: str) -> Json:
        return {"requestHeadersToAdd": [header("x", name)], "responseHeadersToAdd": [header("x", name)]}

    cluster = {"name": "c", "weight": 1, **level("cluster")}
    route = {"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [cluster]}}, **level("route")}
    return {**one_host(route, **level("host")), **level("table"), **more}


def test_the_innermost_level_is_first() -> None:
    expected = ["cluster", "route", "host", "table"]
    for source, wanted in ((levels(), expected), (levels(mostSpecificHeaderMutationsWins=True), expected[::-1])):
        outcome = ask(source)
        assert outcome.sent().headers.get_all("x") == wanted
        assert outcome.answered([]) == [("x", value) for value in wanted]


def test_a_level_removes_before_it_adds() -> None:
    changes = {"requestHeadersToAdd": [header("x", "new")], "requestHeadersToRemove": ["x"]}
    assert ask(one_host({**forward(), **changes}), "/", [("x", "old")]).sent().headers.get_all("x") == ["new"]


def test_each_weighted_cluster_has_changes_of_its_own() -> None:
    clusters = [
        {"name": "a", "weight": 1, "requestHeadersToAdd": [header("x", "a")], "hostRewriteLiteral": "a.host"},
        {"name": "b", "weight": 1, "responseHeadersToRemove": ["server"]},
    ]
    source = one_host({"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": clusters}}})
    seen = set()
    for _ in range(100):
        outcome = ask(source)
        head = outcome.sent()
        seen.add((outcome.cluster, head.headers.get("x"), head.host, len(outcome.answered([("server", "s")]))))
    assert seen == {("a", "a", "a.host", 1), ("b", None, "host.example", 0)}


def test_local_replies_have_the_headers_of_the_route() -> None:
    direct = {"status": 503, "body": {"inlineString": "down"}}
    source = one_host({"match": {"prefix": "/"}, "directResponse": direct, "responseHeadersToAdd": [header("x", "1")]})
    outcome = ask(source)
    assert outcome.route is not None
    action = outcome.route.action
    assert isinstance(action, DirectResponse)
    assert (action.status, action.body, outcome.answered([])) == (503, b"down", [("x", "1")])


# ---- times, clusters, retries


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({}, (15.0, 0.0, 0.0, 0.0)),
        ({"timeout": "0s"}, (NO_TIMEOUT, 0.0, 0.0, 0.0)),
        ({"timeout": "2.5s", "idleTimeout": "3600s"}, (2.5, 3600.0, 0.0, 0.0)),
        ({"idleTimeout": "0s"}, (15.0, NO_TIMEOUT, 0.0, 0.0)),
        ({"maxStreamDuration": {"maxStreamDuration": "7s", "grpcTimeoutHeaderMax": "3s"}}, (15.0, 0.0, 7.0, 3.0)),
        ({"maxStreamDuration": {"maxStreamDuration": "0s", "grpcTimeoutHeaderMax": "0s"}}, (15.0, 0.0, NO_TIMEOUT, 0.0)),
        ({"maxGrpcTimeout": "4s"}, (15.0, 0.0, 0.0, 4.0)),
    ],
)
def test_times(action: Json, expected: tuple[float, float, float, float]) -> None:
    made = ask(one_host(forward(**action))).forward
    assert (made.timeout, made.idle_timeout, made.longest_exchange, made.longest_call) == expected


def test_the_number_of_attempts_in_responses() -> None:
    """Only of routes to hosts."""
    table = one_host(forward(), {"match": {"prefix": "/"}, "redirect": {}}, includeAttemptCountInResponse=True)
    made, _ = convert(table)
    sent, moved = made.virtual_hosts[0].routers
    assert sent.route is not None
    assert [(added.header.key, added.header.value) for added in sent.route.response_headers_to_add] == [
        ("x-envoy-attempt-count", "%attempts%")
    ]
    assert moved.response_headers_to_add == []


def test_a_header_chooses_the_cluster() -> None:
    weighted = {"headerName": "X-Pick", "clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}
    table = one_host({"match": {"prefix": "/"}, "route": {"weightedClusters": weighted}})
    found = [ask(table, headers=[("x-pick", text)]).cluster for text in ("0", "1", "2", "3", "18446744073709551615")]
    assert found == ["a", "b", "b", "a", "a"]


def test_a_part_of_a_header_is_hashed() -> None:
    part = {"pattern": {"regex": "-.*"}, "substitution": ""}
    table = one_host(forward(hashPolicy=[{"header": {"headerName": "x-user", "regexRewrite": part}}]))
    hashes = []
    for value in ("one-1", "one-2", "two-1"):
        outcome = ask(table, headers=[("x-user", value)])
        hashes.append(hash_value(outcome.forward.hash_policies, outcome.exchange))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_response_for_an_unknown_cluster() -> None:
    statuses = {
        code: ask(one_host(forward(clusterNotFoundResponseCode=code))).forward.unknown_cluster.status
        for code in ("SERVICE_UNAVAILABLE", "NOT_FOUND", "INTERNAL_SERVER_ERROR")
    }
    assert statuses == {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}


def retries(policy: Json, **host: Any) -> Forward:
    return ask(one_host(forward(retryPolicy=policy), **host)).forward


def test_retries() -> None:
    policy = retries({"retryOn": "connect-failure,5xx,retriable-status-codes", "retriableStatusCodes": [409]}).retry_policy
    assert policy is not None
    assert (policy.retry_on, policy.num_retries, policy.non_idempotent) == (True, 1, True)
    assert [policy.conditions.has_status(status) for status in (409, 500, 404)] == [True, True, False]
    unasked = retries({"retryOn": "reset", "retriableStatusCodes": [409]}).retry_policy
    assert unasked is not None
    assert not unasked.conditions.has_status(409)
    for none in ({"retryOn": "5xx", "numRetries": 0}, {"numRetries": 2}, {"retryOn": "no-such-condition"}):
        without = retries(none).retry_policy
        assert without is not None
        assert not without.retry_on


def test_retries_of_the_virtual_host() -> None:
    inherited = ask(one_host(forward(), retryPolicy={"retryOn": "5xx", "numRetries": 4})).forward.retry_policy
    assert inherited is not None
    assert inherited.num_retries == 4
    own = retries({"retryOn": "5xx", "numRetries": 2}, retryPolicy={"retryOn": "5xx", "numRetries": 4}).retry_policy
    assert own is not None
    assert own.num_retries == 2


def test_pauses_before_retries() -> None:
    policy = retries({"retryOn": "5xx", "retryBackOff": {"baseInterval": "0.1s", "maxInterval": "0.3s"}}).retry_policy
    for attempts, longest in ((1, 0.1), (2, 0.2), (3, 0.3), (60, 0.3)):
        pauses = [pause_before(policy, RESET_BEFORE_RESPONSE, attempts, 5) for _ in range(300)]
        assert 0.8 * longest < max(pauses) < longest


def test_mirrors() -> None:
    def policies(**action: Any) -> object:
        source = {"requestMirrorPolicies": [{"cluster": "table"}], **one_host(forward(**action))}
        return convert(source)[0].virtual_hosts[0].routers[0].request_mirror_policies

    share = {"defaultValue": {"numerator": 125000, "denominator": "MILLION"}}
    own = [{"cluster": "a", "runtimeFraction": share, "disableShadowHostSuffixAppend": True}, {"cluster": "b"}]
    assert policies(requestMirrorPolicies=own) == [
        MirrorPolicy(cluster="a", percent=12.5),
        MirrorPolicy(cluster="b", percent=100.0, shadow_host_suffix=True),
    ]
    assert policies() == [MirrorPolicy(cluster="table", percent=100.0, shadow_host_suffix=True)]


def test_hashes() -> None:
    """Those of Envoy: each policy's XXH64, combined in order by a rotation and exclusive-or."""

    def found(*policies: Json) -> tuple[int, bytes]:
        fields = [("x", "1"), ("cookie", 'k="v"'), ("z", "b"), ("z", "a")]
        outcome = ask(one_host(forward(hashPolicy=list(policies))), "/?q=a%20b", fields)
        outcome.exchange.connection.remote_ip = "10.0.0.1"
        outcome.exchange.set_cookie = b""
        return hash_value(outcome.forward.hash_policies, outcome.exchange), outcome.exchange.set_cookie

    header, cookie = {"header": {"headerName": "X"}}, {"cookie": {"name": "k"}}
    none, source = {"cookie": {"name": "none"}}, {"connectionProperties": {"sourceIp": True}}
    assert found(header) == (xxh64(b"1"), b"")
    assert found(cookie) == (xxh64(b"v"), b"")
    assert found({"queryParameter": {"name": "q"}}) == (xxh64(b"a%20b"), b"")
    assert found(source) == (xxh64(b"10.0.0.1"), b"")
    assert found({"header": {"headerName": ":path"}}) == (xxh64(b"/?q=a%20b"), b"")
    assert found({"header": {"headerName": "z"}}) == (xxh64(b"b", xxh64(b"a")), b"")
    assert found(none) == (NO_HASH, b"")
    assert found(header, none, cookie) == (rotated(xxh64(b"1"), 1) ^ xxh64(b"v"), b"")
    assert found(header, header) == (rotated(xxh64(b"1"), 1) ^ xxh64(b"1"), b"")
    assert found({**header, "terminal": True}, cookie) == (xxh64(b"1"), b"")
    assert found({**none, "terminal": True}, cookie) == (xxh64(b"v"), b"")
    assert found(header, {**none, "terminal": True}, cookie) == (xxh64(b"1"), b"")
    attributes = [{"name": "Secure"}, {"name": "SameSite", "value": "Lax"}]
    value, made = found({"cookie": {"name": "none", "ttl": "2.9s", "path": "/", "attributes": attributes}})
    assert re.fullmatch(rb'none="[0-9a-f]{16}"; Max-Age=2; Path=/; Secure; SameSite=Lax; HttpOnly', made)
    assert value == xxh64(made[6:22])
    assert found({"cookie": {"name": "none", "ttl": "0s"}})[1].endswith(b'"; HttpOnly')
    # Without a policy, the source does not count either.
    assert ask(one_host(forward(hashPolicy=[{"connectionProperties": {}}])), "/").forward.hash_policies == []


def test_labels_of_weighted_clusters_complete_those_of_the_route() -> None:
    def labels(**values: str) -> Json:
        return {"filterMetadata": {"envoy.lb": values, "other": {"x": [1]}}}

    clusters = [{"name": "c", "weight": 1, "metadataMatch": labels(b="2")}]
    action = {"weightedClusters": {"clusters": clusters, "totalWeight": 1}, "metadataMatch": labels(a="1", b="1")}
    table, report = convert(one_host({"match": {"prefix": "/"}, "route": action}))
    assert not report.faults
    route = table.virtual_hosts[0].routers[0].route
    assert route is not None
    target = route.weighted_clusters[0].cluster
    assert target.metadata_match is not None
    assert target.metadata_match.filter_metadata.mosn_lb == {"a": "1", "b": "2"}


#: Actions that are not built, or invalid, with the beginning of the fault.
REJECTED: list[tuple[Json, str]] = [
    ({"route": {"cluster": "c", "hedgePolicy": {}}}, "route.hedge_policy: hedging"),
    ({"route": {"cluster": "c", "internalRedirectPolicy": {}}}, "route.internal_redirect_policy: internal redirects"),
    ({"route": {"cluster": "c", "pathRewritePolicy": {"name": "x"}}}, "route.path_rewrite_policy: rewrites of extensions"),
    ({"route": {"clusterSpecifierPlugin": "x"}}, "route.cluster_specifier_plugin: plugins"),
    ({"route": {}}, "route: expected one of cluster"),
    ({"route": {"cluster": "c", "hashPolicy": [{"filterState": {"key": "x"}}]}}, "route.hash_policy[0].filter_state"),
    (
        {"route": {"cluster": "c", "retryPolicy": {"retriableRequestHeaders": [{"name": "x"}]}}},
        "route.retry_policy.retriable_req",
    ),
    ({"route": {"cluster": "c", "retryPolicy": {"perTryIdleTimeout": "1s"}}}, "route.retry_policy.per_try_idle_timeout"),
    (
        {"route": {"cluster": "c", "upgradeConfigs": [{"upgradeType": "CONNECT", "connectConfig": {"allowPost": True}}]}},
        "route.upgrade_configs[0].connect_config.allow_post",
    ),
    (
        {"route": {"cluster": "c", "upgradeConfigs": [{"upgradeType": "a", "enabled": False}]}},
        "route.upgrade_configs[0].enabled",
    ),
    (
        {"route": {"weightedClusters": {"clusters": [{"name": "c"}]}}},
        "route.weighted_clusters.clusters: the weights must not",
    ),
    (
        {"route": {"weightedClusters": {"clusters": [{"name": "c", "weight": 1}], "totalWeight": 2}}},
        "route.weighted_clusters.total_weight: is 2",
    ),
    ({"directResponse": {"status": 700}}, "direct_response.status: must be"),
    ({"directResponse": {"status": 200, "body": {"filename": "/x"}}}, "direct_response.body.filename: only inline"),
    ({"directResponse": {"status": 200, "body": {"inlineString": "x" * 4097}}}, "direct_response.body: longer than 4096"),
    ({"nonForwardingAction": {}}, "non_forwarding_action: only the actions"),
    ({}, ": expected one of route"),
    ({**forward(), "requestHeadersToAdd": [header("host", "x")]}, "request_headers_to_add[0].header.key: the host"),
    ({**forward(), "requestHeadersToAdd": [header(":path", "x")]}, "request_headers_to_add[0].header: not a header name"),
    (
        {**forward(), "typedPerFilterConfig": {"f": {"@type": "type.googleapis.com/envoy.config.route.v3.RouteMatch"}}},
        "typed_per",
    ),
]


@pytest.mark.parametrize(("route", "fault"), REJECTED, ids=[row[1] for row in REJECTED])
def test_what_is_not_built_rejects_the_table(route: Json, fault: str) -> None:
    text = convert(one_host(forward(), {"match": {"prefix": "/"}, **route}))[1].text()
    assert text.startswith("virtual_hosts[0].routes[1]" + (fault if fault.startswith(":") else f".{fault}"))


def test_faults_of_a_whole_table() -> None:
    hosts = [{"name": name, "domains": ["a.example"], "routes": [forward()]} for name in ("a", "b")]
    assert convert({"virtualHosts": hosts})[1].text().startswith("virtual_hosts[1].domains[0]: duplicate domain")
    assert convert({"vhds": {}})[1].text().startswith("vhds: virtual hosts on demand")
    assert convert({"virtualHosts": [{"name": "a"}]})[1].text().startswith("virtual_hosts[0].domains: must not be empty")


def test_values_with_variables_are_those_before_the_path_is_rewritten() -> None:
    changes = {
        name: [header("x-path", "%REQ(:path)% %REQ(x-a?x-b)%")] for name in ("requestHeadersToAdd", "responseHeadersToAdd")
    }
    source = one_host({**forward({"prefix": "/a"}, prefixRewrite="/b"), **changes})
    found = ask(source, "/a?q", [("x-b", "b")])
    assert found.sent().headers.get("x-path") == "/a?q b"
    assert found.answered([]) == [("x-path", "/b?q b")]
    source = one_host({**forward(), "requestHeadersToAdd": [header("x-none", "%REQ(x-none)%")]})
    assert ask(source).sent().headers.get("x-none") is None
    report = convert(one_host({**forward(), "requestHeadersToAdd": [header("x", "%NO_SUCH%")]}))[1]
    assert "virtual_hosts[0].routes[0].request_headers_to_add[0].header.value: %NO_SUCH%" in report.text()


def test_descriptors_of_rate_limits_are_settings_of_the_filter() -> None:
    def limits(name: str) -> list[Json]:
        return [{"actions": [{"genericKey": {"descriptorValue": name}}]}]

    def of_route(**action: Any) -> list[str]:
        table, report = convert(one_host(forward(**action), rateLimits=limits("host")))
        assert not report.faults
        host = table.virtual_hosts[0]
        settings = {**host.per_filter_config, **host.routers[0].per_filter_config}["ratelimit"]
        return [entry["actions"][0]["generic_key"]["descriptor_value"] for entry in settings["rate_limits"]]

    assert of_route() == ["host"]
    assert of_route(rateLimits=limits("route")) == ["route"]
    assert of_route(rateLimits=limits("route"), includeVhRateLimits=True) == ["route", "host"]
