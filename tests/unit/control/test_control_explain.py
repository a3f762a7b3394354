"""What `explain` says beside the route, which tests/golden holds against the router: mirrors and the text for people."""

from __future__ import annotations

from typing import Any

import yaml

from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.explain import Question, as_text, explain


def configuration(*filters: dict[str, Any]) -> MosnConfig:
    chain = {"filters": [{"type": "proxy", "config": {"router_config_name": "r", "downstream_protocol": "Http1"}}]}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_name": "app"},
        "request_mirror_policies": [{"cluster": "next", "percent": 10}, {"cluster": "audit", "percent": 100}],
    }
    listener = {"name": "l", "address": "127.0.0.1:80", "filter_chains": [chain], "stream_filters": list(filters)}
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    hosts = [{"address": "10.0.0.1:80"}]
    config = {
        "servers": [{"listeners": [listener], "routers": [table]}],
        "cluster_manager": {"clusters": [{"name": name, "hosts": hosts} for name in ("app", "next", "audit")]},
    }
    loaded = load_text(yaml.safe_dump(config), "f", yaml=True)
    assert loaded.config is not None, [fault.text() for fault in loaded.faults]
    return loaded.config


def mirrors(config: MosnConfig) -> tuple[list[dict[str, Any]], list[str]]:
    answer = explain(config, Question(url="http://h/"))
    return answer["mirrors"], [line for line in as_text(answer).splitlines() if line.startswith("mirror")]


def test_mirrors_are_named() -> None:
    told, lines = mirrors(configuration())
    assert [(mirror["cluster"], mirror["percent"], mirror["copies"]) for mirror in told] == [
        ("next", 10, 1),
        ("audit", 100, 1),
    ]
    assert lines == ["mirror        cluster next, 10 % of requests", "mirror        cluster audit, 100 % of requests"]


def test_the_filter_says_how_many() -> None:
    told, lines = mirrors(configuration({"type": "mirror", "config": {"amplification": 3}}))
    assert [mirror["copies"] for mirror in told] == [3, 3]
    assert lines[0] == "mirror        cluster next 3 times, 10 % of requests"


def test_broadcast_takes_the_place_of_the_request() -> None:
    told, lines = mirrors(configuration({"type": "mirror", "config": {"broadcast": True}}))
    assert all(mirror["instead_of_request"] for mirror in told)
    assert lines[1].startswith("mirror        every healthy host of cluster audit, and 200 in place of the reply")
