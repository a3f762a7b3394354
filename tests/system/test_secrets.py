"""No output of the program shows a secret of its configuration: dumps, routes, explain, errors, logs."""

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually, get

pytestmark = pytest.mark.once

HS256 = "c2VjcmV0LW9mLWhzMjU2LXRva2Vucw"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"
#: Every secret of the configuration below, or the part of it that must not be found.
SECRETS = (
    *(HS256, "pw-of-redis", "key-of-partner", "Bearer abc-of-route", "sid-of-route", "hmac-of-filter", "signing-of-filter"),
    *("signature-of-url", "seed-of-filter", "seed-of-route", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "pw-of-registry"),
    *("label-of-host", "token-of-body", "Basic cHctb2Ytcm91dGU=", "sky-of-tracing", "tunnel-of-extend", "wait-of-filter"),
)
#: What must stay visible.
VISIBLE = (
    *("tokenCalculateStrategy", "keyFormat", "max_tokens", "token_bucket", "x-user", "public_key", "rsa-modulus"),
    *("redis.example", "/files/report.pdf", '"x-request-source"', "subscriber-name"),
)

FILTER = """
from typing import Any
import msgspec
from pymosn.api import Exchange, Secret, StreamFilter


class Inner(msgspec.Struct):
    wait: Secret[str] = ""


class Settings(msgspec.Struct):
    seed: Secret[str] = ""
    hmac_key: str = ""
    signing_key: str = ""
    cache: str = ""
    keyFormat: str = ""
    max_tokens: int = 0
    token_bucket: dict[str, int] = {}
    public_key: str = ""
    partner: dict[str, str] = {}
    inner: list[Inner] = []


class Keeps(StreamFilter):
    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        if config.cache.endswith("/broken"):
            raise ValueError(f"cannot use {config!r} with {config.seed}")

    async def start(self) -> None:
        self.context.write(f"started with {self.config.seed}")
        if self.config.cache.endswith("/late"):
            raise ValueError(f"cannot start {self.config!r}")

    def on_request(self, exchange: Exchange) -> None:
        if exchange.request.path == "/fails":
            raise ValueError(f"failed: {self.config!r}, inner {self.config.inner[0].wait}")
"""


def filter_entry(cache: str = "redis://:pw-of-redis@redis.example:6379/0") -> dict[str, Any]:
    config = {
        "path": "keeps.py",
        "class": "Keeps",
        "seed": "seed-of-filter",
        "hmac_key": "hmac-of-filter",
        "signing_key": "signing-of-filter",
        "cache": cache,
        "keyFormat": "keyFormat-is-visible",
        "max_tokens": 17,
        "token_bucket": {"size": 18},
        "public_key": "public-is-visible",
        "partner": {"x-api-key": "key-of-partner"},
        "inner": [{"wait": "wait-of-filter"}],
    }
    return {"type": "python", "config": config}


def configured(hops: TwoHops) -> dict[str, Any]:
    config, server = hops.config, hops.server
    jwks = {"keys": [{"kty": "oct", "alg": "HS256", "k": HS256}, {"kty": "RSA", "n": "rsa-modulus", "e": "AQAB"}]}
    rules = [{"match": {"prefix": "/jwt"}, "requires": {"providerName": "p"}}]
    provider = {"issuer": "i", "localJwks": {"inlineString": json.dumps(jwks)}}
    limit = {"resource": "/x", "threshold": 1000, "tokenCalculateStrategy": 0, "statIntervalInMs": 77}
    server["listeners"][0]["stream_filters"] = [
        filter_entry(),
        {"type": "jwt_authn", "config": {"providers": {"p": provider}, "rules": rules}},
        {"type": "flowControlFilter", "config": {"global_switch": True, "rules": [limit]}},
    ]
    adds = [
        {"header": {"key": "Authorization", "value": "Bearer abc-of-route"}},
        {"header": {"key": "cookie", "value": "sid=sid-of-route"}},
        {"header": {"key": "x-request-source", "value": "edge"}},
    ]
    host = server["routers"][0]["virtual_hosts"][0]
    match = {"prefix": "/", "headers": [{"name": "authorization", "value": "Basic cHctb2Ytcm91dGU="}]}
    host["routers"] = [
        {"match": match, "redirect": {"path_redirect": "/files/report.pdf?X-Amz-Signature=signature-of-url"}},
        {"match": {"path": "/body"}, "direct_response": {"status": 200, "body": '{"access_token": "token-of-body"}'}},
        {
            **host["routers"][0],
            "route": {
                **host["routers"][0]["route"],
                "request_headers_to_add": adds,
                "hash_policy": [{"header": {"key": "x-user"}}],
            },
            "per_filter_config": {"keeps": {"seed": "seed-of-route"}},
        },
    ]
    cluster = config["cluster_manager"]["clusters"][1]
    cluster["hosts"][0]["metadata"] = {"filter_metadata": {"mosn.lb": {"auth_token": "label-of-host"}}}
    cluster["spec"] = {"subscribe": [{"subscriber": "subscriber-name", "service_name": "zk://u:pw-of-registry@zk:2181"}]}
    cluster["tls_context"] = {"status": False, "private_key": PEM}
    config["tracing"] = {"enable": True, "driver": "SkyWalking", "config": {"authentication": "sky-of-tracing"}}
    config["extends"] = [{"type": "x", "config": {"note": f"secret: 1\n{PEM}", "secret": {"deep": ["tunnel-of-extend"]}}}]
    return config


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def proxy(start: Start, two_hops: TwoHops, tmp_path: Path) -> Pymosn:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "keeps.py").write_text(FILTER)
    proxy = start(configured(two_hops))
    proxy.wait_for(READY)
    return proxy


def explained(port: int, question: dict[str, Any], query: str = "") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", f"/api/v1/explain{query}", json.dumps(question))
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_what_the_admin_api_shows(proxy: Pymosn, two_hops: TwoHops) -> None:
    paths = ("config_dump", "config_dump?allrouters", "config_dump?alllisteners", "routes", "routes?format=text", "filters")
    pages = {path: two_hops.admin(f"/api/v1/{path}") for path in (*paths, "clusters", "stats", "filters?format=text")}
    for url in ("http://h/", "http://h/body", "http://h/jwt"):
        for query in ("", "?format=text"):
            pages[f"explain {url}{query}"] = explained(two_hops.admin_port, {"url": url}, query)
    assert {name: found for name, page in pages.items() if (found := leaked(page))} == {}
    assert [word for word in VISIBLE if word.strip('"') not in pages["config_dump"]] == []
    assert "x-request-source" in pages["explain http://h/"]
    assert "x-user" in pages["routes"]
    assert leaked(proxy.output) == []


def test_an_explained_request_shows_its_own_fields_and_no_secrets_of_the_table(proxy: Pymosn, two_hops: TwoHops) -> None:
    headers = [["Cookie", "mine=1"], ["host", "h"]]
    for listener, expected in (("serverListener", "mine=1"), ("clientListener", "***REDACTED***")):
        question = {"url": "/a?sig=of-url", "headers": headers, "listener": listener}
        shown = json.loads(explained(two_hops.admin_port, question))
        # The client's table adds a cookie of its own, which is in the same field.
        assert [value for name, value in shown["upstream"]["headers"] if name.lower() == "cookie"] == [expected]
        assert "of-url" not in json.dumps(shown)


@pytest.mark.parametrize("end", ["broken", "late"])
def test_errors_of_filters_in_the_answer_and_in_the_log(proxy: Pymosn, two_hops: TwoHops, end: str) -> None:
    listener = {
        **two_hops.server["listeners"][1],
        "stream_filters": [filter_entry(f"redis://:pw-of-redis@redis.example/{end}")],
    }
    status, result = proxy.post("/api/v1/update_config", {"type": "listener", "config": listener})
    assert status == 400
    assert "ValueError" in json.dumps(result)
    assert leaked(json.dumps(result)) == []
    proxy.wait_for(f"change from .*{'use' if end == 'broken' else 'start'} Settings")
    assert leaked(proxy.output) == []


def test_errors_of_filters_while_they_serve(proxy: Pymosn, two_hops: TwoHops) -> None:
    assert get(two_hops.client_port, "/fails")[0] == 500
    proxy.wait_for("failed: ValueError: failed: Settings")
    proxy.wait_for("started with")
    assert leaked(proxy.output) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("request_headers_to_add", [{"header": {"key": "Authorization", "value": 71727374}}]),
        ("request_headers_to_add", [{"header": {"key": "x-api-key", "value": ["71727374"]}, "append": "71727374"}]),
        ("host_rewrite", {"password": "71727374"}),
        ("timeout", "https://user:71727374@host"),
        ("timeout", "Bearer 71727374"),
    ],
)
def test_invalid_values_are_not_quoted_if_they_are_secrets(
    proxy: Pymosn, two_hops: TwoHops, tmp_path: Path, key: str, value: Any
) -> None:
    route = {"match": {"prefix": "/q"}, "route": {"cluster_name": "client", key: value}}
    body = {"type": "add", "config": {"router_config_name": "client_router", "domain": "*", "route": route}}
    status, result = proxy.post("/api/v1/update_route", body)
    assert status == 400
    assert key in json.dumps(result)
    assert "71727374" not in json.dumps(result)
    two_hops.server["routers"][0]["virtual_hosts"][0]["routers"].append(route)
    path = tmp_path / "conf" / "other.json"
    path.write_text(json.dumps(two_hops.config))
    for option in ([], ["--json"]):
        command = [sys.executable, "-m", "pymosn", "check", "-c", str(path), *option]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1
        assert "71727374" not in done.stdout + done.stderr
        assert leaked(done.stdout + done.stderr) == []
    assert eventually(lambda: "change from admin" in proxy.output)
    assert "71727374" not in proxy.output


def test_the_commands(proxy: Pymosn, two_hops: TwoHops, tmp_path: Path) -> None:
    path = str(tmp_path / "conf" / "mosn.json")
    for command in (
        ["explain", "-c", path, "GET", "/"],
        ["explain", "--json", "-c", path, "GET", "/"],
        ["filters", "-c", path],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pymosn", *command], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0
        assert leaked(done.stdout + done.stderr) == []
    assert leaked(get(two_hops.admin_port, "/api/v1/env?key=PYMOSN_EXPECT")[1]) == []
