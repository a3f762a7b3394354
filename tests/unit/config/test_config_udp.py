import json
from typing import Any

import pytest

from pymosn.config.load import load_text
from pymosn.config.schema import Listener

UDP = {"type": "udp_proxy", "config": {"cluster": "c"}}
PLACE = "servers[0].listeners[0]"


def faults(cluster: dict[str, Any] | None = None, **listener: Any) -> list[tuple[str, str, str]]:
    """Severity, path and message of each fault of a configuration with one UDP listener."""
    entry = {
        "name": "u",
        "address": "127.0.0.1:2045",
        "bind_port": True,
        "network": "udp",
        "filter_chains": [{"filters": [UDP]}],
        **listener,
    }
    hosts = {"name": "c", "hosts": [{"address": "127.0.0.1:2046"}], **(cluster or {})}
    config = {"servers": [{"listeners": [entry]}], "cluster_manager": {"clusters": [hosts]}}
    return [(fault.severity, fault.path, fault.message) for fault in load_text(json.dumps(config), "f").faults]


@pytest.mark.parametrize(
    "listener",
    [
        {},
        {"network": "UDP"},
        {"reuseport": True},
        {"connection_idle_timeout": "1m"},
        {"filter_chains": [{"tls_context": {}, "filters": [UDP]}]},
        {"filter_chains": [{"filters": [{"type": "udp_proxy", "config": {"cluster": "c", "max_sessions": 9}}]}]},
    ],
)
def test_valid(listener: dict[str, Any]) -> None:
    assert [fault for fault in faults(**listener) if "reuseport" not in fault[1]] == []


@pytest.mark.parametrize(
    ("listener", "path", "text"),
    [
        ({"filter_chains": []}, ".filter_chains", "exactly one"),
        ({"filter_chains": [{"filters": []}]}, ".filter_chains[0].filters", "needs a udp_proxy"),
        (
            {"filter_chains": [{"filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]}]},
            ".filter_chains[0].filters[0].type",
            "can only have udp_proxy",
        ),
        (
            {"filter_chains": [{"tls_context": {"status": True}, "filters": [UDP]}]},
            ".filter_chains[0].tls_context",
            "TLS is not supported",
        ),
        (
            {"filter_chains": [{"match": {"destination_port": 80}, "filters": [UDP]}]},
            ".filter_chains[0].match",
            "cannot be matched",
        ),
        ({"stream_filters": [{"type": "gzip"}]}, ".stream_filters", "need requests"),
        ({"use_original_dst": "redirect"}, ".use_original_dst", "not supported for udp"),
        ({"inspector": True}, ".inspector", "not supported for udp"),
        ({"proxy_protocol": {"trusted_prefixes": ["10.0.0.0/8"]}}, ".proxy_protocol", "do not support"),
        ({"connection_idle_timeout": "0s"}, ".connection_idle_timeout", "nothing else ends a session"),
        ({"mode": "0600"}, ".mode", "unix"),
    ],
)
def test_what_needs_connections_is_rejected(listener: dict[str, Any], path: str, text: str) -> None:
    found = [(where, message) for severity, where, message in faults(**listener) if severity == "error"]
    assert any(where == PLACE + path and text in message for where, message in found), found


@pytest.mark.parametrize(("config", "text"), [({"cluster": "d"}, "unknown cluster"), ({}, "neither a cluster nor routes")])
def test_without_a_cluster(config: dict[str, Any], text: str) -> None:
    """MOSN starts, and so does pymosn."""
    [(severity, path, message)] = faults(filter_chains=[{"filters": [{"type": "udp_proxy", "config": config}]}])
    assert (severity, path) == ("warning", "servers[0].listeners[0].filter_chains[0].filters[0].config.cluster")
    assert message.startswith(text)


@pytest.mark.parametrize(
    ("cluster", "path"),
    [
        ({"hosts": [{"address": "unix:/tmp/s"}]}, "cluster_manager.clusters[0].hosts[0].address"),
        ({"tls_context": {"status": True}}, "cluster_manager.clusters[0].tls_context"),
        ({"type": "ORIGINAL_DST", "hosts": []}, "cluster_manager.clusters[0].type"),
        ({"proxy_protocol": "v2"}, "cluster_manager.clusters[0].proxy_protocol"),
    ],
)
def test_what_hosts_of_datagrams_cannot_have(cluster: dict[str, Any], path: str) -> None:
    assert any(severity == "error" and where == path for severity, where, _ in faults(cluster)), faults(cluster)


@pytest.mark.parametrize(
    ("listener", "settings", "path", "text"),
    [
        ({}, {"connect_timeout": "3s"}, ".filter_chains[0].filters[0].config.connect_timeout", "no effect on datagrams"),
        ({"write_timeout": "3s"}, {}, ".write_timeout", "no effect on datagrams"),
        ({"write_min_rate": 9}, {}, ".write_min_rate", "no effect on datagrams"),
        (
            {},
            {"cluster": "", "routes": [{"cluster": "c", "server_names": ["a.test"]}]},
            ".filter_chains[0].filters[0].config.routes[0].server_names",
            "never matches: datagrams have no TLS server name",
        ),
    ],
)
def test_what_has_no_effect_gets_a_warning(listener: dict[str, Any], settings: dict[str, Any], path: str, text: str) -> None:
    udp = {"type": "udp_proxy", "config": {"cluster": "c", **settings}}
    [(severity, where, message)] = faults(filter_chains=[{"filters": [udp]}], **listener)
    assert (severity, where) == ("warning", PLACE + path)
    assert text in message


def test_sessions_end_earlier_than_connections_by_default() -> None:
    assert (Listener().idle_timeout(), Listener(network="udp").idle_timeout()) == (90.0, 5.0)
    assert Listener(network="udp", connection_idle_timeout=7.0).idle_timeout() == 7.0


def test_a_port_can_have_both_protocols() -> None:
    listeners = [
        {
            "name": network,
            "network": network,
            "address": "127.0.0.1:2045",
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": f"{network}_proxy", "config": {"cluster": "c"}}]}],
        }
        for network in ("tcp", "udp")
    ]
    clusters = [{"name": "c", "hosts": [{"address": "127.0.0.1:2046"}]}]
    config = {"servers": [{"listeners": listeners}], "cluster_manager": {"clusters": clusters}}
    assert load_text(json.dumps(config), "f").faults == []
