"""The groups about the HTTP connection manager: normalisation of paths, trust of clients, and HTTP filters."""

from __future__ import annotations

from typing import Any

from interop.xds_groups import Json, direct, group, header, route, text, to, virtual_host

_HTTP = "type.googleapis.com/envoy.extensions.filters.http."


def _typed(kind: str, **fields: Any) -> Json:
    """A message of an HTTP filter, such as `cors.v3.Cors`, in an Any."""
    return {"@type": _HTTP + kind, **fields}


def _filters(*more: Json) -> list[Json]:
    return [*more, {"name": "envoy.filters.http.router", "typed_config": _typed("router.v3.Router")}]


def _filter(name: str, kind: str, **fields: Any) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": _typed(kind, **fields)}


_PATHS = [route("one", "/one"), route("admin", {"path": "/admin"}, direct(403)), route("other", "/")]

NORMAL = group(
    "normal",
    [virtual_host("normal", _PATHS)],
    """
    /one/../admin
    /one/%2e%2e/admin
    /./admin
    //admin
    /one//two///three
    /%61dmin
    /%41/%7e/%zz
    /one/..
    /one/../../..
    /one%2Ftwo
    /one%5Ctwo
    /one\\two
    /one?x=/../y//z
    /one/.hidden/..x
    /one/two/
    """,
    hcm={"normalize_path": True, "merge_slashes": True},
)

SLASHES = group(
    "slashes",
    [virtual_host("slashes", _PATHS)],
    """
    /one%2Ftwo
    /one%5ctwo
    /one?a=%2F
    /one//two
    """,
    hcm={"normalize_path": True, "path_with_escaped_slashes_action": "REJECT_REQUEST"},
)

UNESCAPED = group(
    "unescaped",
    [virtual_host("unescaped", _PATHS)],
    """
    /one%2F..%2Fadmin
    /one%5c..%5cadmin
    /one%2Ftwo?x
    """,
    hcm={"normalize_path": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"},
)

REDIRECTED = group(
    "redirected",
    [virtual_host("redirected", _PATHS)],
    """
    /one%2F..%2Fadmin?x=%2F
    /one
    """,
    hcm={"normalize_path": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"},
)

_ADDRESSES = [
    header("x-peer", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    header("x-direct", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
]
_FORGED = """
    /
    / | x-forwarded-for: 1.2.3.4
    / | x-forwarded-for: 1.2.3.4, 10.0.0.1
    / | x-forwarded-for: 1.2.3.4 | x-forwarded-for: 5.6.7.8
    / | x-forwarded-for: not an address
    / | x-forwarded-proto: https
    / | x-forwarded-proto: ftp
    / | x-forwarded-host: forged.test
    / | x-envoy-internal: true | x-envoy-external-address: 9.9.9.9 | x-envoy-original-path: /x
    / | x-envoy-retry-on: 5xx | x-answers: 503,200
    / | x-request-id: mine
    / | via: 1.0 before
    / | server: forged | te: trailers, gzip | keep-alive: 5 | proxy-connection: close
    / | x-envoy-expected-rq-timeout-ms: 5 | x-envoy-attempt-count: 7
    / | connection: x-hop | x-hop: 1
    / | x-answer-header: server=theirs | x-answer-header: x-envoy-upstream-service-time=7
    / | x-answer-header: connection=x-hop | x-answer-header: x-hop=1
"""
_FORWARDED = [route("forwarded", "/", to("a"), request_headers_to_add=_ADDRESSES)]

EDGE = group(
    "edge",
    [virtual_host("edge", _FORWARDED, include_request_attempt_count=True)],
    _FORGED,
    hcm={"use_remote_address": True, "via": "1.1 edge"},
)

HOPS = group(
    "hops",
    [virtual_host("hops", _FORWARDED)],
    _FORGED,
    hcm={
        "use_remote_address": True,
        "xff_num_trusted_hops": 1,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_name": "mine",
        "server_header_transformation": "APPEND_IF_ABSENT",
    },
)

INNER = group(
    "inner",
    [virtual_host("inner", _FORWARDED)],
    _FORGED,
    hcm={"server_header_transformation": "PASS_THROUGH", "generate_request_id": False},
)

_ORIGINS = [text("exact", "https://a.test"), text("regex", "https://.*\\.b\\.test")]
_POLICY = _typed(
    "cors.v3.CorsPolicy",
    allow_origin_string_match=_ORIGINS,
    allow_methods="GET, PUT",
    allow_headers="x-a, x-b",
    expose_headers="x-c",
    max_age="600",
    allow_credentials=True,
)


def _per_route(name: str, message: Json) -> Json:
    return {"typed_per_filter_config": {f"envoy.filters.http.{name}": message}}


CORS = group(
    "cors",
    [
        virtual_host(
            "cors",
            [route("policy", "/policy", to("a"), **_per_route("cors", _POLICY)), route("none", "/")],
        )
    ],
    """
    /policy | origin: https://a.test
    /policy | origin: https://x.b.test
    /policy | origin: https://evil.test
    /policy
    OPTIONS /policy | origin: https://a.test | access-control-request-method: PUT
    OPTIONS /policy | origin: https://a.test | access-control-request-method: DELETE
    OPTIONS /policy | origin: https://evil.test | access-control-request-method: PUT
    OPTIONS /policy | origin: https://a.test
    OPTIONS /policy | access-control-request-method: PUT
    /none | origin: https://a.test
    OPTIONS /none | origin: https://a.test | access-control-request-method: PUT
    """,
    hcm={"http_filters": _filters(_filter("cors", "cors.v3.Cors"))},
)

_ALL = {"numerator": 100, "denominator": "HUNDRED"}


def _fault(**fields: Any) -> Json:
    return _per_route("fault", _typed("fault.v3.HTTPFault", **fields))


FAULTS = group(
    "faults",
    [
        virtual_host(
            "faults",
            [
                route("abort", "/abort", to("a"), **_fault(abort={"http_status": 418, "percentage": _ALL})),
                route("never", "/never", to("a"), **_fault(abort={"http_status": 418, "percentage": {"numerator": 0}})),
                route("delay", "/delay", to("a"), **_fault(delay={"fixed_delay": "0.05s", "percentage": _ALL})),
                route(
                    "some",
                    "/some",
                    to("a"),
                    **_fault(
                        abort={"http_status": 503, "percentage": _ALL},
                        headers=[{"name": "x-fault", "string_match": {"exact": "yes"}}],
                    ),
                ),
                route("none", "/"),
            ],
        )
    ],
    """
    /abort
    POST /abort
    /never
    /delay
    /some
    /some | x-fault: yes
    /none
    """,
    hcm={"http_filters": _filters(_filter("fault", "fault.v3.HTTPFault"))},
)

_ANY: Json = {"any": True}


def _policy(permission: Json, principal: Json) -> Json:
    return {"permissions": [permission], "principals": [principal]}


def _rbac(action: str, **policies: Json) -> Json:
    return {"rules": {"action": action, "policies": policies}}


def _path(kind: str, value: str) -> Json:
    return {"url_path": {"path": {kind: value}}}


def _range(address: str) -> Json:
    return {"address_prefix": address, "prefix_len": 8}


def _has(name: str, value: str = "") -> Json:
    return {"header": {"name": name, **({"string_match": {"exact": value}} if value else {"present_match": True})}}


_DENIED = {
    "path": _policy(_path("prefix", "/denied"), _ANY),
    "header": _policy(_has("x-role", "guest"), _ANY),
    "both": _policy(
        {"and_rules": {"rules": [_path("exact", "/both"), _has(":method", "POST")]}}, {"not_id": _has("x-user")}
    ),
    "address": _policy(_path("exact", "/local"), {"direct_remote_ip": _range("127.0.0.0")}),
    "elsewhere": _policy(_path("exact", "/far"), {"remote_ip": _range("10.0.0.0")}),
    "either": _policy({"or_rules": {"rules": [_path("suffix", ".secret"), _has("x-secret")]}}, _ANY),
}
_ALLOWED = _rbac("ALLOW", only=_policy(_path("exact", "/allow/this"), _ANY))

ROLES = group(
    "roles",
    [
        virtual_host(
            "roles",
            [
                route("allow", "/allow", to("a"), **_per_route("rbac", _typed("rbac.v3.RBACPerRoute", rbac=_ALLOWED))),
                route("off", "/off", to("a"), **_per_route("rbac", _typed("rbac.v3.RBACPerRoute"))),
                route("other", "/"),
            ],
        )
    ],
    """
    /denied/x
    /denied?x
    /x | x-role: guest
    /x | x-role: admin
    POST /both
    POST /both | x-user: u
    GET /both
    /local
    /far
    /a.secret
    /a | x-secret: 1
    /allow/this
    /allow/this?q=1
    /allow/that
    /off | x-role: guest
    /x
    """,
    hcm={"http_filters": _filters(_filter("rbac", "rbac.v3.RBAC", **_rbac("DENY", **_DENIED)))},
)
