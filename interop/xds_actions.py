"""The groups about what a route does: header changes, rewrites, redirects, responses, retries, choice of the host."""

from __future__ import annotations

from typing import Any

from interop.xds_groups import Json, direct, group, header, redirect, route, to, virtual_host

ADD, IF_ABSENT = "APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT"
SET, IF_PRESENT = "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"


def _rewritten(pattern: str, substitution: str) -> Json:
    return {"pattern": {"regex": pattern}, "substitution": substitution}


def _changes(level: str) -> Json:
    """Header changes of one level, which show what was applied last."""
    return {
        "request_headers_to_add": [header("x-level", level, SET), header("x-levels", level, ADD)],
        "response_headers_to_add": [header("x-level", level, SET), header("x-levels", level, ADD)],
    }


def _weighted(first: int, second: int) -> Json:
    """The choice between two clusters; one of the weights is 0, so that there is no chance in it."""
    one = {"name": "a", "weight": first, **_changes("weight"), "request_headers_to_remove": ["x-gone"]}
    two = {"name": "b", "weight": second, "host_rewrite_literal": "second.test"}
    return to("", weighted_clusters={"clusters": [one, two]})


_VALUES = [
    header("x-path", "%REQ(:path)%", SET),
    header("x-method", "%REQ(:METHOD)%-%REQ(:AUTHORITY)%", SET),
    header("x-missing", "[%REQ(x-none)%]", SET),
    header("x-other", "%REQ(x-none?x-a)%", SET),
    header("x-short", "%REQ(x-a):2%", SET),
    header("x-protocol", "%PROTOCOL%", SET),
    header("x-peer", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", SET),
    header("x-percent", "100%%", SET),
    header("x-route-name", "%ROUTE_NAME%", SET),
]

CHANGES = group(
    "changes",
    [
        virtual_host(
            "changes",
            [
                route(
                    "levels", "/levels", to("a"), **{k: v for k, v in _changes("route").items() if k.startswith("request")}
                ),
                route("first", "/first", _weighted(100, 0)),
                route("second", "/second", _weighted(0, 3)),
                route("add", "/add", to("a"), request_headers_to_add=[header("x-a", "added", ADD)]),
                route("default", "/default", to("a"), request_headers_to_add=[header("x-a", "added")]),
                route("set", "/set", to("a"), request_headers_to_add=[header("x-a", "set", SET)]),
                route("if-absent", "/if-absent", to("a"), request_headers_to_add=[header("x-a", "new", IF_ABSENT)]),
                route("if-present", "/if-present", to("a"), request_headers_to_add=[header("x-a", "new", IF_PRESENT)]),
                route(
                    "empty",
                    "/empty",
                    to("a"),
                    request_headers_to_add=[
                        header("x-e", "%REQ(x-none)%", keep_empty_value=True),
                        header("x-f", "%REQ(x-none)%"),
                    ],
                ),
                route("removed", "/removed", to("a"), request_headers_to_remove=["x-a", "X-B"]),
                route("values", "/values", to("a"), request_headers_to_add=_VALUES),
                route(
                    "rewritten",
                    "/rewritten",
                    to("a", prefix_rewrite="/new", host_rewrite_literal="new.test"),
                    request_headers_to_add=_VALUES[:2],
                ),
                route(
                    "response",
                    "/response",
                    to("a"),
                    response_headers_to_add=[
                        header("x-up", "added", ADD),
                        header("x-two", "set", SET),
                        header("x-code", "%RESPONSE_CODE%", SET),
                        header("x-details", "%RESPONSE_CODE_DETAILS%", SET),
                        header("x-from", "%REQ(x-a)%-%RESP(x-up)%", SET),
                    ],
                    response_headers_to_remove=["x-gone", "server"],
                ),
                route("local", "/local", direct(418, "short"), response_headers_to_add=[header("x-level", "local", SET)]),
            ],
            **_changes("host"),
            request_headers_to_remove=["x-host-gone"],
            response_headers_to_remove=["x-host-gone"],
        )
    ],
    """
    /levels
    /levels | x-level: client | x-host-gone: 1
    /first | x-gone: 1 | x-level: client
    /second | x-gone: 1
    /add
    /add | x-a: one
    /default | x-a: one
    /set | x-a: one | x-a: two
    /if-absent | x-a: one
    /if-absent
    /if-present | x-a: one
    /if-present
    /empty
    /removed | x-a: one | x-b: two | x-c: three
    /values?x=y | x-a: abcdef
    POST /values
    /rewritten?x=y
    /response | x-a: q | x-answer-header: x-up=1 | x-answer-header: x-two=2 | x-answer-header: x-gone=3
    /local
    """,
    table={
        **_changes("table"),
        "request_headers_to_remove": ["x-table-gone"],
        "response_headers_to_remove": ["x-table-gone"],
    },
)

SPECIFIC = CHANGES._replace(
    name="specific",
    virtual_hosts=[{**CHANGES.virtual_hosts[0], "domains": ["specific.test"]}],
    requests=[one._replace(host="specific.test") for one in CHANGES.requests[:4]],
    table={**CHANGES.table, "most_specific_header_mutations_wins": True},
)

REWRITES = group(
    "rewrites",
    [
        virtual_host(
            "rewrites",
            [
                route("prefix", "/prefix", to("a", prefix_rewrite="/new")),
                route("slash", "/slash/", to("a", prefix_rewrite="/")),
                route("to-root", "/to-root", to("a", prefix_rewrite="/")),
                route("exact", {"path": "/exact"}, to("a", prefix_rewrite="/whole")),
                route("separated", {"path_separated_prefix": "/sep"}, to("a", prefix_rewrite="/new")),
                route("ci", {"prefix": "/CI", "case_sensitive": False}, to("a", prefix_rewrite="/new")),
                route("regex", "/regex", to("a", regex_rewrite=_rewritten("^/regex/([^/]+)/(.*)$", r"/\2/\1"))),
                route("regex-all", "/all", to("a", regex_rewrite=_rewritten("one", "two"))),
                route("of-regex", {"safe_regex": {"regex": "/of/.*"}}, to("a", regex_rewrite=_rewritten("^/of", ""))),
                route("host", "/host", to("a", host_rewrite_literal="other.test")),
                route("host-header", "/by-header", to("a", host_rewrite_header="x-host")),
                route(
                    "host-path",
                    "/by-path",
                    to("a", host_rewrite_path_regex=_rewritten(r"^/by-path/([a-z]+).*$", r"\1.test")),
                ),
                route("forwarded", "/forwarded", to("a", host_rewrite_literal="other.test", append_x_forwarded_host=True)),
                route("both", "/both", to("a", prefix_rewrite="/new", host_rewrite_literal="other.test")),
            ],
        )
    ],
    """
    /prefix
    /prefix/x?q=1
    /prefixed
    /slash/
    /slash/x
    /to-root
    /to-root/x
    /to-rootx
    /exact?q=1
    /sep
    /sep/x
    /ci/x
    /Ci/X?Y=z
    /regex/a/b/c?q=/d/
    /regex/a
    /all/one/one?one=1
    /of/x
    /host
    /host | x-envoy-original-path: /forged
    /by-header | x-host: named.test
    /by-header
    /by-path/abc/d?e
    /by-path/
    /forwarded
    /forwarded | x-forwarded-host: before.test
    /both/x
    """,
)

REDIRECTS = group(
    "redirects",
    [
        virtual_host(
            "redirects",
            [
                route("https", "/https", redirect(https_redirect=True)),
                route("scheme", "/scheme", redirect(scheme_redirect="foo")),
                route("host", "/host", redirect(host_redirect="other.test")),
                route("host-port", "/with-port", redirect(host_redirect="other.test:99")),
                route("port", "/port", redirect(port_redirect=8443, https_redirect=True)),
                route("port-80", "/default-port", redirect(port_redirect=80)),
                route("path", "/path", redirect(path_redirect="/new")),
                route("path-query", "/query-path", redirect(path_redirect="/new?b=2")),
                route("prefix", "/prefix", redirect(prefix_rewrite="/new")),
                route("regex", "/regex", redirect(regex_rewrite=_rewritten("^/regex/(.*)$", r"/\1/new"))),
                route("strip", "/strip", redirect(path_redirect="/new", strip_query=True)),
                route("strip-prefix", "/bare", redirect(prefix_rewrite="/new", strip_query=True)),
                route("302", "/302", redirect(path_redirect="/new", response_code="FOUND")),
                route("303", "/303", redirect(path_redirect="/new", response_code="SEE_OTHER")),
                route("307", "/307", redirect(path_redirect="/new", response_code="TEMPORARY_REDIRECT")),
                route("308", "/308", redirect(host_redirect="x.test", response_code="PERMANENT_REDIRECT")),
                route(
                    "direct",
                    "/direct",
                    direct(503, "down\n"),
                    response_headers_to_add=[header("content-type", "text/x", SET)],
                ),
                route("direct-empty", "/none", direct(200)),
                route("direct-204", "/204", direct(204)),
            ],
        ),
        virtual_host("secure", [route("secure", "/")], require_tls="ALL"),
    ],
    """
    /https/x?y=z
    redirects.test:8080 /https
    redirects.test:80 /https
    /scheme/x
    /host/x?y=z
    redirects.test:8080 /host
    /with-port
    /port/x
    redirects.test:8080 /port
    /default-port
    /path/x?a=1
    /query-path?a=1
    /prefix/x?a=1
    /prefix
    /regex/abc?a=1
    /strip?a=1
    /bare/x?a=1
    /302
    POST /303
    POST /307
    /308/x
    /direct
    HEAD /direct
    POST /direct
    /none
    /204
    secure.test /x?y
    secure.test:8080 /x
    secure.test /x | x-forwarded-proto: https
    """,
)


def _retried(on: str, **more: Any) -> Json:
    return {"retry_on": on, "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.01s"}, **more}


_CODES = [{"name": "x-again", "string_match": {"exact": "yes"}}]

ATTEMPTS = group(
    "attempts",
    [
        virtual_host(
            "attempts",
            [
                route("5xx", "/5xx", to("a", retry_policy=_retried("5xx", num_retries=2))),
                route("gateway", "/gateway", to("a", retry_policy=_retried("gateway-error"))),
                route(
                    "codes", "/codes", to("a", retry_policy=_retried("retriable-status-codes", retriable_status_codes=[418]))
                ),
                route("headers", "/headers", to("a", retry_policy=_retried("retriable-headers", retriable_headers=_CODES))),
                route("4xx", "/4xx", to("a", retry_policy=_retried("retriable-4xx"))),
                route("none", "/none", to("a")),
                route("refused", "/refused", to("refusing", retry_policy=_retried("connect-failure", num_retries=1))),
                route("timeout", "/timeout", to("a", timeout="0.3s")),
                route("per-try", "/per-try", to("a", timeout="5s", retry_policy=_retried("5xx", per_try_timeout="0.25s"))),
                route("no-timeout", "/unlimited", to("a", timeout="0s")),
                route("reset", "/reset", to("a", retry_policy=_retried("reset,reset-before-request", num_retries=1))),
            ],
            include_request_attempt_count=True,
            include_attempt_count_in_response=True,
        ),
        virtual_host("policy", [route("policy", "/")], retry_policy=_retried("5xx", num_retries=3)),
    ],
    """
    /5xx | x-answers: 503,200
    /5xx | x-answers: 500,502,503,200
    /5xx | x-answers: 404
    POST /5xx | x-answers: 500,200
    /gateway | x-answers: 500,200
    /gateway | x-answers: 504,200
    /codes | x-answers: 418,200
    /codes | x-answers: 503,200
    /headers | x-answers: 200,200 | x-answer-header: x-again=yes
    /headers | x-answers: 503,200
    /4xx | x-answers: 409,200
    /4xx | x-answers: 404,200
    /none | x-answers: 503,200
    /none | x-answers: 503,200 | x-envoy-retry-on: 5xx
    /none | x-answers: 503,503,503,200 | x-envoy-retry-on: 5xx | x-envoy-max-retries: 3
    /refused
    /timeout | x-answer-delay: 1
    /timeout | x-answer-delay: 0.01
    /none | x-answer-delay: 1 | x-envoy-upstream-rq-timeout-ms: 200
    /per-try | x-answer-delay: 1,0
    /unlimited | x-answer-delay: 0.3
    /reset | x-answers: reset,200
    /none | x-answers: reset,200
    policy.test / | x-answers: 503,503,503,200
    """,
)

_COOKIE = {"cookie": {"name": "session", "ttl": "60s", "path": "/c"}}
_SUBSET = {"filter_metadata": {"envoy.lb": {"version": "v2"}}}


def _hashed(cluster: str, *policies: Json) -> Json:
    return to(cluster, hash_policy=list(policies))


_BY_USER = {"header": {"header_name": "x-user"}}

CHOICE = group(
    "choice",
    [
        virtual_host(
            "choice",
            [
                route("by-header", "/by-header", to("", cluster_header="x-cluster")),
                route("unknown", "/unknown", to("none-such")),
                route("unknown-404", "/404", to("none-such", cluster_not_found_response_code="NOT_FOUND")),
                route("unknown-500", "/500", to("none-such", cluster_not_found_response_code="INTERNAL_SERVER_ERROR")),
                route("empty", "/empty", to("empty")),
                route("refusing", "/refusing", to("refusing")),
                route("ring", "/ring", _hashed("ring", _BY_USER)),
                route("maglev", "/maglev", _hashed("maglev", _BY_USER)),
                route("hash-query", "/query", _hashed("ring", {"query_parameter": {"name": "u"}})),
                route("hash-cookie", "/cookie", _hashed("ring", _COOKIE)),
                route("hash-source", "/source", _hashed("ring", {"connection_properties": {"source_ip": True}})),
                route(
                    "hash-two",
                    "/two",
                    _hashed("ring", {**_BY_USER, "terminal": True}, {"header": {"header_name": "x-other"}}),
                ),
                route("hash-both", "/both", _hashed("ring", _BY_USER, {"header": {"header_name": "x-other"}})),
                route("subset", "/subset", to("subsets", metadata_match=_SUBSET)),
                route(
                    "no-subset",
                    "/no-subset",
                    to("subsets", metadata_match={"filter_metadata": {"envoy.lb": {"version": "v9"}}}),
                ),
                route("priorities", "/priorities", to("priorities")),
                route("unhealthy", "/unhealthy", to("unhealthy")),
                route(
                    "mirror",
                    "/mirror",
                    to(
                        "a",
                        request_mirror_policies=[
                            {"cluster": "b", "runtime_fraction": {"default_value": {"numerator": 100}}}
                        ],
                    ),
                ),
                route(
                    "no-mirror",
                    "/unmirrored",
                    to(
                        "a",
                        request_mirror_policies=[{"cluster": "b", "runtime_fraction": {"default_value": {"numerator": 0}}}],
                    ),
                ),
                route("upgrade", "/upgrade", to("a", upgrade_configs=[{"upgrade_type": "websocket"}])),
                route("no-upgrade", "/plain", to("a")),
                route("duration", "/duration", to("a", max_stream_duration={"max_stream_duration": "0.3s"}, timeout="0s")),
                route("priority", "/priority", to("a", priority="HIGH")),
            ],
        )
    ],
    """
    /by-header | x-cluster: b
    /by-header | x-cluster: none-such
    /by-header
    /unknown
    /404
    /500
    /empty
    /refusing
    /ring | x-user: alice
    /ring | x-user: bob
    /ring | x-user: carol
    /ring | x-user: dave
    /ring | x-user: erin | x-user: frank
    /maglev | x-user: alice
    /maglev | x-user: bob
    /maglev | x-user: carol
    /maglev | x-user: dave
    /query?u=alice
    /query?u=bob
    /query?a=1&u=carol
    /cookie | cookie: session=abc
    /cookie | cookie: a=b; session=def
    /source
    /two | x-user: alice | x-other: 1
    /two | x-other: 1
    /both | x-user: alice | x-other: 1
    /both | x-user: alice | x-other: 2
    /subset
    /no-subset
    /priorities
    /unhealthy
    /mirror?x=1 | x-a: 1
    POST /mirror
    /unmirrored
    /plain | connection: upgrade | upgrade: websocket
    /duration | x-answer-delay: 1
    /priority
    """,
)
