"""MOSN's samples with TPROXY, in network namespaces: what others send is diverted, or what the machine sends."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from typing import Any

from mosn_sample_configs import tproxy
from mosn_sample_running import World
from namespaces import CLIENT, PROXY, V4, Namespaces
from plain_sockets import PATIENCE
from tests.golden.mosn_table import Row

_LISTENER = 16000
_TARGET = f"TPROXY --on-port {_LISTENER} --tproxy-mark 1"


def _divert(net: Namespaces, is_egress: bool, ports: list[int]) -> None:
    """Adds the rules of the sample's scripts, and removes those of another."""
    net.run(PROXY, "iptables -t mangle -F")
    rules = [f"PREROUTING -i to_client -p tcp --dport {port} -j {_TARGET}" for port in ports]
    if is_egress:
        marks = [f"OUTPUT -p tcp --dport {port} -j MARK --set-mark 1" for port in ports]
        rules = [f"PREROUTING -p tcp -m mark --mark 1 -j {_TARGET}", "OUTPUT -p tcp -o lo -j ACCEPT", *marks]
    for rule in rules:
        net.run(PROXY, f"iptables -t mangle -A {rule}")


def _dial(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection(V4, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return {"status": response.status, "body": response.read().decode()}
    finally:
        connection.close()


def dialed(world: World, net: Namespaces, rows: Iterable[Row]) -> dict[str, list[Any]]:
    """What clients get that dial ports of the origin, which has no servers, by sample. `world`: in the proxy's namespace."""
    net.route_to_origin()
    net.run(PROXY, "ip rule add fwmark 1 lookup 100")
    net.run(PROXY, "ip route add local default dev lo table 100")
    config = tproxy(world.places)
    world.launch("tproxy", config)
    world.wait(config)
    found = {}
    for row in rows:
        is_egress = "egress" in row.case
        ports = [step["dial"] for step in row.given["send"]]
        _divert(net, is_egress, ports)
        client = PROXY if is_egress else CLIENT
        found[row.case] = [net.call(client, lambda port=port: _dial(port)) for port in ports]
    return found
