"""Envoy as a process that gets its configuration from a control plane."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.system.pymosn_process import eventually, free_ports, get

Json = dict[str, Any]


def bootstrap(xds_port: int, admin_port: int, *, node: Json | None = None, is_delta: bool = False) -> Json:
    """A bootstrap configuration for Envoy and for pymosn: everything comes from an ADS server on the loopback interface."""
    socket = {"socket_address": {"address": "127.0.0.1", "port_value": xds_port}}
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    cluster = {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket}}]}],
        },
    }
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": node or {"id": "test-id", "cluster": "test-cluster"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if is_delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [cluster]},
    }


class Envoy:
    """Envoy with a control plane. A context manager that ends it."""

    def __init__(self, program: str, folder: Path, xds_port: int, **more: Any) -> None:
        """`more`: as for `bootstrap`."""
        folder.mkdir(parents=True, exist_ok=True)
        [self.admin] = free_ports(1)
        path = folder / "envoy.json"
        path.write_text(json.dumps(bootstrap(xds_port, self.admin, **more), indent=1))
        command = [program, "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        self._log = (folder / "envoy.log").open("w+")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def wait(self) -> None:
        """Waits until it serves what it has got."""
        assert eventually(self._is_live), self.output

    def _is_live(self) -> bool:
        try:
            return get(self.admin, "/ready")[0] == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Its log."""
        return Path(self._log.name).read_text()

    def __enter__(self) -> Envoy:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
