"""Which host an explanation names, by the health of now."""

from typing import Any

import msgspec
import pytest

from pymosn.api.upstream import NO_CONSTRAINTS, Selection
from pymosn.config.schema import Cluster, TlsContext
from pymosn.control.explain_hosts import choose_host
from pymosn.control.plane import ClusterView, HostView
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS

ADDRESSES = ("10.0.0.1:80", "10.0.0.2:80")


def cluster(**keys: object) -> Cluster:
    hosts = [{"address": address} for address in ADDRESSES]
    return msgspec.convert({"name": "c", "hosts": hosts, **keys}, Cluster)


def state(address: str, health: str, ejected: int = 0) -> HostView:
    return {
        "address": address,
        "hostname": "",
        "weight": 1,
        "health": health,
        "failed_active_check": 0,
        "ejected": ejected,
        "why": "",
        "requests_active": 0,
        "requests_total": 0,
        "connections_active": 0,
    }


def live(*hosts: HostView) -> dict[str, ClusterView]:
    return {"c": {"name": "c", "workers": 2, "type": "SIMPLE", "lb_type": "", "hosts": list(hosts)}}


def destined(address: str) -> Selection:
    selection = Selection()
    selection.destination = address
    return selection


@pytest.mark.parametrize(
    ("states", "keys", "address"),
    [
        ([("healthy", 0), ("healthy", 0)], {}, ADDRESSES[0]),
        ([("failed_active_check", 0), ("healthy", 0)], {}, ADDRESSES[1]),
        ([("ejected", 2), ("unchecked", 0)], {}, ADDRESSES[1]),
        ([("ejected", 1), ("unchecked", 0)], {}, ADDRESSES[0]),
        ([("failed_active_check", 0), ("ejected", 2)], {}, ""),
        ([("failed_active_check", 0), ("ejected", 2)], {"panic_threshold": 50}, ADDRESSES[0]),
    ],
)
def test_the_health_of_now_counts(states: list[tuple[str, int]], keys: dict[str, Any], address: str) -> None:
    views = [state(host, *found) for host, found in zip(ADDRESSES, states, strict=True)]
    choice = choose_host(cluster(**keys), NO_CONSTRAINTS, live(*views))
    assert choice.address == address
    assert choice.failure is (None if address else ALL_UNHEALTHY)
    assert len(choice.hosts) == 2
    assert all("health" in host for host in choice.hosts)


def test_without_live_health_every_host_counts_as_healthy() -> None:
    choice = choose_host(cluster(), NO_CONSTRAINTS, None)
    assert choice.address == ADDRESSES[0]
    assert all("health" not in host for host in choice.hosts)
    assert choose_host(cluster(hosts=[]), NO_CONSTRAINTS, None).failure is NO_HOSTS


def test_where_a_client_wants_to_go() -> None:
    original = cluster(type="ORIGINAL_DST", hosts=[], original_dst_lb_config={"use_header": True, "header_name": "X-To"})
    choice = choose_host(original, destined("10.9.9.9:81"), live(state("10.1.1.1:80", "unchecked")))
    assert (choice.address, choice.failure) == ("10.9.9.9:81", None)
    assert [host["address"] for host in choice.hosts] == ["10.1.1.1:80"]
    assert choose_host(original, destined(""), None).failure is NO_HOSTS


@pytest.mark.parametrize(
    ("context", "host", "text"),
    [
        (None, {}, "no TLS"),
        ({"status": False}, {}, "no TLS"),
        ({"status": True}, {"tls_disable": True}, "no TLS (tls_disable)"),
        ({"status": True}, {}, "TLS, name 10.0.0.1, verified with the system's CAs"),
        ({"status": True, "ca_cert": "ca.pem"}, {"hostname": "a.test"}, "TLS, name a.test, verified with ca_cert"),
        (
            {"status": True, "server_name": "b.test"},
            {"hostname": "a.test"},
            "TLS, name b.test, verified with the system's CAs",
        ),
        ({"status": True, "insecure_skip": True}, {}, "TLS, name 10.0.0.1, not verified (insecure_skip)"),
    ],
)
def test_how_hosts_are_secured(context: dict[str, Any] | None, host: dict[str, Any], text: str) -> None:
    found = cluster(hosts=[{"address": "10.0.0.1:80", **host}])
    made = None if context is None else msgspec.convert(context, TlsContext)
    assert choose_host(found, NO_CONSTRAINTS, None, made).hosts[0]["tls"] == text


def test_priorities_and_reports_of_the_control_plane_count() -> None:
    hosts = [
        {"address": "10.0.0.1:80", "priority": 1},
        {"address": "10.0.0.2:80", "health": "draining"},
        {"address": "10.0.0.3:80"},
    ]
    choice = choose_host(cluster(hosts=hosts), NO_CONSTRAINTS, None)
    assert choice.address == "10.0.0.3:80"
    assert choice.hosts[1]["reported"] == "draining"
    choice = choose_host(cluster(hosts=hosts[:2]), NO_CONSTRAINTS, None)
    assert choice.address == "10.0.0.1:80"
