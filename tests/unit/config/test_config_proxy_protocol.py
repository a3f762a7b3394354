"""The PROXY protocol in a configuration: what is checked, and what is built of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_config_tcp import TCP, loaded

from pymosn.api.network import MORE_BYTES, Accepted, Connection
from pymosn.assembly.proxy_protocol import proxy_protocol_steps
from pymosn.config.load import load_text
from pymosn.network.proxy_protocol import ProxyProtocol

PATH = "servers[0].listeners[0].proxy_protocol"


def faults(block: dict[str, Any], **listener: Any) -> list[tuple[str, str, str]]:
    return loaded([TCP], proxy_protocol=block, **listener)[1]


def test_a_listener_without_trusted_networks_is_refused() -> None:
    problem = "must name the networks of the load balancers: anybody else could claim any address"
    assert faults({}) == [("error", f"{PATH}.trusted_prefixes", problem)]
    assert faults({"trusted_prefixes": []}) == [("error", f"{PATH}.trusted_prefixes", problem)]


@pytest.mark.parametrize("prefix", ["10.0.0.0/33", "10.0.0/8", "", "any", "10.0.0.0/8 ", "::/129"])
def test_invalid_networks_are_reported(prefix: str) -> None:
    [(severity, path, text)] = faults({"trusted_prefixes": ["10.0.0.0/8", prefix]})
    assert (severity, path) == ("error", f"{PATH}.trusted_prefixes[1]")
    assert text.startswith("not a network: expected an IP address and the length of its prefix")


def test_networks_of_a_unix_listener_have_no_effect() -> None:
    block = {"trusted_prefixes": ["10.0.0.0/8"]}
    [(severity, path, text)] = faults(block, network="unix", address="/tmp/pymosn-proxy-protocol.sock")
    assert (severity, path) == ("warning", f"{PATH}.trusted_prefixes")
    assert "peers on a unix socket have no address, and all are trusted" in text
    assert faults({}, network="unix", address="/tmp/pymosn-proxy-protocol.sock") == []


def test_what_is_built() -> None:
    config, found = loaded([TCP], proxy_protocol={"trusted_prefixes": ["10.0.0.1/8", "::1"], "timeout": "2s"})
    assert (config is not None, found) == (True, [])
    assert config is not None
    [step] = proxy_protocol_steps(config.servers[0].listeners[0])
    assert isinstance(step, ProxyProtocol)
    mapped, _ = loaded([TCP], proxy_protocol={"trusted_prefixes": ["::ffff:10.0.0.1/104"]})
    assert mapped is not None
    [step] = proxy_protocol_steps(mapped.servers[0].listeners[0])
    accepted = Accepted(Connection())
    accepted.connection.remote_ip = "10.0.0.9"
    assert step.on_first_bytes(accepted, b"") == MORE_BYTES  # a connection has its mapped address as IPv4
    plain, _ = loaded([TCP])
    assert plain is not None
    assert proxy_protocol_steps(plain.servers[0].listeners[0]) == []


# ---- clusters


def routed(protocol: str, action: dict[str, Any]) -> list[tuple[str, str, str]]:
    proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": "r"}}
    routers = [{"match": {"prefix": "/"}, "route": action}]
    config = {
        "servers": [
            {
                "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": routers}]}],
                "listeners": [
                    {"name": "l", "address": "127.0.0.1:2045", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}
                ],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": "c", "proxy_protocol": "v2", "hosts": [{"address": "127.0.0.1:2046"}]},
                {"name": "d", "hosts": [{"address": "127.0.0.1:2046"}]},
            ]
        },
    }
    return [(fault.severity, fault.path, fault.message) for fault in load_text(json.dumps(config), "f").faults]


ROUTE = "servers[0].routers[0].virtual_hosts[0].routers[0].route"


def test_protocols_that_share_connections_cannot_use_it() -> None:
    problem = (
        "cluster 'c' has proxy_protocol, which bolt does not support: its connections carry requests of several clients"
    )
    assert routed("bolt", {"cluster_name": "c"}) == [("error", ROUTE, problem)]
    weighted = {"weighted_clusters": [{"cluster": {"name": "d", "weight": 50}}, {"cluster": {"name": "c", "weight": 50}}]}
    assert routed("bolt", weighted) == [("error", ROUTE, problem)]
    [(severity, path, text)] = routed("Auto", {"cluster_name": "c"})
    assert (severity, path) == ("warning", ROUTE)
    assert "requests of other protocols than Http1 are answered with 502" in text
    assert routed("Http1", {"cluster_name": "c"}) == []
    assert routed("bolt", {"cluster_name": "d"}) == []
    assert [fault[0] for fault in routed("Http1", {"cluster_name": "c", "upstream_protocol": "bolt"})] == ["error"]
    assert [fault[0] for fault in routed("Http2", {"cluster_name": "c"})] == ["error"]
    assert routed("Http2", {"cluster_name": "c", "upstream_protocol": "Http1"}) == []


def test_only_the_two_versions_exist() -> None:
    cluster = {"name": "c", "proxy_protocol": "v3", "hosts": [{"address": "127.0.0.1:2046"}]}
    text = json.dumps({"cluster_manager": {"clusters": [cluster]}})
    assert any("proxy_protocol" in fault.path for fault in load_text(text, "f").faults)
