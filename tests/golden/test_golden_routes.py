"""Golden cases of routing: each file in `routes/` is a router and what becomes of requests; add a file to add cases.

`router`: a router table as in a configuration (its name may be left out). `cases`: a request, written as
`METHOD URL | Header: value | ...`, and what is expected: the route as `virtual host/place`, a status of our own reply, or
an object with any of route, cluster, path, host, status, reason, location, sent and replied (header fields, null for none).
Every cluster that is named exists, but those that begin with `missing`.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pymosn.api.network import Connection
from pymosn.api.proxy import Exchange
from pymosn.config.build_routes import build_table
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.explain import Question, _decode, as_text, explain
from pymosn.routing.actions import Forward

FILES = sorted(Path(__file__).parent.glob("routes/*.yaml"))


def load(path: Path) -> tuple[MosnConfig, dict[str, Any]]:
    content = yaml.safe_load(path.read_text())
    router = {"router_config_name": "r", **content["router"]}
    names = {name for name in _strings(content) if not name.startswith("missing")}
    chain = {"filters": [{"type": "proxy", "config": {"router_config_name": "r", "downstream_protocol": "Http1"}}]}
    config = {
        "servers": [
            {"listeners": [{"name": "l", "address": "127.0.0.1:80", "filter_chains": [chain]}], "routers": [router]}
        ],
        "cluster_manager": {
            "clusters": [
                {"name": name, "hosts": [{"address": "10.0.0.1:80", "hostname": f"{name}.host"}]} for name in sorted(names)
            ]
        },
    }
    loaded = load_text(yaml.safe_dump(config), path.name, yaml=True)
    assert loaded.config is not None, [fault.text() for fault in loaded.errors]
    return loaded.config, content["cases"]


def _strings(content: dict[str, Any]) -> set[str]:
    """Every name of a cluster that a file uses."""
    found = set(content.get("clusters", []))
    for host in content["router"]["virtual_hosts"]:
        for route in host.get("routers", []):
            action = route.get("route") or {}
            found |= {action["cluster_name"]} if action.get("cluster_name") else set()
            found |= {entry["cluster"]["name"] for entry in action.get("weighted_clusters", [])}
    return found


LOADED = {path: load(path) for path in FILES}
CASES = [
    pytest.param(LOADED[path][0], request, expected, id=f"{path.stem}: {request}")
    for path in FILES
    for request, expected in LOADED[path][1].items()
]


def question(text: str) -> Question:
    first, *fields = [part.strip() for part in text.split(" | ")]
    method, url = first.split(" ", 1)
    pairs = [(field.partition(":")[0], field.partition(":")[2].strip()) for field in fields]
    return Question(method=method, url=url, headers=pairs, client="192.0.2.7")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize(("config", "request_text", "expected"), CASES)
def test_explain(config: MosnConfig, request_text: str, expected: Any) -> None:
    answer = explain(config, question(request_text))
    wanted = expected if isinstance(expected, dict) else {"status" if isinstance(expected, int) else "route": expected}
    route = answer.get("route", {}).get("name", "")
    reply = answer.get("reply", {})
    upstream = answer.get("upstream", {})
    found: dict[str, Any] = {
        "route": route.removeprefix("r/"),
        "cluster": answer.get("cluster", {}).get("name"),
        "path": upstream.get("path"),
        "host": upstream.get("host"),
        "status": reply.get("status"),
        "reason": reply.get("reason"),
        "location": dict(reply.get("headers", [])).get("location"),
        "sent": dict(upstream.get("headers", [])),
        "replied": dict(reply.get("headers", [])),
    }
    for key in ("sent", "replied"):
        found[key] = {name: found[key].get(name) for name in wanted.get(key, {})}
    assert {key: found[key] for key in wanted} == wanted, as_text(answer)


@pytest.mark.parametrize(("config", "request_text", "expected"), CASES)
def test_table(config: MosnConfig, request_text: str, expected: Any) -> None:
    """The table by itself; and explain said of every earlier route that it does not match, and of no other."""
    exchange = Exchange(Connection())
    exchange.protocol = "Http1"
    exchange.connection.remote_ip = "192.0.2.7"
    asked = question(request_text)
    answer = explain(config, asked)
    if _decode(asked, exchange) is not None:
        assert "virtual_host" not in answer
        return
    table = build_table(config.servers[0].routers[0])
    host = table.find_host(exchange.request.raw_host)
    assert answer["virtual_host"].get("name") == (None if host is None else host.name)
    if host is None:
        return
    winner = host.find(exchange)
    linear = next((route for route in host.routes if route.matcher.matches(exchange)), None)
    assert winner is linear, "the index and a walk from top to bottom disagree"
    assert answer["route"].get("name") == (None if winner is None else winner.name)
    lost = host.routes[: host.routes.index(winner)] if winner is not None else host.routes
    assert [entry["name"] for entry in answer["route"]["earlier"]] == [route.name for route in lost]
    if winner is not None and type(winner.action) is Forward and "cluster" in answer:
        assert answer["cluster"]["name"] == winner.action.cluster
    if isinstance(expected, str):
        assert winner is not None
        assert winner.name == f"r/{expected}"
