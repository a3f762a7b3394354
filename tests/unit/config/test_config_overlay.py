"""Changes of extensions of the process: what they make of a configuration, and how they survive reloads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pymosn.api.extension import Change, Put, Remove, SetHosts
from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.config.overlay import Overlay, keys_of, with_changes
from pymosn.config.schema import MosnConfig


def config_of(*clusters: dict[str, Any], **server: Any) -> MosnConfig:
    text = json.dumps({"servers": [server], "cluster_manager": {"clusters": list(clusters)}})
    loaded = load_text(text, "test")
    assert loaded.config is not None, loaded.errors
    return loaded.config


def cluster(name: str, *addresses: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "hosts": [{"address": address} for address in addresses], **keys}


def hosts(config: MosnConfig) -> dict[str, list[str]]:
    return {each.name: [host.address for host in each.hosts] for each in config.cluster_manager.clusters}


#: A block that contains itself.
ENDLESS: dict[str, Any] = {"name": "c"}
ENDLESS["metadata"] = ENDLESS

FILE = config_of(cluster("a", "127.0.0.1:1"), cluster("b", "127.0.0.1:2"))


def applied(before: MosnConfig, *changes: Change) -> MosnConfig:
    after, faults = with_changes(before, changes)
    assert after is not None, faults
    return after


def test_changes_are_made_in_order() -> None:
    after = applied(FILE, Put("cluster", cluster("c")), SetHosts("c", ["127.0.0.1:3"]), Remove("cluster", "a"))
    assert hosts(after) == {"b": ["127.0.0.1:2"], "c": ["127.0.0.1:3"]}


def test_hosts_may_be_blocks() -> None:
    after = applied(FILE, SetHosts("a", [{"address": "127.0.0.1:4", "weight": 7}, "127.0.0.1:5"]))
    assert [host.weight for host in after.cluster_manager.clusters[0].hosts] == [7, 1]


def test_what_changes_nothing_is_the_same_object() -> None:
    assert applied(FILE, SetHosts("a", ["127.0.0.1:1"])) is FILE
    assert applied(FILE) is FILE


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (SetHosts("missing", []), "there is no cluster 'missing'"),
        (SetHosts("a", ["nowhere"]), "missing port"),
        (Remove("router", "x"), "there is no router 'x'"),
        (Put("cluster", {"name": "c", "max_request_per_conn": "many"}), "max_request_per_conn: expected a whole number"),
        (Put("extend", {"type": "python"}), "an extension can change listener, router, cluster; got 'extend'"),  # type: ignore[arg-type]
        (Put("cluster", {"name": "c", "hosts": object()}), "not JSON"),
        (Put("cluster", ENDLESS), "not JSON"),
        (Put("cluster", {"name": "c", "max_request_per_conn": float("nan")}), "not JSON"),
        (SetHosts("b", "127.0.0.1:9"), "missing port"),
        (Change(), "expected Put, Remove or SetHosts, got Change"),
    ],
)
def test_an_invalid_change_rejects_all(change: Change, text: str) -> None:
    after, faults = with_changes(FILE, [SetHosts("b", ["127.0.0.1:9"]), change])
    assert after is None
    assert text in "\n".join(fault.text() for fault in faults)
    assert all(fault.file == f"changes[{i}]" for i, fault in enumerate(faults[-1:], 1))


def reloaded(new: MosnConfig, *steps: Change) -> tuple[MosnConfig, list[str]]:
    """What becomes of a changed file after these changes of the old one."""
    after, missing = joined(new, *(("own", step) for step in steps))
    return after, [name for _, name in missing]


def joined(new: MosnConfig, *steps: tuple[str, Change], owners: str = "own a b") -> tuple[MosnConfig, list[tuple[str, str]]]:
    """The same for the changes of several extensions, of which only `owners` are still configured."""
    overlay, active = Overlay(), FILE
    for owner, step in steps:
        active = applied(active, step)
        overlay.note(owner, keys_of([step]), active)
    return overlay.joined(new, owners.split())


def test_hosts_survive_a_reload_with_the_other_keys_of_the_file() -> None:
    new = config_of(cluster("a", "127.0.0.1:1", lb_type="LB_RANDOM"), cluster("b", "127.0.0.1:2"))
    after, missing = reloaded(new, SetHosts("a", ["127.0.0.1:7"]))
    assert hosts(after) == {"a": ["127.0.0.1:7"], "b": ["127.0.0.1:2"]}
    assert after.cluster_manager.clusters[0].lb_type == "LB_RANDOM"
    assert missing == []


def test_hosts_of_a_cluster_that_is_gone_are_named() -> None:
    after, missing = reloaded(config_of(cluster("b", "127.0.0.1:2")), SetHosts("a", ["127.0.0.1:7"]))
    assert hosts(after) == {"b": ["127.0.0.1:2"]}
    assert missing == ["a"]


def test_blocks_survive_a_reload() -> None:
    router = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": []}]}
    after, _ = reloaded(
        FILE,
        Put("cluster", cluster("c", "127.0.0.1:3")),
        SetHosts("c", ["127.0.0.1:4"]),
        SetHosts("b", ["127.0.0.1:5"]),
        Put("cluster", cluster("b", lb_type="LB_RANDOM")),
        Remove("cluster", "a"),
        Put("router", router),
    )
    assert hosts(after) == {"b": [], "c": ["127.0.0.1:4"]}
    assert [table.router_config_name for table in after.servers[0].routers] == ["r"]


def test_the_last_change_counts() -> None:
    after, _ = reloaded(FILE, Remove("cluster", "a"), Put("cluster", cluster("a", "127.0.0.1:8")))
    assert hosts(after)["a"] == ["127.0.0.1:8"]
    after, missing = reloaded(FILE, SetHosts("a", ["127.0.0.1:7"]), Remove("cluster", "a"))
    assert "a" not in hosts(after)
    assert missing == []


def test_hosts_that_the_file_had_anyway_survive_a_reload() -> None:
    after, _ = reloaded(config_of(cluster("a", "127.0.0.1:9")), SetHosts("a", ["127.0.0.1:1"]))
    assert hosts(after) == {"a": ["127.0.0.1:1"]}


def test_the_last_of_several_extensions_counts() -> None:
    first, second = SetHosts("a", ["127.0.0.1:7"]), SetHosts("a", ["127.0.0.1:8"])
    assert hosts(joined(FILE, ("b", first), ("a", second))[0])["a"] == ["127.0.0.1:8"]
    assert hosts(joined(FILE, ("a", first), ("b", second))[0])["a"] == ["127.0.0.1:8"]
    assert hosts(joined(FILE, ("a", first), ("b", second), ("a", first))[0])["a"] == ["127.0.0.1:7"]
    assert hosts(joined(FILE, ("a", first), ("b", second), owners="a")[0])["a"] == ["127.0.0.1:7"]


def test_one_extension_sets_hosts_of_the_cluster_of_another() -> None:
    made, given = ("b", Put("cluster", cluster("c"))), ("a", SetHosts("c", ["127.0.0.1:7"]))
    assert hosts(joined(FILE, made, given)[0])["c"] == ["127.0.0.1:7"]
    assert joined(FILE, made, given, owners="a")[1] == [("a", "c")]
    assert hosts(joined(FILE, made, given, made)[0])["c"] == []
    after, missing = joined(FILE, made, given, ("a", Remove("cluster", "c")))
    assert "c" not in hosts(after)
    assert missing == []


def test_blocks_with_keys_in_other_cases_and_listeners_without_name() -> None:
    proxy = {"type": "tcp_proxy", "config": {"cluster": "a"}}
    listener = {"address": "127.0.0.1:2045", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}
    after, _ = reloaded(FILE, Put("cluster", {"NAME": "c"}), Put("listener", listener))
    assert "c" in hosts(after)
    assert [each.address for each in after.servers[0].listeners] == ["127.0.0.1:2045"]


def test_a_file_is_not_changed_by_an_empty_overlay() -> None:
    after, missing = Overlay().joined(FILE, ["own"])
    assert dump(after) == dump(FILE)
    assert missing == []
