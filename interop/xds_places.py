"""Hosts of clusters, as control planes send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interop.xds_groups import Json


def locality(ports: Sequence[int], *, version: str = "", health: str = "", **more: Any) -> Json:
    """Hosts of one locality. `version`: their metadata for subsets. `health`: what the control plane says of them."""
    labels = {"metadata": {"filter_metadata": {"envoy.lb": {"version": version}}}} if version else {}
    return {"lb_endpoints": [host(port, health=health, **labels) for port in ports], **more}


def host(port: int, weight: int = 0, health: str = "", name: str = "", **more: Any) -> Json:
    """One host. `weight`: 0 for none. `name`: its host name."""
    status = {"health_status": health} if health else {}
    weighs = {"load_balancing_weight": weight} if weight else {}
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "hostname": name}
    return {"endpoint": endpoint, **status, **weighs, **more}
