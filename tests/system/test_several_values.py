"""Several values where one is expected, and odd input to filters, on the real program: docs/header-values.md.

Each listener has one filter or one kind of route. Requests are written byte by byte: clients of the standard library join
repeated fields.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from plain_sockets import PATIENCE, connect, read_all
from process_fixtures import Start
from pymosn_process import READY, Pymosn, free_ports
from recorder import Recorder

SECRET = b"0123456789abcdef0123456789abcdef"
KEY = {"kty": "oct", "alg": "HS256", "k": base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode()}
PROVIDER = {
    "issuer": "i",
    "audiences": ["shop"],
    "localJwks": {"inlineString": json.dumps({"keys": [KEY]})},
    "forward": True,
    "forwardPayloadHeader": "x-claims",
}
MAYBE = {"providers": {"p": PROVIDER}, "rules": [{"match": {"prefix": "/"}, "requires": {"allowMissingOrFailed": {}}}]}
#: As soon as a provider's requirement is met, the other one's token need not be valid.
OTHER = {**PROVIDER, "fromHeaders": [{"name": "x-other"}]}
EITHER = {
    "providers": {"p": PROVIDER, "q": OTHER},
    "rules": [
        {
            "match": {"prefix": "/"},
            "requires": {"requiresAny": {"requirements": [{"providerName": "p"}, {"providerName": "q"}]}},
        }
    ],
}


def rbac(action: str, principal: dict[str, Any]) -> list[dict[str, Any]]:
    policy = {"permissions": [{"any": True}], "principals": [principal]}
    return [{"type": "rbac", "config": {"version": "1", "rules": {"action": action, "policies": {"p": policy}}}}]


def role(**match: Any) -> dict[str, Any]:
    return {"header": {"name": "x-role", **match}}


def limit(**config: Any) -> list[dict[str, Any]]:
    return [{"type": "local_rate_limit", "config": {"requests": 1, "per": "1h", **config}}]


#: The stream filters of each listener.
FILTERS: dict[str, list[dict[str, Any]]] = {
    "deny": rbac("DENY", role(exact_match="bad")),
    "deny-regex": rbac("DENY", role(safe_regex_match={"regex": "b[a-z]d"})),
    "deny-others": rbac("DENY", {"not_id": role(exact_match="admin")}),
    "deny-host": rbac("DENY", {"header": {"name": "host", "exact_match": "Secret.example"}}),
    "allow": rbac("ALLOW", role(prefix_match="adm")),
    "allow-unlike": rbac("ALLOW", role(exact_match="bad", invert_match=True)),
    "jwt": [
        {
            "type": "jwt_authn",
            "config": {
                "providers": {"p": PROVIDER},
                "rules": [{"match": {"prefix": "/"}, "requires": {"providerName": "p"}}],
            },
        }
    ],
    "jwt-maybe": [{"type": "jwt_authn", "config": MAYBE}],
    "jwt-either": [{"type": "jwt_authn", "config": EITHER}],
    "limit": limit(key="header", header="x-key"),
    "labels": [
        {
            "type": "header_to_metadata",
            "config": {"request_rules": [{"header": "x-zone", "on_header_present": {"key": "zone"}}]},
        }
    ],
    "cors": [{"type": "cors", "config": {"allow_origin_regexes": ["https://.*\\.app\\.example"]}}],
    "odd": [{"type": "python", "config": {"path": "odd.py", "class": "Odd"}}],
    "odd-skip": [{"type": "python", "on_error": "skip", "config": {"path": "odd.py", "class": "Odd"}}],
}
ROUTES: dict[str, list[dict[str, Any]]] = {
    "cluster-header": [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}],
    "cluster-variable": [{"match": {"prefix": "/"}, "route": {"cluster_variable": "request_header_x-cluster"}}],
    "cluster-cookie": [{"match": {"prefix": "/"}, "route": {"cluster_variable": "cookie_c"}}],
    "host-header": [
        {"match": {"prefix": "/"}, "route": {"cluster_name": "one", "auto_host_rewrite_header": "x-host"}},
    ],
    "destination": [{"match": {"prefix": "/"}, "route": {"cluster_name": "wanted"}}],
    "matchers": [
        {"match": {"prefix": "/", "headers": [{"name": "x-a", "value": "1,2"}]}, "direct_response": {"status": 201}},
        {
            "match": {"prefix": "/", "query_parameters": [{"name": "q", "value": "1,2"}]},
            "direct_response": {"status": 202},
        },
        {
            "match": {"variables": [{"name": "cookie_c", "value": "1,2"}]},
            "direct_response": {"status": 203},
        },
        {
            "match": {"dsl_expressions": [{"expression": "request.headers['x-b'] == '1,2'"}]},
            "direct_response": {"status": 205},
        },
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
    ],
}
PLAIN = [{"match": {"prefix": "/"}, "route": {"cluster_name": "one"}}]
NAMES = (*FILTERS, *ROUTES)

ODD = """
import sys
from pymosn.api import StreamFilter

class Raises(Exception):
    def __str__(self):
        raise RuntimeError("no text")
    __repr__ = __str__

class Exits(Exception):
    def __str__(self):
        sys.exit(3)

class NoText(BaseException):
    def __str__(self):
        return None

class Long(Exception):
    def __str__(self):
        return "\\ud800" + "x" * 10_000_000

class Traceless(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no traceback")

class Odd(StreamFilter):
    def on_request(self, exchange):
        name = exchange.request.path[1:]
        if name:
            raise globals()[name]()
"""


class Program:
    """The running program. `ports`: by the name of the listener."""

    def __init__(self, ports: dict[str, int], recorder: Recorder, process: Pymosn) -> None:
        self.ports = ports
        self.recorder = recorder
        self.process = process

    def ask(self, name: str, *lines: str, target: str = "/", host: str = "test.example", method: str = "GET") -> int:
        """The status of the response to a request with these lines; 0 without a response."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]
        with connect(self.ports[name]) as sock:
            sock.settimeout(PATIENCE)
            sock.sendall("\r\n".join(head).encode("utf-8", "surrogateescape"))
            try:
                answer = read_all(sock)
            except OSError:
                answer = b""
        self.answer = answer
        return int(answer.split()[1]) if answer else 0

    def arrived(self) -> list[tuple[str, bytes]]:
        return [(cluster, head.lower()) for cluster, head in self.recorder.take()]


def listener(name: str, port: int) -> dict[str, Any]:
    config = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": name}
    return {
        "name": name,
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "stream_filters": FILTERS.get(name, []),
        "filter_chains": [{"filters": [{"type": "proxy", "config": config}]}],
        "access_logs": [{"log_path": "stdout", "log_format": f"log {name} %reason% %response_code%"}],
    }


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("several")
    recorder = Recorder(("one", "two"))
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    clusters: list[dict[str, Any]] = [
        {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{recorder.ports[name]}"}]}
        for name in ("one", "two")
    ]
    by_header = {"use_header": True, "header_name": "x-to", "allowed_destinations": [{"network": "127.0.0.0/8"}]}
    clusters.append(
        {"name": "wanted", "type": "ORIGINAL_DST", "lb_type": "LB_ORIGINAL_DST", "original_dst_lb_config": by_header}
    )
    tables = [
        {
            "router_config_name": name,
            "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": ROUTES.get(name, PLAIN)}],
        }
        for name in NAMES
    ]
    listeners = [listener(name, ports[name]) for name in NAMES]
    whole = {
        "servers": [{"default_log_path": "stdout", "listeners": listeners, "routers": tables}],
        "cluster_manager": {"clusters": clusters},
    }
    (folder / "conf").mkdir()
    (folder / "conf" / "odd.py").write_text(ODD)
    start = Start(folder)
    try:
        process = start(whole, "--workers", "1")
        process.wait_for(READY)
        yield Program(ports, recorder, process)
    finally:
        start.end()
        recorder.close()


# ---- several values


@pytest.mark.parametrize(
    ("name", "lines", "status"),
    [
        ("deny", ["x-role: good"], 200),
        ("deny", ["x-role: bad"], 403),
        ("deny", ["x-role: bad", "x-role: good"], 403),
        ("deny", ["x-role: good", "x-role: bad"], 403),
        ("deny", ["x-role: good, bad"], 403),
        ("deny", ["x-role: good", "X-Role: x,bad ,y"], 403),
        ("deny-regex", ["x-role: x", "x-role: bid"], 403),
        ("deny-regex", ["x-role: x, bid"], 403),
        ("deny-others", ["x-role: admin"], 200),
        ("deny-others", ["x-role: admin", "x-role: guest"], 403),
        ("deny-others", ["x-role: guest", "x-role: admin"], 403),
        ("deny-others", ["x-role: guest,admin"], 403),
        ("allow", ["x-role: admin"], 200),
        ("allow", ["x-role: admin", "x-role: guest"], 403),
        ("allow", ["x-role: guest", "x-role: admin"], 403),
        ("allow-unlike", ["x-role: good"], 200),
        ("allow-unlike", ["x-role: good", "x-role: bad"], 403),
        ("allow-unlike", ["x-role: good, bad"], 403),
    ],
)
def test_rbac_holds_for_every_reading(program: Program, name: str, lines: list[str], status: int) -> None:
    assert program.ask(name, *lines) == status


@pytest.mark.parametrize("host", ["secret.example", "SECRET.example", "secret.example:80", "secret.example."])
def test_a_host_is_denied_however_it_is_written(program: Program, host: str) -> None:
    assert program.ask("deny-host", host=host) == 403
    assert program.ask("deny-host", host="other.example") == 200


def token(secret: bytes = SECRET, **claims: Any) -> str:
    return jwt.encode({"iss": "i", "aud": "shop", "exp": time.time() + 3600, **claims}, secret, "HS256")


FORGED = token(b"x" * 32, sub="root")


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        ([f"authorization: Bearer {FORGED}", f"authorization: Bearer {token()}"], "/"),
        ([f"authorization: Bearer {token()}", f"authorization: Bearer {FORGED}"], "/"),
        ([f"authorization: Bearer {token()}", "authorization: Basic cm9vdDpyb290"], "/"),
        ([f"authorization: Bearer {token()}", f"authorization: Bearer {token()}"], "/"),
        ([f"authorization: Bearer {token()}"], f"/?access_token={FORGED}"),
        ([], f"/?access_token={token()}&access_token={FORGED}"),
        ([], f"/?access_token={token()}&access%5Ftoken={FORGED}"),
        ([], f"/?access_token={token()}&a=b;access_token={FORGED}"),
        ([f"authorization: Bearer {token()}, Bearer {FORGED}"], "/"),
    ],
)
def test_credentials_given_twice_are_refused(program: Program, lines: list[str], target: str) -> None:
    program.arrived()
    assert program.ask("jwt", *lines, target=target) == 401
    assert program.arrived() == []


def test_a_credential_that_is_not_verified_is_not_forwarded(program: Program) -> None:
    for lines in (
        [f"authorization: Bearer {FORGED}"],
        [f"authorization: Bearer\t{FORGED}"],
        [f"authorization: bearer {token()}", f"authorization: Bearer {FORGED}"],
    ):
        program.arrived()
        assert program.ask("jwt-maybe", *lines, "x-claims: eyJzdWIiOiJyb290In0") == 200
        ((_, head),) = program.arrived()
        assert b"authorization" not in head
        assert b"x-claims" not in head
    assert program.ask("jwt-either", f"authorization: Bearer {token()}", f"x-other: {FORGED}", f"X-Claims: {FORGED}") == 200
    ((_, head),) = program.arrived()
    assert f"authorization: bearer {token()}".lower()[:40].encode() in head
    assert b"x-other" not in head
    assert FORGED.lower().encode() not in head


def test_a_repeated_key_of_a_rate_limit_is_refused(program: Program) -> None:
    assert program.ask("limit", "x-key: victim") == 200
    assert program.ask("limit", "x-key: victim") == 429
    for lines in (["x-key: victim", "x-key: a"], ["x-key: b", "x-key: victim"], ["x-key: c", "x-key: c"]):
        assert program.ask("limit", *lines) == 400
    assert program.ask("limit", "x-key: c") == 200, "its bucket is still full"
    program.process.wait_for("log limit repeated_field 400")


@pytest.mark.parametrize(
    ("name", "line", "field"),
    [
        ("cluster-header", "x-cluster: one", "x-cluster: two"),
        ("cluster-variable", "x-cluster: one", "x-cluster: two"),
        ("cluster-cookie", "cookie: c=one", "cookie: a=b; c=two"),
        ("host-header", "x-host: one.example", "x-host: two.example"),
        ("labels", "x-zone: a", "x-zone: b"),
    ],
)
def test_a_destination_given_twice_is_refused(program: Program, name: str, line: str, field: str) -> None:
    assert program.ask(name, line) == 200
    program.arrived()
    assert program.ask(name, line, field) == 400
    assert program.ask(name, line, line) == 400
    assert program.arrived() == []
    program.process.wait_for(f"log {name} repeated_field 400")


def test_an_original_destination_given_twice_is_refused(program: Program) -> None:
    one, two = (f"x-to: 127.0.0.1:{program.recorder.ports[name]}" for name in ("one", "two"))
    assert program.ask("destination", one) == 200
    program.arrived()
    assert program.ask("destination", one, two) == 400
    assert program.arrived() == []
    program.process.wait_for("log destination repeated_field 400")


def test_routes_join_with_commas(program: Program) -> None:
    assert program.ask("matchers", "x-a: 1") == 200
    assert program.ask("matchers", "x-a: 1", "x-a: 2") == 201
    assert program.ask("matchers", "x-a: 2", "x-a: 1") == 200
    assert program.ask("matchers", target="/?q=1&q=2") == 202
    assert program.ask("matchers", target="/?q=1,2") == 202
    assert program.ask("matchers", "cookie: c=1; d=5", "cookie: c=2") == 203
    assert program.ask("matchers", "x-b: 1", "x-b: 2") == 205
    assert program.ask("matchers", "x-b: \udcff", "x-b: 2") == 200


def test_an_origin_given_twice_is_not_allowed(program: Program) -> None:
    ours, theirs = "origin: https://a.app.example", "origin: https://evil.example"
    assert program.ask("cors", ours) == 200
    assert b"access-control-allow-origin" in program.answer.lower()
    for lines in ([ours, theirs], [theirs, ours], ["origin: https://evil.example, https://a.app.example"]):
        assert program.ask("cors", *lines) == 200
        assert b"access-control-allow-origin" not in program.answer.lower()
        assert program.ask("cors", *lines, "access-control-request-method: PUT", method="OPTIONS") == 403


# ---- odd input


def signed(payload: bytes, header: bytes = b'{"alg":"HS256"}') -> str:
    import hashlib
    import hmac

    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    mac = hmac.new(SECRET, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer é.é.é",
        "Bearer \udcff\udcfe.a.b",
        "Bearer",
        "Bearer ...",
        "Bearer a.b.c.d.e",
        "Bearer " + "." * 5000,
        *(
            "Bearer " + signed(b'{"iss":"i","aud":"shop","exp":4e9,%s}' % more)
            for more in (
                b'"aud":5',
                b'"aud":null',
                b'"aud":{"a":1}',
                b'"aud":["shop",5]',
                b'"exp":NaN',
                b'"exp":Infinity',
                b'"exp":1e999',
                b'"exp":1' + b"0" * 400,
                b'"exp":true',
                b'"exp":"4000000000"',
                b'"exp":null',
                b'"exp":-1',
                b'"nbf":-Infinity',
                b'"nbf":[]',
                b'"iat":{}',
                b'"iss":["i"]',
                b'"sub":"a","sub":"root"',
                b'"a":' + b"[" * 2500 + b"]" * 2500,
                b'"a":"\xff"',
            )
        ),
        "Bearer " + signed(b'["iss"]'),
        "Bearer " + signed(b"7"),
        "Bearer " + signed(b'{"iss":"i","aud":"shop"}', b'{"alg":["HS256"]}'),
        "Bearer " + signed(b'{"iss":"i","aud":"shop"}', b'{"alg":"HS256","kid":{"a":1}}'),
        "Bearer " + signed(b'{"iss":"i","aud":"shop"}', b'{"alg":"HS256","crit":["x"],"x":1}'),
        "Bearer " + signed(b'{"iss":"i","aud":"shop"}', b'{"alg":"none","alg":"HS256"}'),
        "Bearer " + signed(b'{"iss":"i","aud":"shop"}') + "=",
    ],
    ids=lambda sent: ascii(sent)[:40],
)
def test_odd_tokens_are_401(program: Program, sent: str) -> None:
    assert program.ask("jwt", f"authorization: {sent}") == 401
    assert program.ask("jwt", f"authorization: Bearer {token()}") == 200


@pytest.mark.parametrize("name", ["Raises", "Exits", "NoText", "Long", "Traceless"])
def test_an_error_without_a_text_is_still_an_answer(program: Program, name: str) -> None:
    assert program.ask("odd", target=f"/{name}") == 500
    assert program.ask("odd-skip", target=f"/{name}") == 200
    assert program.ask("odd") == 200
    program.process.wait_for(f"filter 'Odd' failed: {name}")


def test_odd_bytes_in_every_filter(program: Program) -> None:
    """Whatever a filter decides, it does not fail."""
    for name in FILTERS:
        if name.startswith("odd"):
            continue
        for value in ("\udcff\udc80", "", "a" * 6000, "," * 3000, "é", "\ta\t,"):
            fields = ("x-role", "x-key", "x-zone", "authorization", "origin", "cookie", "x-other")
            for field in fields:
                status = program.ask(name, f"{field}: {value}")
                assert status not in (0, 500), (name, field, value[:10])
