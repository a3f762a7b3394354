"""Filters of Istio's telemetry in one worker, with nodes, clusters and exchanges as a mesh has them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection
from pymosn.api.record import RouteInfo
from pymosn.api.stream_filter import ClusterClient, FilterContext, StreamFilter
from pymosn.api.upstream import ServiceFacts
from pymosn.core.counters import GroupData, Metrics
from pymosn.core.log import Log

CLUSTER: Final = "outbound|80||echo.default.svc.cluster.local"
HOST: Final = "10.0.0.2:80"


def node(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    """The node of a workload `name`, version 1."""
    labels = {"app": name, "version": "v1", "service.istio.io/canonical-name": name, "role": "r"}
    labels["service.istio.io/canonical-revision"] = "v1"
    owner = f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    metadata = {"WORKLOAD_NAME": name, "NAMESPACE": namespace, "CLUSTER_ID": "c1", "NAME": f"{name}-0", "OWNER": owner}
    return {"id": f"sidecar~10.0.0.1~{name}-0.{namespace}~x", "metadata": {**metadata, "LABELS": labels, **more}}


class FakeCluster(ClusterClient):
    """A cluster that is a service, with hosts of a workload."""

    def __init__(self, service: ServiceFacts | None, workload: str = "") -> None:
        self._service = service
        self._workload = workload

    def service(self) -> ServiceFacts | None:
        return self._service

    def workload_of(self, address: str) -> str:
        return self._workload if address == HOST else ""


class Lines(Log):
    """Collects lines."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 0
        self.lines: list[str] = []

    def write(self, level: int, text: str, tag: str = "") -> None:
        self.lines.append(text)


class Worker:
    """What the filters of one worker share."""

    def __init__(self, own: dict[str, Any], **clusters: ClusterClient) -> None:
        echo = ServiceFacts("echo.default.svc.cluster.local", "echo", "default")
        self.log = Lines()
        self.metrics = Metrics()
        found = {CLUSTER: FakeCluster(echo, "echo-v2;default;echo;v2;c2"), **clusters}
        self.context = FilterContext("f", self.log, found, all_metrics=self.metrics, node=own)

    def started(self, made: StreamFilter) -> Any:
        """The filter, after its start."""
        made.context = self.context
        asyncio.run(made.start())
        return made

    def groups(self, metric: str) -> list[GroupData]:
        """The groups with a metric."""
        return [
            group
            for group in self.metrics.snapshot()
            if group["type"] == "istio" and metric in {**group["counters"], **group["histograms"]}
        ]

    def labels(self, metric: str) -> dict[str, str]:
        """The labels of a metric that has one set."""
        [group] = self.groups(metric)
        return dict(group["labels"])


def exchange(
    *, status: int = 200, host: bytes = b"echo", cluster: str = CLUSTER, route: str = "default", connection: Any = None
) -> Exchange:
    """A request with its response, sent to HOST."""
    made = Exchange(connection or Connection())
    made.protocol = "Http1"
    request = HttpRequest()
    request.raw_method, request.raw_path, request.raw_host = b"GET", b"/p", host
    made.request = request
    made.cluster_name, made.route = cluster, RouteInfo("table/host/0", label=route)
    made.upstream_address = HOST if cluster else ""
    if status:
        made.response = HttpResponse(status)
    made.started, made.finished = 1.0, 1.007
    made.bytes_received, made.bytes_sent = 3, 2000
    return made
