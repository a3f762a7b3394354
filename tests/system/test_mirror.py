"""Mirroring on the real program, with configurations of the shape of MOSN's samples for its `mirror` filter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, eventually, free_ports, get
from recorder import Recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder(["http1", "mirror1", "mirror2"])
    yield made
    made.close()


def configuration(recorder: Recorder, port: int, admin: int, mirror: dict[str, Any]) -> dict[str, Any]:
    proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "8080"}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_name": "http1"},
        "request_mirror_policies": {"cluster": "http1_mirror", "percent": 100},
    }
    hosts = {name: {"address": f"127.0.0.1:{recorder.ports[name]}"} for name in recorder.ports}
    listener = {
        "name": "http1",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "filter_chains": [{"tls_context": {}, "filters": [{"type": "proxy", "config": proxy}]}],
        "stream_filters": [{"type": "mirror", "config": mirror}],
    }
    virtual_host = {"name": "http1", "domains": ["*"], "routers": [route]}
    clusters = [
        {"Name": "http1", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [hosts["http1"]]},
        {
            "Name": "http1_mirror",
            "type": "SIMPLE",
            "lb_type": "LB_REQUEST_ROUNDROBIN",
            "hosts": [hosts["mirror1"], hosts["mirror2"]],
        },
    ]
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "listeners": [listener],
                "routers": [{"router_config_name": "8080", "virtual_hosts": [virtual_host]}],
            }
        ],
        "cluster_manager": {"clusters": clusters},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }


def counted(admin: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in get(admin, "/metrics")[1].splitlines():
        match = re.fullmatch(r'pymosn_upstream_mirrored_requests_total\{.*result="(\w+)"\} (.*)', line)
        if match is not None:
            found[match[1]] = found.get(match[1], 0) + round(float(match[2]))
    return found


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ({"amplification": 10}, {"http1": 1, "mirror1": 5, "mirror2": 5}),
        ({"amplification": 10, "broadcast": True}, {"mirror1": 1, "mirror2": 1}),
    ],
    ids=["amplification", "broadcast"],
)
def test_copies_arrive(start: Start, recorder: Recorder, mirror: dict[str, Any], expected: dict[str, int]) -> None:
    port, admin = free_ports(2)
    start(configuration(recorder, port, admin, mirror), "--workers", "1").wait_for(READY)
    assert get(port, "/x") == (200, "" if mirror.get("broadcast") else "ok")
    copies = sum(count for name, count in expected.items() if name != "http1")
    assert eventually(lambda: len(recorder.arrived) == sum(expected.values()))
    assert eventually(lambda: counted(admin).get("sent") == copies)
    arrived = recorder.take()
    assert {name: [cluster for cluster, _ in arrived].count(name) for name in expected} == expected
    # All of one request: the same line, the same Host, the same id.
    assert len({head for _, head in arrived}) == 1
    assert arrived[0][1].startswith(b"GET /x HTTP/1.1\r\n")
    assert f"127.0.0.1:{port}".encode() in arrived[0][1]
    assert counted(admin)["failed"] == counted(admin)["dropped"] == 0
