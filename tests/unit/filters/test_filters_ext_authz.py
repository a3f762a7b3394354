"""`ext_authz`: what the service is asked, what its answers lead to, and what is done without one."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import of_route, problems, shipped
from tests.kit.tls_facts import FINGERPRINT, certificate, tls_info

from pymosn.testing import Down, Request, Response, Result, run

CONFIG: dict[str, Any] = {
    "cluster": "auth",
    "path": "/check",
    "request_headers": ["Authorization"],
    "headers_to_upstream": ["X-User"],
}
REQUEST = ("POST", "/a?b=c", {"authorization": "secret", "cookie": "c", "x-user": "root", "x_user": "root"}, b"body")


def ask(answer: Any, **config: Any) -> Result:
    return run(shipped("ext_authz", {**CONFIG, **config}), Request(*REQUEST), clusters={"auth": answer})


def test_a_request_that_may_pass() -> None:
    result = ask(Response(200, b"", {"x-user": "ann", "x-other": "1"}))
    asked, sent = result.upstream
    assert (asked.method, asked.path, asked.query, asked.body) == ("GET", "/check", "", b"")
    assert [item for item in asked.headers.items() if item[0] != "host"] == [
        ("authorization", "secret"),
        ("x-forwarded-method", "POST"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "test.example"),
        ("x-forwarded-uri", "/a?b=c"),
        ("x-forwarded-for", "192.0.2.1"),
    ]
    assert (sent.method, sent.body) == ("POST", b"body")
    assert sent.headers.get_all("x-user") == ["ann"]
    assert "x-other" not in sent.headers
    assert "x_user" not in sent.headers


@pytest.mark.parametrize("target", ["/a", "/a?", "/a?b=c?d", "/a?b\\c"])
def test_the_service_gets_the_target_as_it_is(target: str) -> None:
    result = run(shipped("ext_authz", CONFIG), Request("GET", target), clusters={"auth": Response(200, b"")})
    asked, sent = result.upstream
    assert asked.headers.get_all("x-forwarded-uri") == [target]
    assert sent.target == target


@pytest.mark.parametrize("names", [[], ["X-Forwarded-Client-Cert"]])
def test_the_service_gets_the_clients_certificate(names: list[str]) -> None:
    answer = Response(200, b"")
    config = {**CONFIG, "request_headers": names}
    headers = [("x-forwarded-client-cert", "Hash=forged"), ("x_forwarded_client_cert", "Hash=forged")]
    result = run(
        shipped("ext_authz", config),
        Request("GET", "/", headers),
        clusters={"auth": answer},
        client_tls=tls_info(certificate(uris=["spiffe://a.example/x"])),
    )
    asked, sent = result.upstream
    expected = [f'Hash={FINGERPRINT};Subject="CN=client,O=Example";URI=spiffe://a.example/x']
    assert asked.headers.get_all("x-forwarded-client-cert") == expected
    assert asked.headers.get_all("x-forwarded-proto") == ["https"]
    assert sent.headers.get_all("x-forwarded-client-cert") == expected
    assert "x_forwarded_client_cert" not in sent.headers


def test_fields_that_come_more_than_once() -> None:
    headers = [("authorization", "a"), ("Authorization", "b"), ("x-group", "client")]
    answer = Response(200, b"", [("x-user", "ann"), ("X-Group", "one"), ("x-group", "two"), ("authorization", "x")])
    config = {**CONFIG, "headers_to_upstream": ["x-user", "x-group"]}
    result = run(shipped("ext_authz", config), Request("GET", "/", headers), clusters={"auth": answer})
    asked, sent = result.upstream
    assert asked.headers.get_all("authorization") == ["a", "b"]
    assert sent.headers.get_all("x-group") == ["one", "two"]
    assert sent.headers.get_all("authorization") == ["a", "b"]


def test_a_refusal_with_several_cookies() -> None:
    headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("location", "/one"), ("location", "/two")]
    result = ask(Response(302, b"", headers))
    assert result.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert result.headers.get_all("location") == ["/one"]


def test_a_client_cannot_send_the_services_fields() -> None:
    assert "x-user" not in ask(Response(204, b"")).upstream[1].headers
    assert "x-user" not in ask(Response(500, b""), failure_mode_allow=True).upstream[1].headers


def test_without_a_path_it_is_asked_about_the_request_s_own() -> None:
    asked = ask(Response(200, b""), path="").upstream[0]
    assert (asked.method, asked.path, asked.query) == ("GET", "/a", "b=c")


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429])
def test_a_request_that_may_not(status: int) -> None:
    headers = {
        "location": "/login",
        "www-authenticate": "Basic",
        "set-cookie": "a=b",
        "x-secret": "1",
        "content-type": "a/b",
    }
    result = ask(Response(status, b"no", headers))
    assert (result.status, result.body, result.reason, len(result.upstream)) == (status, b"no", "access_denied", 1)
    assert result.headers["location"] == "/login"
    assert result.headers["content-type"] == "a/b"
    assert "x-secret" not in result.headers


def refuses(request: Request) -> Response:
    raise Down("connect_refused")


@pytest.mark.parametrize(
    "answer", [Response(503, b""), refuses, Response(200, b"x" * 70000)], ids=["503", "down", "too long"]
)
def test_no_answer(answer: Any) -> None:
    closed = ask(answer)
    assert (closed.status, closed.reason) == (403, "authorization_failed")
    assert ask(answer, status_on_error=503).status == 503
    opened = ask(answer, failure_mode_allow=True)
    assert (opened.status, opened.upstream[-1].method) == (200, "POST")
    assert any("no answer from cluster 'auth'" in line for line in opened.log)


def test_a_cluster_that_is_gone() -> None:
    result = run(shipped("ext_authz", {**CONFIG, "cluster": "none"}), Request(*REQUEST))
    assert result.status == 403


def test_routes_that_pass_unasked() -> None:
    result = run(shipped("ext_authz", CONFIG), Request(), route_config=of_route("ext_authz", {"disabled": True}))
    assert (result.status, len(result.upstream)) == (200, 1)


def test_faults() -> None:
    found = problems("ext_authz", {"path": "a", "timeout": "0s", "status_on_error": 200, "headers_to_client": ["a b"]})
    assert [fault.partition(":")[0] for fault in found] == [
        ".cluster",
        ".path",
        ".timeout",
        ".status_on_error",
        ".headers_to_client[0]",
    ]
