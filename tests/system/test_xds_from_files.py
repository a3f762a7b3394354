"""Resources from files (`path_config_source`), without a control plane: all types, changes, and what is rejected."""

from __future__ import annotations

import json
import os
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, eventually, free_ports, get
from tests.kit import certificates
from xds_peers import port_of, view

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

TYPE = "type.googleapis.com/envoy."
MANAGER = f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "router", "typed_config": {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"}}


def source(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path), "watched_directory": {"path": str(path.parent)}}}


def write(path: Path, *resources: dict[str, Any]) -> None:
    """Replaces a file, as a mount of a ConfigMap does."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"resources": list(resources)}))
    os.replace(new, path)


def hosts(port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"@type": f"{TYPE}config.endpoint.v3.ClusterLoadAssignment", "cluster_name": "c", "endpoints": ends}


def table(**action: Any) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, **action}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    return {"@type": f"{TYPE}config.route.v3.RouteConfiguration", "name": "r", "virtual_hosts": hosts}


def listens(name: str, port: int, rds: Path, **chain: Any) -> dict[str, Any]:
    routes = {"route_config_name": "r", "config_source": source(rds)}
    manager = {"@type": MANAGER, "stat_prefix": "x", "rds": routes, "http_filters": [ROUTER]}
    return {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}], **chain}],
    }


def test_everything_comes_from_files(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    admin, port, other, third = free_ports(4)
    folder = tmp_path / "xds"
    folder.mkdir()
    cds, lds, rds, endpoints = (folder / f"{name}.json" for name in ("cds", "lds", "rds", "eds"))
    cluster = {
        "@type": f"{TYPE}config.cluster.v3.Cluster",
        "name": "c",
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": source(endpoints)},
    }
    write(cds, cluster)
    write(lds, listens("l", port, rds))
    write(rds, table(route={"cluster": "c"}))
    write(endpoints, hosts(port_of(upstream)))
    config = {
        "dynamic_resources": {"cds_config": source(cds), "lds_config": source(lds)},
        "static_resources": {},
        "node": {"id": "n", "cluster": "c"},
        "admin": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}},
            "allowed_folders": [str(folder)],
        },
    }
    start(config).wait_for(READY)
    assert eventually(lambda: status(port) == 200)
    write(rds, table(direct_response={"status": 418}))
    assert eventually(lambda: status(port) == 418)
    write(rds, {**table(direct_response={"status": 200}), "virtual_hosts": [{"name": "x", "domains": []}]})
    assert eventually(lambda: "domains" in view(admin)["types"]["rds"]["rejected"].get("r", ""))
    assert status(port) == 418
    write(lds, listens("l", port, rds), listens("m", other, rds))
    assert eventually(lambda: status(other) == 418)
    more = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": third}}}
    write(lds, {**listens("l", port, rds), "additional_addresses": [more]}, listens("m", other, rds))
    assert eventually(lambda: status(third) == 418)
    outside = listens("n", other, Path("/etc/hostname"))
    write(lds, listens("l", port, rds), outside)
    assert eventually(lambda: status(third) == 0)
    assert eventually(lambda: "/etc/hostname: " in view(admin)["types"]["lds"]["rejected"].get("n", ""))
    states = {client["name"]: client["state"] for client in view(admin)["clients"]}
    assert states[f"cds from {cds}"] == states[f"rds from {rds}"] == "connected"


def test_secrets_come_from_a_file(start: Start, tmp_path: Path) -> None:
    admin, port = free_ports(2)
    folder = tmp_path / "xds"
    folder.mkdir()
    lds, rds, sds = (folder / f"{name}.json" for name in ("lds", "rds", "sds"))
    issued = certificates.server()
    secret = {
        "@type": f"{TYPE}extensions.transport_sockets.tls.v3.Secret",
        "name": "pair",
        "tls_certificate": {
            "certificate_chain": {"inline_string": issued.certificate.decode()},
            "private_key": {"inline_string": issued.key.decode()},
        },
    }
    common = {"tls_certificate_sds_secret_configs": [{"name": "pair", "sds_config": source(sds)}]}
    context = {
        "@type": f"{TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    }
    write(sds, secret)
    write(rds, table(direct_response={"status": 418}))
    write(lds, listens("l", port, rds, transport_socket={"name": "tls", "typed_config": context}))
    config = {
        "dynamic_resources": {"lds_config": source(lds)},
        "static_resources": {},
        "node": {"id": "n", "cluster": "c"},
        "admin": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}},
            "allowed_folders": [str(folder)],
        },
    }
    start(config).wait_for(READY)
    assert eventually(lambda: view(admin)["types"]["lds"]["resources"] and not view(admin)["missing_secrets"])
    assert eventually(lambda: status_over_tls(port) == 418)


def status(port: int) -> int:
    """The status of a response; 0 if there is none."""
    try:
        return get(port, "/")[0]
    except OSError:
        return 0


def status_over_tls(port: int) -> int:
    """The same over TLS."""
    connection = HTTPSConnection("localhost", port, timeout=5, context=certificates.client_context())
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
