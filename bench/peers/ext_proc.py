"""Envoy with filters in a separate Python process, which is how Envoy supports Python today."""

import importlib.util
import sys
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from bench.cases import Case
from bench.install import pip_install
from bench.machine import free_port
from bench.peers.base import Plan, Running
from bench.peers.envoy import Envoy, cluster, configuration
from bench.processes import Processes

FILTER = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
CLUSTER = "ext_proc"


class EnvoyExtProc(Envoy):
    """Envoy and a gRPC server on `grpcio.aio` that is called for the headers of each message. Both count as workers."""

    name = "envoy-ext-proc"

    def __init__(self) -> None:
        super().__init__()
        for module, package in (("grpc", "grpcio"), ("envoy.service.ext_proc", "xds-protos")):
            if not _is_installed(module):
                pip_install(package)
        self._ports: dict[int, int] = {}

    def version(self) -> str:
        return f"{super().version()}, grpcio {version('grpcio')}"

    def takes(self, case: Case) -> bool:
        return super().takes(case) and case.filters > 0

    def configuration(self, plan: Plan) -> dict[str, Any]:
        document = configuration(plan, [_filter(k) for k in plan.filter_numbers])
        document["static_resources"]["clusters"].append(cluster(CLUSTER, self._ports[plan.port], is_http2=True))
        return document

    def start(self, plan: Plan, processes: Processes, core: int) -> Running:
        port = self._ports[plan.port] = free_port()
        name = f"{plan.directory.name}-server"
        server = processes.start(name, [sys.executable, "-m", "bench.ext_proc", str(port)], core)
        processes.wait_for_port(name, server, port)
        running = super().start(plan, processes, core)
        return replace(running, workers=[*running.workers, server.pid])


def _filter(number: int) -> dict[str, Any]:
    service = {
        "envoy_grpc": {"cluster_name": CLUSTER},
        "initial_metadata": [{"key": "number", "value": str(number)}],
    }
    modes = {"request_header_mode": "SEND", "response_header_mode": "SEND"}
    return {
        "name": f"header-filter-{number}",
        "typed_config": {"@type": FILTER, "grpc_service": service, "processing_mode": modes, "message_timeout": "5s"},
    }


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
