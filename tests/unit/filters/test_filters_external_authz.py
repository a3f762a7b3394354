"""`external_authz`: Envoy's external authorization by gRPC and HTTP, and what its answers lead to."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf import json_format
from shipped_kit import of_route, problems, shipped
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import framed
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.core.headers import HttpHeaders, headers_from
from pymosn.core.message import CONNECT
from pymosn.filters.stream.authz_messages import Description, http_request
from pymosn.testing import Down, Request, Response, Result, run

GRPC: dict[str, Any] = {"grpc": {"cluster": "auth", "authority": "authz.example", "metadata": {"x-key": "k"}}}
HTTP: dict[str, Any] = {"http": {"cluster": "auth", "path_prefix": "/check"}}
REQUEST = Request("POST", "/a?b=c", [("x-user", "root"), ("x-many", "1"), ("x-many", "2"), ("authorization", "t")], b"body")


def answer(value: dict[str, Any], status: str = "0") -> Response:
    """A response to a gRPC call: a CheckResponse in JSON."""
    message = json_format.ParseDict(value, auth.CheckResponse())
    body = framed(message.SerializeToString())
    return grpc(body, status)


def grpc(body: bytes, status: str) -> Response:
    """A response to a gRPC call, with a status in the trailers."""
    made = Response(200, body, {"content-type": "application/grpc"})
    made.trailers = headers_from({"grpc-status": status})
    return made


def down(_request: Request) -> Response:
    raise Down("connect_refused")


def ask(reply: Any, route: dict[str, Any] | None = None, **config: Any) -> Result:
    return run(
        shipped("external_authz", {**GRPC, **config}),
        REQUEST,
        clusters={"auth": reply},
        client_protocol="Http2",
        route_config=of_route("external_authz", route) if route is not None else None,
        client_tls=tls_info(certificate(uris=["spiffe://a.example/x"])),
    )


def asked(result: Result) -> auth.CheckRequest:
    """The CheckRequest that the service got."""
    body = result.upstream[0].body
    return auth.CheckRequest.FromString(body[5:])


def test_the_service_gets_what_envoy_sends() -> None:
    result = ask(answer({"status": {}}), {"context_extensions": {"a": "b"}}, include_tls_session=True)
    assert result.status == 200
    call, sent = result.upstream
    assert (call.method, call.path) == ("POST", "/envoy.service.auth.v3.Authorization/Check")
    assert call.headers.get("x-key") == "k"
    attributes = asked(result).attributes
    http = attributes.request.http
    assert (http.method, http.path, http.host, http.scheme, http.size) == ("POST", "/a?b=c", "test.example", "https", 4)
    assert http.protocol == "HTTP/2"
    assert http.headers["x-many"] == "1,2"
    assert http.headers[":path"] == "/a?b=c"
    assert http.body == ""
    assert attributes.source.principal == "spiffe://a.example/x"
    assert attributes.source.address.socket_address.address == "192.0.2.1"
    assert dict(attributes.context_extensions) == {"a": "b"}
    assert attributes.request.time.seconds >= 0
    assert (sent.method, sent.body) == ("POST", b"body")


def test_a_connect_has_no_path() -> None:
    exchange = Exchange(Connection())
    exchange.request = HttpRequest(HttpHeaders())
    exchange.request.raw_method, exchange.request.raw_path = b"CONNECT", b"/"
    exchange.request.raw_tunnel = CONNECT
    sent = auth.CheckRequest.FromString(http_request(exchange, Description([], None, False, {}, {}, False, False), 0.0))
    assert (sent.attributes.request.http.method, sent.attributes.request.http.path) == ("CONNECT", "")


def test_headers_and_the_body_are_sent_as_configured() -> None:
    result = ask(
        answer({"status": {}}),
        allowed_headers=[{"prefix": "x-"}],
        disallowed_headers=[{"exact": "x-many"}],
        max_request_bytes=100,
    )
    http = asked(result).attributes.request.http
    assert http.body == "body"
    assert set(http.headers) - {"x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-client-cert"} == {
        ":method",
        ":path",
        ":authority",
        ":scheme",
        "authorization",
        "x-user",
    }
    raw = asked(ask(answer({"status": {}}), max_request_bytes=100, pack_as_bytes=True)).attributes.request.http
    assert (raw.raw_body, raw.body) == (b"body", "")
    assert ask(answer({"status": {}}), max_request_bytes=3).status == 413


def test_an_allowed_request_is_changed() -> None:
    allowed = {
        "status": {},
        "ok_response": {
            "headers": [
                {"header": {"key": "x-user", "value": "ann"}},
                {"header": {"key": "x-many", "value": "3"}, "append": True},
                {"header": {"key": "x-raw", "raw_value": "dw=="}, "append_action": "ADD_IF_ABSENT"},
                {"header": {"key": "x-none", "value": "n"}, "append_action": "OVERWRITE_IF_EXISTS"},
                {"header": {"key": "content-length", "value": "9"}},
            ],
            "headers_to_remove": ["authorization", "host", ":path"],
            "response_headers_to_add": [{"header": {"key": "x-out", "value": "o"}}],
            "query_parameters_to_set": [{"key": "b", "value": "d e"}],
        },
    }
    result = ask(answer(allowed))
    assert result.status == 200
    assert result.headers.get("x-out") == "o"
    sent = result.upstream[1]
    assert (sent.headers.get_all("x-user"), sent.headers.get_all("x-many")) == (["ann"], ["1", "2", "3"])
    assert sent.headers.get("x-raw") == "w"
    assert "x-none" not in sent.headers
    assert "authorization" not in sent.headers
    assert sent.query == "b=d%20e"


def test_a_denial_is_the_services() -> None:
    denied = {
        "status": {"code": 7},
        "denied_response": {
            "status": {"code": "Unauthorized"},
            "headers": [{"header": {"key": "www-authenticate", "value": "X"}}],
            "body": "go away",
        },
    }
    result = ask(answer(denied))
    assert (result.status, result.text, result.reason) == (401, "go away", "access_denied")
    assert result.headers.get("www-authenticate") == "X"
    assert ask(answer({"status": {"code": 16}})).status == 403


@pytest.mark.parametrize(
    "reply",
    [
        down,
        Response(503),
        grpc(b"", "14"),
        grpc(b"", "0"),
        grpc(framed(b"\xff"), "0"),
        Response(200, framed(b""), {"content-type": "application/grpc"}),
        answer({"status": {}, "denied_response": {"body": "no"}}),
        answer({"status": {}, "error_response": {}}),
    ],
)
def test_without_a_decision(reply: Any) -> None:
    result = ask(reply)
    assert (result.status, result.reason) == (403, "authorization_failed")
    assert ask(reply, status_on_error=503).status == 503
    passed = ask(reply, failure_mode_allow=True, failure_mode_allow_header_add=True)
    assert passed.status == 200
    assert passed.upstream[-1].headers.get("x-envoy-auth-failure-mode-allowed") == "true"


def test_routes_may_be_exempt() -> None:
    assert ask(down, {"disabled": True}).status == 200


def by_http(reply: Any, **http: Any) -> Result:
    config = {"http": {**HTTP["http"], **http}, "allowed_headers": [{"exact": "x-user"}]}
    return run(shipped("external_authz", config), REQUEST, clusters={"auth": reply})


def test_an_http_service_gets_the_request_itself() -> None:
    reply = Response(200, b"", {"x-user": "ann", "x-other": "1", "x-out": "o"})
    result = by_http(reply, upstream_headers=[{"exact": "x-user"}], client_headers_on_success=[{"prefix": "x-o"}])
    call, sent = result.upstream
    assert (call.method, call.path, call.query, call.body) == ("POST", "/check/a", "b=c", b"")
    assert call.headers.get("host") == "test.example"
    assert (call.headers.get("authorization"), call.headers.get("x-user")) == ("t", "root")
    assert "x-many" not in call.headers
    assert sent.headers.get_all("x-user") == ["ann"]
    assert result.headers.get("x-out") == "o"
    assert "x-user" not in result.headers


def test_a_denial_of_an_http_service() -> None:
    result = by_http(Response(302, b"moved", {"location": "/login", "x-a": "1"}), client_headers=[{"exact": "x-b"}])
    assert (result.status, result.text, result.headers.get("location")) == (302, "moved", "/login")
    assert "x-a" not in result.headers
    assert by_http(Response(401, b"", {"x-a": "1"})).headers.get("x-a") == "1"
    assert by_http(Response(204)).status == 204  # only 200 allows, as in Envoy
    assert by_http(Response(500)).status == 403


def test_the_result_of_shadow_rules_decides_whether_it_is_asked() -> None:
    matches_ext = {"permissions": [{"url_path": {"path": {"prefix": "/ext"}}}], "principals": [{"any": True}]}
    chain = [
        shipped(
            "rbac",
            {
                "shadow_rules": {"action": "DENY", "policies": {"istio-ext-authz-a": matches_ext}},
                "shadow_rules_stat_prefix": "istio_ext_authz_",
                "after_routing": True,
            },
        ),
        shipped(
            "external_authz",
            {
                **GRPC,
                "enabled_metadata": {
                    "filter": "envoy.filters.http.rbac",
                    "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}],
                    "value": {"string_match": {"prefix": "istio-ext-authz"}},
                },
            },
        ),
    ]
    denied = {"auth": answer({"status": {"code": 7}})}
    assert run(chain, Request("GET", "/ext/a"), clusters=denied).status == 403
    assert run(chain, Request("GET", "/other"), clusters=denied).status == 200


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, ": needs either grpc or http"),
        ({**GRPC, **HTTP}, ": needs either grpc or http"),
        ({"grpc": {}}, ".grpc.cluster: the cluster of the service is missing"),
        ({**GRPC, "timeout": 0}, ".timeout: must be greater than 0"),
        ({**GRPC, "status_on_error": 200}, ".status_on_error: must be a status code from 400 to 599, not 200"),
        (
            {**GRPC, "allowed_headers": [{}]},
            ".allowed_headers[0]: expected one of exact, prefix, suffix, contains, safe_regex",
        ),
        ({**GRPC, "enabled_metadata": {"filter": "a"}}, ".enabled_metadata.path: must not be empty"),
    ],
)
def test_invalid_settings(config: dict[str, Any], text: str) -> None:
    assert text in problems("external_authz", config)
