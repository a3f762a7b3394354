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


def test_extends_are_a_block_or_as_in_mosn_a_list(before: MosnConfig) -> None:
    one, two = {"type": "one", "config": {"k": 1}}, {"type": "two", "config": {"k": [2]}}
    added, errors = update("config", {"type": "extend", "config": [one, two]}, before)
    assert added is not None
    assert errors == []
    changed, _ = update("config", {"type": "extend", "config": [{"type": "two", "config": {"k": 3}}]}, added)
    assert changed is not None
    assert [(each.type, each.config) for each in changed.extends] == [("one", {"k": 1}), ("two", {"k": 3})]
    same, _ = update("config", {"type": "extend", "config": {"type": "one", "config": {"k": 4}}}, changed)
    assert same is not None
    assert [each.config for each in same.extends] == [{"k": 4}, {"k": 3}]
    for config in ([], [one, {"kind": "two"}], [one, 5]):
        assert update("config", {"type": "extend", "config": config}, before)[0] is None, config
    for unnamed in ({}, [{"config": {"k": 1}}], {"type": None}):
        assert update("config", {"type": "extend", "config": unnamed}, before) == (None, ['"config.type" is missing'])
    assert update("config", {"type": "cluster", "config": [{"name": "c"}]}, before)[0] is None


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
        ("hosts", '{"type": "set", "config": {}}', ['"config.cluster" is missing', '"config.hosts" is missing']),
        ("hosts", '{"type": "set", "config": 5}', ['"config" must be an object']),
        ("hosts", '{"type": "set", "config": null}', ['"config" is missing']),
        ("route", "{}", ['"type" must be one of add, remove', '"config" is missing']),
        ("route", '{"type": "add", "config": []}', ['"config" must be an object']),
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


# ---- slips change nothing

HOSTS = {"cluster": "serverCluster", "hosts": [{"address": "127.0.0.1:1"}]}
WHERE = {"router_config_name": "client_router", "domain": "*", "route": ROUTE}
TABLE = {"router_config_name": "client_router", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [ROUTE]}]}


def without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name != key}


@pytest.mark.parametrize(
    ("action", "body", "names"),
    [
        ("hosts", {"type": "set", "config": without(HOSTS, "hosts")}, ["config.hosts"]),
        ("hosts", {"type": "set", "config": {**HOSTS, "hosts": None}}, ["config.hosts"]),
        ("hosts", {"type": "set", "config": {**without(HOSTS, "hosts"), "host": []}}, ["config.hosts"]),
        ("hosts", {"type": "set", "config": {**HOSTS, "host": []}}, ["host"]),
        ("hosts", {"type": "set", "config": HOSTS, "confg": {}}, ["confg"]),
        ("hosts", {"type": "set", "config": without(HOSTS, "cluster")}, ["config.cluster"]),
        ("hosts", {"type": "set", "config": {**HOSTS, "hosts": {}}}, ["hosts"]),
        ("hosts", {"type": "set", "config": {**HOSTS, "hosts": [{"adress": "127.0.0.1:1"}]}}, ["adress"]),
        ("hosts", {"type": "remove", "config": {**HOSTS, "hosts": [{"adress": "127.0.0.1:8080"}]}}, ["adress"]),
        ("hosts", {"type": "remove", "config": {**HOSTS, "hosts": [None]}}, ["config.hosts[0].address"]),
        ("hosts", {"type": "remove", "config": {**HOSTS, "hosts": [{}]}}, ["config.hosts[0].address"]),
        ("config", {"type": "cluster", "config": {"name": "serverCluster"}}, ["config.hosts"]),
        ("config", {"type": "cluster", "config": {"name": "serverCluster", "hots": []}}, ["config.hosts", "hots"]),
        ("config", {"type": "cluster", "config": None}, ["config"]),
        ("config", {"type": "cluster", "config": {"name": "n", "hosts": []}, "nmae": "n"}, ["nmae"]),
        ("config", {"type": "router", "config": without(TABLE, "virtual_hosts")}, ["config.virtual_hosts"]),
        ("config", {"type": "router", "config": {**TABLE, "virtual_host": []}}, ["virtual_host"]),
        ("config", {"type": "listener", "config": {"name": "clientListener"}}, ["config.filter_chains"]),
        ("removal", {"type": "listener", "nmae": "clientListener"}, ["name"]),
        ("removal", {"type": "listener", "name": "clientListener", "now": True}, ["now"]),
        ("route", {"type": "remove", "config": without(WHERE, "route")}, ["config.route"]),
        ("route", {"type": "remove", "config": {**without(WHERE, "route"), "rout": ROUTE}}, ["config.route"]),
        ("route", {"type": "remove", "config": {**WHERE, "rout": ROUTE}}, ["rout"]),
        ("route", {"type": "remove", "config": without(WHERE, "domain")}, ["config.domain"]),
        ("route", {"type": "remove", "config": {**WHERE, "domain": 5}}, ["domain"]),
        ("route", {"type": "remove", "config": {**WHERE, "route": 5}}, ["route"]),
        ("route", {"type": "remove", "config": {**WHERE, "route": {}}}, ["config.route.match"]),
        ("route", {"type": "remove", "config": {**WHERE, "route": {"match": {"prefx": "/"}}}}, ["prefx"]),
        ("route", {"type": "add", "config": {**WHERE, "route": None}}, ["config.route"]),
        ("mosn_route", {"type": "remove", "config": {**without(WHERE, "route"), "rout": ROUTE}}, ["rout"]),
        ("mosn_route", {"type": "remove", "config": {**WHERE, "route": []}}, ["route"]),
    ],
)
def test_unknown_missing_and_wrong_keys_are_errors_that_name_the_key(
    action: str, body: Any, names: list[str], before: MosnConfig
) -> None:
    config, faults = getattr(Update(json.dumps(body)), action)(before)
    errors = [f"{fault.path}: {fault.message}" for fault in faults if fault.severity == "error"]
    assert config is None
    for name in names:
        assert any(name in error for error in errors), errors


def test_keys_match_in_any_case(before: MosnConfig) -> None:
    body = {"Type": "set", "CONFIG": {"Cluster": "serverCluster", "HOSTS": [{"Address": "127.0.0.1:1"}]}}
    config, errors = update("hosts", body, before)
    assert errors == []
    assert config is not None
    assert [host.address for host in config.cluster_manager.clusters[1].hosts] == ["127.0.0.1:1"]


def test_what_is_to_be_removed_is_named(before: MosnConfig) -> None:
    emptied, errors = update("hosts", {"type": "set", "config": {**HOSTS, "hosts": []}}, before)
    assert emptied is not None
    assert emptied.cluster_manager.clusters[1].hosts == []
    checked = {"name": "serverCluster", "hosts": HOSTS["hosts"], "health_check": {"interval": "1s"}}
    config, errors = update("config", {"type": "cluster", "config": checked}, before)
    assert config is not None, errors
    plain = without(checked, "health_check")
    config_or_none, errors = update("config", {"type": "cluster", "config": plain}, config)
    assert config_or_none is None
    assert "config.health_check" in errors[0]
    removed, errors = update("config", {"type": "cluster", "config": {**plain, "health_check": None}}, config)
    assert removed is not None, errors
    assert removed.cluster_manager.clusters[1].health_check is None


def test_what_is_inside_a_block_is_not_emptied_by_a_slip_either(before: MosnConfig) -> None:
    table = {"router_config_name": "client_router", "virtual_hosts": [{"name": "clientHost", "domains": ["*"]}]}
    [host] = before.servers[0].routers[0].virtual_hosts
    table["virtual_hosts"][0]["name"] = host.name  # type: ignore[index]
    config, errors = update("config", {"type": "router", "config": table}, before)
    missing = "is missing, which the active one has; to remove it, set it to null"
    assert (config, errors) == (None, [f'"config.virtual_hosts[0].routers" {missing}'])
    table["virtual_hosts"][0]["routers"] = []  # type: ignore[index]
    assert update("config", {"type": "router", "config": table}, before)[0] is not None
    block = {"name": "c", "hosts": [{"address": "127.0.0.1:1"}], "lb_subset_config": {"subset_selectors": [["a"]]}}
    active, errors = update("config", {"type": "cluster", "config": block}, before)
    assert active is not None, errors
    block["lb_subset_config"] = {"fall_back_policy": 1}
    expected = f'"config.lb_subset_config.subset_selectors" {missing}'
    assert update("config", {"type": "cluster", "config": block}, active) == (None, [expected])


def test_code_replaces_a_block_as_a_whole(before: MosnConfig) -> None:
    config, errors = update("block", {"type": "cluster", "config": {"name": "serverCluster"}}, before)
    assert config is not None, errors
    assert config.cluster_manager.clusters[1].hosts == []


def test_mosns_way_to_empty_a_virtual_host(before: MosnConfig) -> None:
    config, errors = update("mosn_route", {"type": "remove", "config": {"router_config_name": "client_router"}}, before)
    assert config is not None, errors
    assert config.servers[0].routers[0].virtual_hosts[0].routers == []


def test_removing_an_unknown_host_is_a_warning(before: MosnConfig) -> None:
    config, faults = Update(json.dumps({"type": "remove", "config": HOSTS})).hosts(before)
    assert config == before
    (fault,) = [fault for fault in faults if "127.0.0.1:1" in fault.message]
    assert fault.severity == "warning"


def test_mistakes_of_the_file_stay_but_a_change_adds_none(before: MosnConfig) -> None:
    """Not even one that the file has elsewhere."""
    file = json.loads(DEFAULT_CONFIG)
    table = file["servers"][0]["routers"][0]
    lost = {"match": {"prefix": "/lost"}, "route": {"cluster_name": "nowhere"}}
    table["virtual_hosts"][0]["routers"].insert(0, lost)
    loaded = load_text(json.dumps(file), "f").config
    assert loaded is not None
    place = {"router_config_name": table["router_config_name"], "domain": "*"}
    for cluster, errors in (
        ("serverCluster", []),
        ("nowhere", ["unknown cluster: requests are answered 404, as in MOSN"]),
    ):
        route = {"match": {"prefix": "/more"}, "route": {"cluster_name": cluster}}
        changed, found = update("route", {"type": "add", "config": place | {"route": route}}, loaded)
        assert (changed is not None, found) == (not errors, errors)
