"""Two sidecars that report as Istio's do: requests and connections at both ends, with the workloads of both sides."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from istio_shapes import (
    common_clusters,
    endpoints,
    identity,
    outbound,
    outbound_listener,
    outbound_tcp_listener,
    service,
    table,
    virtual_inbound,
    virtual_outbound,
)
from istio_telemetry import with_service, with_telemetry
from mesh import ADDRESSES, ECHO, HTTP, LEGACY, SERVICES, SLEEP, TCP, Mesh, Sidecar, serving
from prometheus_client.parser import text_string_to_metric_families
from pymosn_process import PATIENCE, eventually
from tests.kit.xds_server import CLUSTER, LISTENER

pytestmark = pytest.mark.once

Sample = tuple[dict[str, str], float]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with serving(tmp_path, begin) as made:
        yield made


def begin(sidecar: Sidecar) -> None:
    clusters = [
        with_service(cluster, sidecar.name) if cluster.name.startswith("inbound|") else cluster  # type: ignore[attr-defined]
        for cluster in common_clusters(HTTP)
    ]
    sidecar.start(
        *clusters,
        with_service(outbound(ECHO, HTTP), ECHO),
        with_service(outbound(LEGACY, HTTP), LEGACY),
        with_service(outbound(ECHO, TCP), ECHO),
        endpoints(ECHO, HTTP, ADDRESSES[ECHO], has_sidecar=True),
        endpoints(LEGACY, HTTP, ADDRESSES[LEGACY], has_sidecar=False),
        endpoints(ECHO, TCP, ADDRESSES[ECHO], has_sidecar=True),
        with_telemetry(virtual_outbound()),
        with_telemetry(virtual_inbound(HTTP)),
        with_telemetry(outbound_listener(HTTP)),
        with_telemetry(outbound_tcp_listener(ECHO, SERVICES, TCP)),
        table(HTTP, ECHO, LEGACY),
    )


def samples(mesh: Mesh, pod: str, name: str, path: str = "/stats/prometheus", **wanted: str) -> list[Sample]:
    """The samples of a metric in a sidecar that have these labels."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:15000{path}", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text

    families = text_string_to_metric_families(mesh.net.call(pod, read))
    found = [(sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name]
    return [(labels, value) for labels, value in found if labels.items() >= wanted.items()]


def test_requests_are_reported_by_both_sidecars(mesh: Mesh) -> None:
    answer = mesh.get(SLEEP, SERVICES, service(ECHO), "/who")
    assert answer.status == 200
    assert [name for name in answer.seen["headers"] if name.startswith("x-envoy-peer")] == []
    both = {
        "source_workload": "sleep-v1",
        "source_workload_namespace": "default",
        "source_app": "sleep",
        "source_version": "v1",
        "source_canonical_service": "sleep",
        "source_canonical_revision": "latest",
        "source_cluster": "Kubernetes",
        "source_principal": identity(SLEEP),
        "destination_workload": "echo-v1",
        "destination_workload_namespace": "default",
        "destination_app": "echo",
        "destination_version": "v1",
        "destination_canonical_service": "echo",
        "destination_canonical_revision": "latest",
        "destination_cluster": "Kubernetes",
        "destination_principal": identity(ECHO),
        "destination_service": service(ECHO),
        "destination_service_name": ECHO,
        "destination_service_namespace": "default",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "host": service(ECHO),
    }
    for pod, reporter, security in ((SLEEP, "source", "unknown"), (ECHO, "destination", "mutual_tls")):
        for path in ("/stats/prometheus", "/metrics"):
            [(labels, value)] = samples(mesh, pod, "istio_requests_total", path, reporter=reporter, host=service(ECHO))
            assert labels == {"reporter": reporter, **both, "connection_security_policy": security}
            assert value == 1.0
        wanted = {"reporter": reporter, "response_code": "200", "le": "+Inf"}
        for name in ("request_duration_milliseconds", "request_bytes", "response_bytes"):
            found = samples(mesh, pod, f"istio_{name}_bucket", **wanted)
            assert sum(value for _, value in found) >= 1.0, name
    assert samples(mesh, SLEEP, "istio_build") == [({"component": "proxy", "tag": "1.31.0"}, 1.0)]
    # A host without a sidecar is known by its endpoint; a client without one is not known.
    assert mesh.get(SLEEP, SERVICES, LEGACY).status == 200
    [(labels, _)] = samples(mesh, SLEEP, "istio_requests_total", host=LEGACY)
    assert (labels["destination_workload"], labels["destination_principal"]) == (LEGACY, "unknown")
    assert mesh.get(LEGACY, ADDRESSES[ECHO], "chosen").status == 200
    [(labels, _)] = samples(mesh, ECHO, "istio_requests_total", host="chosen")
    assert (labels["source_workload"], labels["connection_security_policy"]) == ("unknown", "none")
    assert labels["destination_service"] == service(ECHO)


def test_connections_are_reported_by_both_sidecars(mesh: Mesh) -> None:
    listener = mesh.listen(ECHO, TCP)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(b"<" + sock.recv(100) + b">")

    threading.Thread(target=serve, daemon=True).start()
    with mesh.connect(SLEEP, SERVICES, TCP) as sock:
        sock.sendall(b"hello")
        answer = b""
        while part := sock.recv(100):
            answer += part
    assert answer == b"<hello>"
    for pod, reporter in ((SLEEP, "source"), (ECHO, "destination")):
        wanted = {"reporter": reporter, "request_protocol": "tcp", "response_flags": "-"}
        name = "istio_tcp_connections_closed_total"
        assert eventually(lambda: samples(mesh, pod, name, **wanted))  # noqa: B023
        [(labels, value)] = samples(mesh, pod, "istio_tcp_connections_opened_total", **wanted)
        assert value == 1.0
        assert (labels["source_principal"], labels["destination_principal"]) == (identity(SLEEP), identity(ECHO))
        [(_, received)] = samples(mesh, pod, "istio_tcp_received_bytes_total", **wanted)
        [(_, sent)] = samples(mesh, pod, "istio_tcp_sent_bytes_total", **wanted)
        assert (received, sent) == (5.0, 7.0)
        if reporter == "source":
            assert (labels["destination_workload"], labels["destination_service"]) == (ECHO, service(ECHO))
        else:
            assert (labels["source_workload"], labels["destination_workload"]) == ("unknown", "echo-v1")
    for sidecar in (mesh.sleep, mesh.echo):
        assert not [*sidecar.xds.nacks(LISTENER), *sidecar.xds.nacks(CLUSTER)]
