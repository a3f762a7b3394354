"""The golden cases through `explain` and through the route table itself; tests/system runs them through the program."""

from typing import Any

import msgspec
import pytest
import yaml
from tests.golden.golden_cases import CLIENT, GOLDEN, all_clusters, configuration, meets, question, wanted

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.assembly.routes import build_table
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.network_filters import Http1Settings
from pymosn.control.explain import _decode, explain
from pymosn.control.explain_text import as_text
from pymosn.routing.actions import Forward


def load() -> MosnConfig:
    addresses = {golden.name: f"127.0.0.1:{1000 + place}" for place, golden in enumerate(GOLDEN)}
    content = configuration(addresses, dict.fromkeys(all_clusters(), "10.0.0.1:80"))
    loaded = load_text(yaml.safe_dump(content), "golden", yaml=True)
    assert loaded.config is not None, [fault.text() for fault in loaded.errors]
    return loaded.config


CONFIG = load()
TABLES = {name: build_table(table) for name, table in CONFIG.servers[0].router_tables().items()}
CASES = [
    pytest.param(golden.name, request, expected, id=f"{golden.name}: {request}")
    for golden in GOLDEN
    for request, expected in golden.cases.items()
]


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize(("name", "request_text", "expected"), CASES)
def test_explain(name: str, request_text: str, expected: Any) -> None:
    answer = explain(CONFIG, question(request_text, name))
    reply = answer.get("reply", {})
    upstream = answer.get("upstream", {})
    found: dict[str, Any] = {
        "route": answer.get("route", {}).get("name", "").removeprefix(f"{name}/"),
        "cluster": answer.get("cluster", {}).get("name"),
        "path": upstream.get("path"),
        "host": upstream.get("host"),
        "status": reply.get("status"),
        "reason": reply.get("reason"),
        "location": dict(reply.get("headers", [])).get("location"),
        "sent": dict(upstream.get("headers", [])),
        "replied": dict(reply.get("headers", [])),
        "set_cookie": answer.get("set_cookie"),
    }
    for key, value in wanted(expected).items():
        assert meets(found[key], value), f"{key} is {found[key]!r}\n{as_text(answer)}"


@pytest.mark.parametrize(("name", "request_text", "expected"), CASES)
def test_table(name: str, request_text: str, expected: Any) -> None:
    """The table by itself; and explain said of every earlier route that it does not match, and of no other."""
    exchange = Exchange(Connection())
    exchange.protocol = "Http1"
    exchange.connection.remote_ip = CLIENT
    asked = question(request_text, name)
    answer = explain(CONFIG, asked)
    if _decode(asked, exchange, exchange.protocol, msgspec.structs.asdict(Http1Settings())) is not None:
        assert "virtual_host" not in answer
        return
    table = TABLES[name]
    host = table.find_virtual_host(exchange.request.raw_host)
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
        assert winner.name == f"{name}/{expected}"
