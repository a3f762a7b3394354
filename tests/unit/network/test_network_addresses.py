"""Addresses, and the order in which listeners may stop."""

from typing import Any

import msgspec
import pytest

from pymosn.api.network import join_address
from pymosn.assembly.drain_order import drain_order
from pymosn.assembly.routes import clusters_in
from pymosn.config.schema import MosnConfig
from pymosn.core.addresses import host_field, split_address
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[::1]:65535", ("::1", 65535)),
        ("name.example:1", ("name.example", 1)),
        (":80", ("", 80)),
        ("a:0", ("a", 0)),
    ],
)
def test_address(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "why"),
    [
        *[(address, "missing port") for address in ("", "a")],
        *[(f"a:{port}", "the port must be a number") for port in ("", "65536", "x", "-1", "٣", "+1", " 1")],
        ("[]:80", "only allowed around IPv6 addresses"),
        ("[::1:80", "missing ]"),
        ("::1:80", "requires brackets"),
    ],
)
def test_no_address(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split_address(address)


def test_join_address() -> None:
    assert join_address("1.2.3.4", 5) == "1.2.3.4:5"
    assert join_address("::1", 5) == "[::1]:5"
    assert join_address("", 0) == "unix"


def groups(
    listeners: list[tuple[str, str]], clusters: dict[str, list[str]], virtual: tuple[str, ...] = ()
) -> list[list[str]]:
    """`listeners`: address and the cluster to which its router sends everything."""
    config: dict[str, Any] = {
        "servers": [
            {
                "listeners": [
                    {
                        "name": address,
                        "address": address,
                        "network": "unix" if address.startswith("/") else "tcp",
                        "bind_port": address not in virtual,
                        "use_original_dst": "redirect" if virtual and address not in virtual else "",
                        "filter_chains": [{"filters": [{"type": "proxy", "config": {"router_config_name": f"r{place}"}}]}],
                    }
                    for place, (address, _) in enumerate(listeners)
                ],
                "routers": [
                    {
                        "router_config_name": f"r{place}",
                        "virtual_hosts": [
                            {"name": "v", "domains": ["*"], "routers": [{"match": {}, "route": {"cluster_name": cluster}}]}
                        ],
                    }
                    for place, (_, cluster) in enumerate(listeners)
                ],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": host} for host in hosts]}
                for name, hosts in clusters.items()
            ]
        },
    }
    clock = Clock()
    stats = DownstreamStats(Metrics().group("downstream"))
    made = [
        Listener(address, address, RejectAllFactory(stats), stats, ConnectionIds(), clock, TimerWheel(clock))
        for address, _ in listeners
    ]
    checked = msgspec.convert(config, MosnConfig)
    reach = {name: clusters_in(table) for name, table in checked.servers[0].router_tables().items()}
    order = drain_order(checked, made, reach)
    return [[listener.name for listener in group] for group in order]


@pytest.mark.parametrize(
    ("listeners", "clusters", "expected"),
    [
        # MOSN's example: the first hop sends to the second, in any order
        (
            [("0.0.0.0:2045", "next"), ("0.0.0.0:2046", "app")],
            {"next": ["127.0.0.1:2046"], "app": ["127.0.0.1:8080"]},
            [["0.0.0.0:2045"], ["0.0.0.0:2046"]],
        ),
        (
            [("0.0.0.0:2046", "app"), ("0.0.0.0:2045", "next")],
            {"next": ["127.0.0.1:2046"], "app": ["127.0.0.1:8080"]},
            [["0.0.0.0:2045"], ["0.0.0.0:2046"]],
        ),
        # a chain of three
        (
            [("127.0.0.1:3", "app"), ("127.0.0.1:2", "three"), ("127.0.0.1:1", "two")],
            {"two": ["localhost:2"], "three": ["127.0.0.1:3"], "app": ["10.0.0.1:3"]},
            [["127.0.0.1:1"], ["127.0.0.1:2"], ["127.0.0.1:3"]],
        ),
        # a circle
        (
            [("127.0.0.1:1", "two"), ("127.0.0.1:2", "one")],
            {"one": ["127.0.0.1:1"], "two": ["127.0.0.1:2"]},
            [["127.0.0.1:1", "127.0.0.1:2"]],
        ),
        # to itself, and to the same port elsewhere
        (
            [("127.0.0.1:1", "me"), ("127.0.0.1:2", "far")],
            {"me": ["127.0.0.1:1"], "far": ["10.0.0.9:1"]},
            [["127.0.0.1:1", "127.0.0.1:2"]],
        ),
        ([("127.0.0.1:1", "nobody")], {}, [["127.0.0.1:1"]]),
        # addresses that are written otherwise
        (
            [("127.0.0.1:0003", "app"), ("[::1]:2", "three"), ("0.0.0.0:01", "two")],
            {"two": ["[0:0::1]:02"], "three": ["[::ffff:127.0.0.1]:3"], "app": ["10.0.0.1:3"]},
            [["0.0.0.0:01"], ["[::1]:2"], ["127.0.0.1:0003"]],
        ),
        ([("LocalHost:2", "app"), ("a.test:1", "next")], {"next": ["127.0.0.1:2"]}, [["a.test:1"], ["LocalHost:2"]]),
        # over a unix socket
        (
            [("/run/b", "app"), ("/run/a", "next")],
            {"next": ["unix:/run/b"], "app": ["unix:/run/app", "/run/a:80"]},
            [["/run/a"], ["/run/b"]],
        ),
    ],
)
def test_drain_order(listeners: list[tuple[str, str]], clusters: dict[str, list[str]], expected: list[list[str]]) -> None:
    assert groups(listeners, clusters) == expected


def test_a_listener_that_is_handed_connections_drains_after_the_one_that_accepts() -> None:
    listeners = [("10.0.0.1:80", "app"), ("0.0.0.0:15001", "app")]
    assert groups(listeners, {}, virtual=("10.0.0.1:80",)) == [["0.0.0.0:15001"], ["10.0.0.1:80"]]


@pytest.mark.parametrize(
    ("address", "field"),
    [("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:80", "[::1]:80"), ("unix:/run/a", "localhost")],
)
def test_the_default_host_field(address: str, field: str) -> None:
    assert host_field(address) == field
