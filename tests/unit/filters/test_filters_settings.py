"""Settings that were accepted and failed at the first request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shipped_kit import problems

from pymosn.config.load import load_text

RULE = {"resource": "/", "tokenCalculateStrategy": 1, "warmUpPeriodSec": 1}
REMOTE = "providers.p.remoteJwks.httpUri.uri"


def remote(uri: str) -> dict[str, Any]:
    return {"providers": {"p": {"remoteJwks": {"httpUri": {"uri": uri, "cluster": "keys"}}}}}


@pytest.mark.parametrize(
    ("name", "config", "path"),
    [
        ("flowControlFilter", {"rules": [{**RULE, "threshold": 5e-324}]}, ".rules[0].threshold"),
        ("cors", {"allow_origins": ["*"], "allow_methods": ["GET", "a\nb"]}, ".allow_methods[1]"),
        ("ext_authz", {"cluster": "c", "path": "/a b"}, ".path"),
        ("ext_authz", {"cluster": "c", "path": "/a/%2e%2e/b"}, ".path"),
        ("ext_authz", {"cluster": "c", "path": "/a/..;x?b=c"}, ".path"),
        ("ext_authz", {"cluster": "c", "path": "/a\r\nx: y"}, ".path"),
        ("ext_authz", {"cluster": "c", "path": "a"}, ".path"),
        ("jwt_authn", remote("http://["), f".{REMOTE}"),
        ("jwt_authn", remote("https://keys.example/é"), f".{REMOTE}"),
        ("jwt_authn", {"providers": {"p": {**remote("https://a/")["providers"]["p"], "forwardPayloadHeader": "te"}}}, ""),
        ("header_to_metadata", {"request_rules": [{"header": "upgrade", "remove": True}]}, ".request_rules[0].header"),
    ],
)
def test_settings_that_cannot_work(name: str, config: dict[str, Any], path: str) -> None:
    assert any(problem.startswith(path) for problem in problems(name, config))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("rbac", {}),
        ("jwt_authn", {}),
        ("ext_authz", {"cluster": "c"}),
        ("ip_access", {}),
        ("local_rate_limit", {"requests": 1}),
        ("flowControlFilter", {}),
        ("payload_limit", {}),
        ("cors", {"allow_origins": ["*"]}),
    ],
)
def test_a_guard_cannot_be_skipped(name: str, config: dict[str, Any]) -> None:
    """An error in it would be a way through."""
    entry = {"type": name, "on_error": "skip", "config": config}
    listener = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "stream_filters": [entry], "filter_chains": [{}]}
    loaded = load_text(json.dumps({"servers": [{"listeners": [listener]}]}), "c.json")
    (error,) = [fault for fault in loaded.errors if fault.path.endswith("on_error")]
    assert error.message.startswith("must be fail")
