"""`tcp_proxy` in a configuration: what is checked, what is built of it, and in which order such listeners stop."""

import json
from typing import Any

import pytest
from tests.kit.tls_facts import tls_info

from pymosn.api.network import Connection
from pymosn.assembly.drain_order import drain_order
from pymosn.assembly.tcp import tcp_options
from pymosn.config.load import load_text
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import MosnConfig
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory

FILTERS = "servers[0].listeners[0].filter_chains[0].filters"
STATS = DownstreamStats(Metrics().group("downstream"))
RANGE = [{"address": "10.0.0.0", "length": 8}]
ROUTE = {
    "cluster": "c",
    "SourceAddrs": RANGE,
    "DestinationAddrs": [{"address": "::", "length": 0}, {"address": "0.0.0.0", "length": 0}],
    "SourcePort": "1-65535",
    "DestinationPort": "80, 100-200",
}

#: A route by server name needs nothing else.
NAMED = {"server_names": ["A.example.", "*.b.example"], "weighted_clusters": [{"name": "c", "weight": 2}]}


def tcp(**config: Any) -> dict[str, Any]:
    return {"type": "tcp_proxy", "config": config}


TCP = tcp(cluster="c")


def proxy(fallback: bool, protocols: str = "Auto") -> dict[str, Any]:
    config = {
        "downstream_protocol": protocols,
        "router_config_name": "r",
        "fallback_for_unknown_protocol": fallback,
    }
    return {"type": "proxy", "config": config}


def loaded(filters: list[dict[str, Any]], **listener: Any) -> tuple[MosnConfig | None, list[tuple[str, str, str]]]:
    """The configuration, and the severity, path and text of each fault."""
    config = {
        "servers": [
            {
                "routers": [{"router_config_name": "r", "virtual_hosts": []}],
                "listeners": [
                    {
                        "name": "l",
                        "address": "127.0.0.1:2045",
                        "bind_port": True,
                        "filter_chains": [{"filters": filters}],
                        **listener,
                    }
                ],
            }
        ],
        "cluster_manager": {"clusters": [{"name": "c", "hosts": [{"address": "127.0.0.1:2046"}]}]},
    }
    found = load_text(json.dumps(config), "f")
    return found.config, [(fault.severity, fault.path.removeprefix(FILTERS), fault.message) for fault in found.faults]


def of(*filters: dict[str, Any]) -> list[tuple[str, str, str]]:
    return loaded(list(filters))[1]


@pytest.mark.parametrize(
    "filters",
    [
        [TCP],
        [{"type": "tcp_proxy", "config": {"cluster": "c", "routes": [{"cluster": "c"}]}}],  # MOSN's own sample
        [{"type": "tcp_proxy", "config": {"routes": [ROUTE], "max_connect_attempts": 2, "idle_timeout": 60000000000}}],
        [tcp(weighted_clusters=[{"name": "c", "weight": 1}])],
        [tcp(routes=[NAMED], connect_timeout="3s")],
        [proxy(True), TCP],
        [proxy(True, "Http1,bolt"), TCP],
    ],
)
def test_valid_settings(filters: list[dict[str, Any]]) -> None:
    assert of(*filters) == []


@pytest.mark.parametrize(
    ("filters", "severity", "path", "text"),
    [
        ([{"type": "tcp_proxy"}], "warning", "[0].config.cluster", "neither a cluster nor routes"),
        ([tcp(cluster="d")], "warning", "[0].config.cluster", "unknown cluster"),
        (
            [tcp(routes=[{**ROUTE, "cluster": ""}])],
            "warning",
            "[0].config.routes[0].cluster",
            "missing",
        ),
        (
            [tcp(routes=[{"cluster": "c", "sourceaddrs": RANGE}])],
            "warning",
            "[0].config.routes[0]",
            "never matches without sourceport and destinationaddrs and destinationport",
        ),
        (
            [tcp(routes=[{**ROUTE, "SourcePort": "80-"}])],
            "error",
            "[0].config.routes[0].sourceport",
            "is not a port",
        ),
        (
            [tcp(routes=[{**ROUTE, "DestinationPort": "9-8"}])],
            "error",
            "[0].config.routes[0].destinationport",
            "ends before it begins",
        ),
        (
            [
                {
                    "type": "tcp_proxy",
                    "config": {"routes": [{**ROUTE, "SourceAddrs": [{"address": "10.0.0.0", "length": 33}]}]},
                }
            ],
            "error",
            "[0].config.routes[0].sourceaddrs[0].address",
            "33",
        ),
        (
            [tcp(weighted_clusters=[{"name": "c"}, {"name": "d"}])],
            "warning",
            "[0].config.weighted_clusters[1].name",
            "unknown",
        ),
        ([tcp(weighted_clusters=[{"name": "c", "weight": 0}])], "error", "[0].config.weighted_clusters[0].weight", "1"),
        ([tcp(cluster="c", weighted_clusters=[{"name": "c"}])], "warning", "[0].config.weighted_clusters", "no effect"),
        (
            [tcp(routes=[{**NAMED, "server_names": ["a*.b"]}])],
            "error",
            "[0].config.routes[0].server_names[0]",
            "not a server",
        ),
        ([tcp(routes=[{**NAMED, "server_names": ["*"]}])], "error", "[0].config.routes[0].server_names[0]", "not a"),
        ([tcp(routes=[{**NAMED, "server_names": [""]}])], "error", "[0].config.routes[0].server_names[0]", "not a"),
        ([proxy(False), TCP], "warning", "[1]", "the proxy before it takes all bytes"),
        ([TCP, proxy(True)], "warning", "[1]", "the tcp_proxy before it takes all bytes"),
        ([proxy(True), TCP, TCP], "warning", "[2]", "only the first tcp_proxy after the proxy is used"),
        ([proxy(True)], "warning", "[0].config.fallback_for_unknown_protocol", "no tcp_proxy follows the proxy filter"),
        (
            [proxy(True, "bolt"), TCP],
            "warning",
            "[0].config.fallback_for_unknown_protocol",
            "with bolt alone",
        ),
        ([{"type": "udp_proxy", "config": {"cluster": "c"}}], "error", "[0].type", "needs a listener with `network` udp"),
    ],
)
def test_invalid_settings(filters: list[dict[str, Any]], severity: str, path: str, text: str) -> None:
    [fault] = of(*filters)
    assert fault[:2] == (severity, path)
    assert text in fault[2]


def test_stream_filters_see_no_bytes() -> None:
    _, faults = loaded([TCP], stream_filters=[{"type": "ip_access", "config": {"default_action": "allow"}}])
    [(severity, path, text)] = faults
    assert (severity, path) == ("warning", "servers[0].listeners[0].stream_filters")
    assert "tcp_proxy has no requests" in text


def connection(source: str, target: str) -> Connection:
    made = Connection()
    (made.remote_ip, remote), (made.local_ip, local) = (address.rsplit("/", 1) for address in (source, target))
    made.remote_port, made.local_port = int(remote), int(local)
    return made


def listener_of(config: MosnConfig | None) -> ListenerConfig:
    assert config is not None
    return config.servers[0].listeners[0]


def test_the_objects_that_are_built() -> None:
    settings = {"routes": [ROUTE], "max_connect_attempts": 2, "idle_timeout": 1_500_000_000}
    config = listener_of(loaded([{"type": "tcp_proxy", "config": settings}], connection_idle_timeout="30s")[0])
    (acting,) = config.acting_filters()
    assert acting.proxy is None
    assert acting.tcp is not None
    options = tcp_options("l", config, acting.tcp, STATS, [])
    assert (options.idle_timeout, options.connect_attempts, options.target.clusters) == (1.5, 2, [])
    for target, cluster in {"::1/80": "c", "1.2.3.4/150": "c", "1.2.3.4/99": "", "1.2.3.4/201": "", "/80": ""}.items():
        assert options.cluster_for(connection("10.9.9.9/4000", target)) == cluster
    assert options.cluster_for(connection("11.0.0.1/4000", "::1/80")) == ""
    assert options.cluster_for(connection("10.9.9.9/0", "::1/80")) == ""
    redirected = connection("10.9.9.9/4000", "1.2.3.4/9")
    redirected.original_destination = "[2001:db8::1]:80"
    assert options.cluster_for(redirected) == "c"
    plain = tcp_options("l", config, type(acting.tcp)(cluster="c"), STATS, [])
    assert (plain.idle_timeout, plain.cluster_for(redirected)) == (30.0, "c")


def test_routes_by_server_name_are_built() -> None:
    routes = [{**NAMED, "sourceport": "4000"}, {**NAMED, "sourceaddrs": RANGE, "destinationport": "80"}]
    config = listener_of(loaded([tcp(routes=routes, connect_timeout="3s")])[0])
    [acting] = config.acting_filters()
    assert acting.tcp is not None
    options = tcp_options("l", config, acting.tcp, STATS, [])
    assert options.connect_timeout == 3.0
    for source, target, name, cluster in [
        ("11.0.0.1/4000", "::1/9", "a.example", "c"),
        ("2001:db8::1/4000", "::1/9", "x.b.example", "c"),
        ("11.0.0.1/4000", "::1/9", "c.example", ""),
        ("11.0.0.1/4001", "::1/80", "a.example", ""),
        ("10.0.0.1/4001", "::1/80", "a.example", "c"),
        ("10.0.0.1/4001", "::1/81", "a.example", ""),
    ]:
        made = connection(source, target)
        made.tls = tls_info(server_name=name)
        assert options.cluster_for(made) == cluster, (source, target, name)


def test_a_listener_that_others_reach_through_it_stops_last() -> None:
    config, _ = loaded([TCP])
    assert config is not None
    behind = ListenerConfig(name="b", address="127.0.0.1:2046", bind_port=True)
    config.servers[0].listeners.insert(0, behind)
    clock = Clock()
    listeners = [
        Listener(one.name, one.address, RejectAllFactory(STATS), STATS, ConnectionIds(), clock, TimerWheel(clock))
        for one in config.servers[0].listeners
    ]
    assert [[one.name for one in group] for group in drain_order(config, listeners, {})] == [["l"], ["b"]]


@pytest.mark.parametrize("key", ["max_sessions", "max_sessions_per_client", "max_reply_ratio"])
def test_settings_of_datagrams_have_no_effect(key: str) -> None:
    [(severity, path, text)] = loaded([{"type": "tcp_proxy", "config": {"cluster": "c", key: 3}}])[1]
    assert (severity, path.rpartition(".")[2]) == ("warning", key)
    assert "only udp_proxy has sessions" in text
