import json
from typing import Any

import pytest

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.config.update import Update

ROUTE = {"match": {"prefix": "/x"}, "route": {"cluster_name": "serverCluster"}}


@pytest.fixture
def before() -> MosnConfig:
    config = load_text(DEFAULT_CONFIG, DEFAULT_NAME).config
    assert config is not None
    return config


def update(action: str, value: Any, before: MosnConfig) -> tuple[MosnConfig | None, list[str]]:
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    config, faults = getattr(Update(text), action)(before)
    return config, [fault.message for fault in faults if fault.severity == "error"]


def test_a_cluster_of_a_new_name_is_added_and_of_a_known_one_replaced(before: MosnConfig) -> None:
    block = {"name": "new", "hosts": [{"address": "127.0.0.1:1"}]}
    added, errors = update("config", {"type": "cluster", "config": block}, before)
    assert added is not None
    assert errors == []
    assert [cluster.name for cluster in added.cluster_manager.clusters] == ["clientCluster", "serverCluster", "new"]
    block["hosts"] = [{"address": "127.0.0.1:2"}]
    replaced, _ = update("config", {"type": "cluster", "config": block}, added)
    assert replaced is not None
    assert [host.address for host in replaced.cluster_manager.clusters[2].hosts] == ["127.0.0.1:2"]
    assert len(before.cluster_manager.clusters) == 2


def test_every_fault_has_its_position_in_the_body(before: MosnConfig) -> None:
    text = '{"type": "cluster",\n "config": {"name": "c",\n  "connect_timeout": "1",\n  "hosts": [{"address": "x"}]}}'
    config, faults = Update(text).config(before)
    assert config is None
    errors = [(fault.file, fault.line, fault.path) for fault in faults if fault.severity == "error"]
    assert errors == [
        ("body", 3, "cluster_manager.clusters[2].connect_timeout"),
        ("body", 4, "cluster_manager.clusters[2].hosts[0].address"),
    ]


TYPES = '"type" must be one of listener, router, cluster, extend'


@pytest.mark.parametrize(
    ("action", "text", "messages"),
    [
        ("config", "", ["the body is empty"]),
        ("config", "[]", ["the body is not an object"]),
        ("config", '{"type": "nothing", "config": {}}', [TYPES]),
        ("config", '{"type": "cluster"}', ['"config" is missing']),
        ("config", '{"config": {}}', [TYPES]),
        ("config", '{"type": "cluster", "config": 5}', ["expected an object, got a number"]),
        ("removal", "[]", ["the body is not an object"]),
        ("removal", '{"type": "cluster"}', ['"name" is missing']),
        ("removal", '{"type": "cluster", "name": 5}', ['"name" must be a string']),
        ("removal", '{"type": "x", "name": "y"}', [TYPES]),
        ("hosts", '"a"', ["the body is not an object"]),
        ("hosts", '{"type": "set"}', ['"config" is missing']),
        ("hosts", '{"type": "set", "config": {}}', ["there is no cluster ''"]),
        ("route", "{}", ['"type" must be one of add, remove', '"config" is missing']),
        ("route", '{"type": "add", "config": {}}', ["there is no router '' in servers[0].routers"]),
    ],
)
def test_an_invalid_update_is_reported_once(action: str, text: str, messages: list[str], before: MosnConfig) -> None:
    assert update(action, text, before) == (None, messages)


def test_referenced_objects_cannot_be_removed(before: MosnConfig) -> None:
    assert update("removal", {"type": "cluster", "name": "serverCluster"}, before)[0] is None
    assert update("removal", {"type": "cluster", "name": "nobody"}, before) == (None, ["there is no cluster 'nobody'"])
    gone, errors = update("removal", {"type": "listener", "name": "clientListener"}, before)
    assert gone is not None
    assert errors == []
    assert [listener.name for listener in gone.servers[0].listeners] == ["serverListener"]


@pytest.mark.parametrize(
    ("action", "addresses", "result"),
    [
        ("set", ["127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:1", "127.0.0.1:2"]),
        ("add", ["127.0.0.1:1"], ["127.0.0.1:1", "127.0.0.1:8080"]),
        ("remove", ["127.0.0.1:8080"], []),
    ],
)
def test_hosts(action: str, addresses: list[str], result: list[str], before: MosnConfig) -> None:
    hosts = [{"address": address} for address in addresses]
    value = {"type": action, "config": {"cluster": "serverCluster", "hosts": hosts}}
    config, errors = update("hosts", value, before)
    assert config is not None
    assert errors == []
    assert [host.address for host in config.cluster_manager.clusters[1].hosts] == result


def test_routes_are_added_after_the_others_and_removed_by_their_match(before: MosnConfig) -> None:
    wanted = {"router_config_name": "client_router", "domain": "*", "route": ROUTE}
    added, errors = update("route", {"type": "add", "config": wanted}, before)
    assert added is not None
    assert errors == []
    routes = added.servers[0].routers[0].virtual_hosts[0].routers
    assert [route.match.prefix for route in routes][-1] == "/x"
    removed, _ = update("route", {"type": "remove", "config": wanted}, added)
    assert removed == before
    emptied, _ = update("route", {"type": "remove", "config": {**wanted, "route": None}}, added)
    assert emptied is not None
    assert emptied.servers[0].routers[0].virtual_hosts[0].routers == []


def test_a_route_needs_its_virtual_host_and_its_cluster(before: MosnConfig) -> None:
    wanted = {"router_config_name": "client_router", "domain": "nobody.test", "route": ROUTE}
    config, errors = update("route", {"type": "add", "config": wanted}, before)
    assert config is None
    assert "no virtual host with the domain 'nobody.test'" in errors[0]
    broken = {**ROUTE, "route": {"cluster_name": "nowhere"}}
    config, errors = update("route", {"type": "add", "config": {**wanted, "domain": "*", "route": broken}}, before)
    assert config is None
    assert len(errors) == 1
