"""Checks of the upstream protocol of clusters, and of what their connections and those of listeners have in common."""

import json
from typing import Any

import pytest

from pymosn.api.network import TcpKeepalive
from pymosn.assembly.clusters import plan_cluster
from pymosn.assembly.share import WorkerShare
from pymosn.config.load import load_text

CLUSTER = "cluster_manager.clusters[0]"
LISTENER = "servers[0].listeners[0]"


def loaded(cluster: dict[str, Any], listener: dict[str, Any], action: dict[str, Any]) -> Any:
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
    routers = [{"match": {"prefix": "/"}, "route": {"cluster_name": "c", **action}}]
    server = {
        "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": routers}]}],
        "listeners": [
            {
                "name": "l",
                "address": "127.0.0.1:2045",
                "bind_port": True,
                "filter_chains": [{"filters": [proxy]}],
                **listener,
            }
        ],
    }
    clusters = [{"name": "c", "hosts": [{"address": "127.0.0.1:2046"}], **cluster}]
    return load_text(json.dumps({"servers": [server], "cluster_manager": {"clusters": clusters}}), "f")


def faults(
    cluster: dict[str, Any] | None = None, listener: dict[str, Any] | None = None, action: dict[str, Any] | None = None
) -> list[tuple[str, str]]:
    return [(fault.severity, fault.path) for fault in loaded(cluster or {}, listener or {}, action or {}).faults]


@pytest.mark.parametrize("name", ["Http1", "Http2", "Auto", "bolt", ""])
def test_names_of_protocols(name: str) -> None:
    assert faults({"upstream_protocol": name}) == []


def test_an_unknown_protocol() -> None:
    assert faults({"upstream_protocol": "Http3"}) == [("error", f"{CLUSTER}.upstream_protocol")]


@pytest.mark.parametrize(("protocol", "is_transcoded"), [("Http2", False), ("dubbo", True)])
@pytest.mark.parametrize("is_in_cluster", [True, False])
def test_only_other_protocols_than_http_are_transcoded(protocol: str, is_transcoded: bool, is_in_cluster: bool) -> None:
    """Their routes have keys without an effect."""
    chosen = {"upstream_protocol": protocol}
    action = {"auto_host_rewrite": True}
    found = faults(chosen, None, action) if is_in_cluster else faults({}, None, {**action, **chosen})
    assert [path.rpartition(".")[2] for _, path in found] == (["auto_host_rewrite"] if is_transcoded else [])


@pytest.mark.parametrize(
    ("block", "key"),
    [({"idle": "0s"}, "idle"), ({"idle": "500ms"}, "idle"), ({"interval": "10h"}, "interval"), ({"probes": 128}, "probes")],
)
def test_tcp_keepalive_out_of_range(block: dict[str, Any], key: str) -> None:
    assert faults({"tcp_keepalive": block}) == [("error", f"{CLUSTER}.tcp_keepalive.{key}")]
    assert faults(None, {"tcp_keepalive": block}) == [("error", f"{LISTENER}.tcp_keepalive.{key}")]


def test_windows_out_of_range() -> None:
    assert faults({"http2": {"initial_stream_window_size": 0}}) == [("error", f"{CLUSTER}.http2.initial_stream_window_size")]
    path = f"{CLUSTER}.http2.initial_connection_window_size"
    assert faults({"http2": {"initial_connection_window_size": 65534}}) == [("error", path)]


def test_the_plan_of_a_cluster() -> None:
    keys = {
        "upstream_protocol": "Http2",
        "max_connection_age": "5m",
        "tcp_keepalive": {"idle": "60s"},
        "keepalive": {"interval": "20s", "timeout": "3s"},
        "http2": {"initial_stream_window_size": 1000},
    }
    config = loaded(keys, {}, {}).config
    assert config is not None
    plan = plan_cluster(config.cluster_manager.clusters[0], WorkerShare(1, 0))
    assert (plan.upstream_protocol, plan.max_connection_age) == ("Http2", 300.0)
    assert plan.keepalive == TcpKeepalive(60, 10, 3)
    assert (plan.heartbeats.pings, plan.heartbeats.timeout) == (20.0, 3.0)
    assert (plan.stream_window, plan.connection_window) == (1000, 1024 * 1024)
    bare = loaded({}, {}, {}).config
    assert bare is not None
    assert plan_cluster(bare.cluster_manager.clusters[0], WorkerShare(1, 0)).heartbeats.pings == 0.0


@pytest.mark.parametrize(
    ("delay", "is_valid"), [("10ms", True), ("250ms", True), ("2s", True), ("9ms", False), ("2001ms", False)]
)
def test_the_delay_between_attempts_has_the_bounds_of_the_rfc(delay: str, is_valid: bool) -> None:
    expected = [] if is_valid else [("error", f"{CLUSTER}.connect_attempt_delay")]
    assert faults({"connect_attempt_delay": delay}) == expected
