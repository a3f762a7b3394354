"""What several filters in Envoy's schema share: dynamic metadata, settings of routes, descriptors of rate limits."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import json_format
from shipped_kit import of_route, problems, shipped
from tests.kit.tls_facts import certificate, tls_info

from pymosn.core.proto_wire import Fields, read_struct, struct
from pymosn.filters.connection.rbac import RbacConnectionFilter
from pymosn.testing import ConnectionWorld, Down, Request, Response, Result, World, run
from pymosn.testing.grpc import GrpcResponse

ANY: list[dict[str, Any]] = [{"any": True}]
SECRET = b"0123456789abcdef0123456789abcdef"
KEYS = json.dumps({"keys": [{"kty": "oct", "kid": "k", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]})


def policies(action: str, permissions: list[Any] = ANY, principals: list[Any] = ANY) -> dict[str, Any]:
    return {"rules": {"action": action, "policies": {"p": {"permissions": permissions, "principals": principals}}}}


def claim(*path: str, **value: Any) -> dict[str, Any]:
    """A principal with a claim of a token."""
    keys = [{"key": key} for key in ("payload", *path)]
    return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": keys, "value": value}}


def with_token(claims: dict[str, Any], principal: dict[str, Any]) -> int:
    """The status for a request with a token, if only the principal may pass."""
    provider = {
        "local_jwks": {"inline_string": KEYS},
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
    }
    requires = {"requires_any": {"requirements": [{"provider_name": "a"}, {"allow_missing": {}}]}}
    tokens = {"providers": {"a": provider}, "rules": [{"match": {"prefix": "/"}, "requires": requires}]}
    chain = [
        shipped("jwt_authn", tokens),
        shipped("rbac", {**policies("ALLOW", principals=[principal]), "after_routing": True}),
    ]
    token = jwt.encode({"exp": time.time() + 1e6, **claims}, SECRET, headers={"kid": "k"})
    return run(chain, Request("GET", "/", {"authorization": f"Bearer {token}"} if claims else {})).status


@pytest.mark.parametrize(
    ("claims", "principal", "status"),
    [
        ({"sub": "ann"}, claim("sub", string_match={"exact": "ann"}), 200),
        ({"sub": "bob"}, claim("sub", string_match={"exact": "ann"}), 403),
        ({}, claim("sub", string_match={"exact": "ann"}), 403),
        ({"groups": ["a", "b"]}, claim("groups", list_match={"one_of": {"string_match": {"exact": "b"}}}), 200),
        ({"groups": "b"}, claim("groups", list_match={"one_of": {"string_match": {"exact": "b"}}}), 403),
        ({"scope": "read write"}, claim("scope", list_match={"one_of": {"string_match": {"exact": "write"}}}), 200),
        ({"a": {"b": True}}, claim("a", "b", bool_match=True), 200),
        ({"a": 1}, claim("a", bool_match=True), 403),
        ({"a": 5}, claim("a", double_match={"range": {"start": 1.0, "end": 6.0}}), 200),
        ({"a": 1}, claim("a", present_match=True), 200),
        ({"b": 1}, claim("a", present_match=True), 403),
        ({"b": 1}, claim("a", null_match={}), 200),
        ({"a": "x"}, claim("a", or_match={"value_matchers": [{"bool_match": True}, {"string_match": {"exact": "x"}}]}), 200),
        ({"sub": "bob"}, {"not_id": claim("sub", string_match={"exact": "ann"})}, 200),
    ],
)
def test_rules_about_claims(claims: dict[str, Any], principal: dict[str, Any], status: int) -> None:
    assert with_token(claims, principal) == status


def test_claims_become_headers_that_clients_cannot_set() -> None:
    provider = {
        "local_jwks": {"inline_string": KEYS},
        "claim_to_headers": [
            {"header_name": "x-sub", "claim_name": "sub"},
            {"header_name": "x-deep", "claim_name": "a.b"},
            {"header_name": "x-list", "claim_name": "list"},
            {"header_name": "x-bad", "claim_name": "bad"},
        ],
    }
    requires = {"requires_any": {"requirements": [{"provider_name": "a"}, {"allow_missing": {}}]}}
    filter_ = {"providers": {"a": provider}, "rules": [{"match": {"prefix": "/"}, "requires": requires}]}
    claims = {"sub": "ann", "a": {"b": 7}, "list": [1], "bad": "a\r\nb", "exp": time.time() + 1e6}
    token = jwt.encode(claims, SECRET, headers={"kid": "k"})
    forged = {"x-sub": "root", "x_sub": "root", "x-bad": "b"}
    sent = run(shipped("jwt_authn", filter_), Request("GET", "/", {**forged, "authorization": f"Bearer {token}"})).upstream[
        0
    ]
    assert (sent.headers.get_all("x-sub"), sent.headers.get("x-deep"), sent.headers.get("x-list")) == (["ann"], "7", "WzFd")
    assert "x-bad" not in sent.headers
    assert "x_sub" not in sent.headers
    sent = run(shipped("jwt_authn", filter_), Request("GET", "/", forged)).upstream[0]
    assert "x-sub" not in sent.headers


def test_requirements_of_routes_and_preflight_requests() -> None:
    filter_ = {
        "providers": {"a": {"local_jwks": {"inline_string": KEYS}}},
        "rules": [{"match": {"path_separated_prefix": "/a"}, "requirement_name": "needed"}],
        "requirement_map": {"needed": {"provider_name": "a"}, "free": {"allow_missing": {}}},
        "bypass_cors_preflight": True,
    }

    def status(request: Request, route: dict[str, Any] | None = None) -> int:
        config = None if route is None else of_route("jwt_authn", route)
        return run(shipped("jwt_authn", filter_), request, route_config=config).status

    assert [status(Request("GET", path)) for path in ("/a", "/a/b", "/ab")] == [401, 401, 200]
    assert status(Request("GET", "/a"), {"disabled": True}) == 200
    assert status(Request("GET", "/a"), {"requirement_name": "free"}) == 200
    assert status(Request("GET", "/ab"), {"requirement_name": "needed"}) == 401
    assert status(Request("GET", "/ab"), {"requirement_name": "unknown"}) == 403
    preflight = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    assert status(Request("OPTIONS", "/a", preflight)) == 200
    assert status(Request("OPTIONS", "/a", {"origin": "https://a.example"})) == 401
    wrong = {**filter_, "rules": [{"match": {"prefix": "/"}, "requirement_name": "x"}]}
    assert problems("jwt_authn", wrong) == [".rules[0].requirementName: not in requirementMap: 'x'"]


def test_rules_of_a_route_replace_those_of_the_filter() -> None:
    deny_all = shipped("rbac", {"rules": {}, "after_routing": True})
    assert run(deny_all, Request()).status == 403
    assert run(deny_all, Request(), route_config=of_route("rbac", {})).status == 200
    allow = shipped("rbac", {"after_routing": True})
    assert run(allow, Request(), route_config=of_route("rbac", {"rules": {}})).status == 403


def test_conditions_on_the_server_name_ports_and_the_peer() -> None:
    tls = tls_info(certificate(uris=["spiffe://a.example/x"]), server_name="a.example")

    def passes(permissions: list[Any] = ANY, principals: list[Any] = ANY, with_tls: bool = True) -> bool:
        rules = shipped("rbac", policies("ALLOW", permissions, principals))
        return run(rules, Request(), client_tls=tls if with_tls else None).status == 200

    assert passes([{"requested_server_name": {"suffix": ".example"}}])
    assert not passes([{"requested_server_name": {"suffix": ".example"}}], with_tls=False)
    peer = {"filter_state": {"key": "io.istio.peer_principal", "string_match": {"prefix": "spiffe://a.example/"}}}
    assert passes(principals=[peer])
    assert not passes(principals=[peer], with_tls=False)
    assert passes([{"destination_port_range": {"start": 1, "end": 65536}}])
    assert not passes([{"destination_port_range": {"start": 1, "end": 2}}])
    missing = {"name": "x", "string_match": {"exact": ""}, "treat_missing_header_as_empty": True}
    assert passes([{"header": missing}])
    assert not passes([{"header": {**missing, "invert_match": True}}])


def test_a_cors_policy_of_a_route() -> None:
    only_routes = shipped("cors", {"only_routes": True})
    policy = {
        "allow_origin_regexes": ["https://a\\.example"],
        "allow_methods": ["PUT"],
        "without_max_age": True,
        "allow_credentials": True,
        "forward_other_preflights": True,
    }

    def ask(request: Request, route: dict[str, Any] | None) -> Result:
        return run(only_routes, request, route_config=None if route is None else of_route("cors", route))

    preflight = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    result = ask(Request("OPTIONS", "/", preflight), policy)
    assert (result.status, result.headers.get("access-control-allow-methods")) == (204, "PUT")
    assert "access-control-max-age" not in result.headers
    assert ask(Request("OPTIONS", "/", {**preflight, "origin": "https://b.example"}), policy).status == 200
    result = ask(Request("GET", "/", preflight), policy)
    assert result.headers.get("access-control-allow-credentials") == "true"
    for route in (None, {"enabled": False}):
        assert "access-control-allow-origin" not in ask(Request("GET", "/", preflight), route).headers
    assert problems("cors", {"only_routes": True, "allow_origins": ["*"]}) == [
        ".only_routes: not valid together with a policy"
    ]


def test_faults_with_the_status_of_a_call() -> None:
    fault = shipped("fault", {"abort": {"percentage": 100, "grpc_status": 14}})
    assert run(fault, Request()).status == 503
    result = run(fault, Request("POST", "/a.B/C", {"content-type": "application/grpc"}), client_protocol="Http2")
    assert result.headers.get("grpc-status") == "14"
    assert problems("fault", {"abort": {"percentage": 1, "grpc_status": 17}}) == [
        ".abort.grpc_status: must be a gRPC status from 1 to 16"
    ]


def test_health_checks_are_answered() -> None:
    check = shipped("health_check", {"headers": [{"name": ":path", "string_match": {"exact": "/ready"}}]})
    result = run(check, Request("GET", "/ready"))
    assert (result.status, result.upstream) == (200, [])
    assert len(run(check, Request("GET", "/other")).upstream) == 1
    assert problems("health_check", {}) == [".headers: must not be empty: every request would be a health check"]


RATES: dict[str, Any] = {
    "rate_limits": [
        {"actions": [{"generic_key": {"descriptor_value": "all"}}]},
        {
            "actions": [
                {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}},
                {"request_headers": {"header_name": "x-more", "descriptor_key": "more", "skip_if_absent": True}},
                {"masked_remote_address": {"v4_prefix_mask_len": 24}},
            ]
        },
        {
            "actions": [
                {"header_value_match": {"descriptor_value": "get", "headers": [{"name": ":method", "exact_match": "GET"}]}}
            ]
        },
        {"stage": 1, "actions": [{"remote_address": {}}]},
    ]
}
SERVICE: dict[str, Any] = {"grpc": {"cluster": "rates"}, "domain": "d"}


def limited(answer: Any, headers: dict[str, str] | None = None, **config: Any) -> Result:
    return run(
        shipped("ratelimit", {**SERVICE, **config}),
        Request("GET", "/a", headers or {}),
        clusters={"rates": answer},
        upstream_protocol="Http2",
        route_config=of_route("ratelimit", RATES),
    )


def verdict(value: dict[str, Any]) -> GrpcResponse:
    return GrpcResponse(json_format.ParseDict(value, rls_pb2.RateLimitResponse()).SerializeToString())


def asked(result: Result) -> list[list[tuple[str, str]]]:
    call = result.upstream[0]
    assert call.path == "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
    request = rls_pb2.RateLimitRequest.FromString(call.body[5:])
    assert request.domain == "d"
    return [[(entry.key, entry.value) for entry in descriptor.entries] for descriptor in request.descriptors]


def test_the_service_gets_the_descriptors_of_the_route() -> None:
    result = limited(verdict({"overall_code": "OK"}))
    assert result.status == 200
    assert asked(result) == [[("generic_key", "all")], [("header_match", "get")]]
    with_user = [("user", "ann"), ("masked_remote_address", "192.0.2.0/24")]
    assert asked(limited(verdict({"overall_code": "OK"}), {"x-user": "ann"}))[1] == with_user
    assert asked(limited(verdict({"overall_code": "OK"}), stage=1)) == [[("remote_address", "192.0.2.1")]]
    assert len(limited(verdict({"overall_code": "OK"}), stage=2).upstream) == 1  # it is not asked


def test_what_the_service_decides() -> None:
    added = {
        "request_headers_to_add": [{"key": "x-r", "value": "1"}],
        "response_headers_to_add": [{"key": "x-l", "value": "2"}],
    }
    result = limited(verdict({"overall_code": "OK", **added}))
    assert (result.status, result.headers.get("x-l"), result.upstream[1].headers.get("x-r")) == (200, "2", "1")
    result = limited(verdict({"overall_code": "OVER_LIMIT", "raw_body": "c2xvdw==", **added}))
    assert (result.status, result.text, result.reason) == (429, "slow", "rate_limited")
    assert (result.headers.get("x-envoy-ratelimited"), result.headers.get("x-l")) == ("true", "2")
    assert limited(verdict({"overall_code": "OVER_LIMIT"}), status=503).status == 503


def test_without_the_service() -> None:
    def down(_request: Request) -> Response:
        raise Down("connect_refused")

    assert limited(down).status == 200
    assert limited(down, failure_mode_deny=True).status == 500
    assert limited(GrpcResponse(status=14), failure_mode_deny=True, status_on_error=503).status == 503


async def buckets() -> list[int]:
    bucket = {"requests": 1, "per": "60s"}
    config = {"requests": 3, "per": "60s", "descriptors": [{"entries": [{"key": "user", "value": "ann"}], **bucket}]}
    config["rate_limits"] = [{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}]
    world = World(shipped("local_rate_limit", config))
    users = ("ann", "ann", "bob", "bob", "bob")
    return [(await world.send(Request("GET", "/", {"x-user": user}))).status for user in users]


def test_buckets_by_descriptor() -> None:
    assert asyncio.run(buckets()) == [200, 429, 200, 200, 429]


def test_routes_without_limits_and_headers_of_rejections() -> None:
    config = {"requests": 1, "per": "60s", "response_headers": {"x-limited": "yes"}}

    async def statuses(route: dict[str, Any] | None) -> list[int]:
        world = World(
            shipped("local_rate_limit", config),
            route_config=None if route is None else of_route("local_rate_limit", route),
        )
        results = [await world.send(Request()) for _ in range(2)]
        assert results[1].status == 200 or results[1].headers.get("x-limited") == "yes"
        return [result.status for result in results]

    assert asyncio.run(statuses(None)) == [200, 429]
    assert asyncio.run(statuses({"unlimited": True})) == [200, 200]
    assert run(shipped("local_rate_limit", {"only_routes": True}), Request()).status == 200


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        ([], ".rate_limits[0].actions: must not be empty"),
        ([{"source_cluster": {}}], ".rate_limits[0].actions[0]: no supported action"),
        ([{"generic_key": {}}], ".rate_limits[0].actions[0].generic_key.descriptor_value: must not be empty"),
    ],
)
def test_invalid_descriptors(actions: list[Any], text: str) -> None:
    found = problems("ratelimit", {**SERVICE, "rate_limits": [{"actions": actions}]})
    assert [line for line in found if line.startswith(text)], found


async def connections() -> list[bool]:
    rules = {
        "action": "DENY",
        "policies": {
            "p": {
                "permissions": ANY,
                "principals": [{"direct_remote_ip": {"address_prefix": "192.0.2.66", "prefix_len": 32}}],
            }
        },
    }
    async with ConnectionWorld((RbacConnectionFilter, {"rules": rules})) as world:
        return [(await world.connect(ip)).was_reset for ip in ("192.0.2.1", "192.0.2.66")]


def test_connections_are_judged_when_they_are_open() -> None:
    assert asyncio.run(connections()) == [False, True]


async def by_header(action: str) -> bool:
    rules = {
        "action": action,
        "policies": {"p": {"permissions": [{"url_path": {"path": {"prefix": "/"}}}], "principals": ANY}},
    }
    async with ConnectionWorld((RbacConnectionFilter, {"rules": rules})) as world:
        return (await world.connect()).was_reset


def test_conditions_on_requests_hold_for_no_connection() -> None:
    assert asyncio.run(by_header("ALLOW"))
    assert not asyncio.run(by_header("DENY"))


def test_values_of_structs() -> None:
    value: dict[str, Any] = {"a": 1.5, "b": "x", "c": [True, None, {"d": False}], "e": {}}
    assert read_struct(Fields(struct(value))) == value
    for body in (b"\xff", b"\x0a\x05a", b"\x0b", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError, match=r"."):
            Fields(body)
