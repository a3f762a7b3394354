"""Public complaints about xDS clients, by their rows: large messages, and other packages with the same descriptors."""

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from process_fixtures import Start
from pymosn_process import Upstream, eventually
from tests.kit.xds_server import CLUSTER
from xds_peers import Mesh, Traffic, port_of

pytestmark = pytest.mark.once

LIMIT = 48_000_000


def large(name: str, size: int) -> Cluster:
    """A cluster of about so many bytes."""
    made = Cluster(name=name, type=Cluster.STATIC)
    made.metadata.filter_metadata["example"]["text"] = "x" * size
    return made


def test_row_9_40_mb_are_accepted_and_more_than_the_limit_end_the_stream(start: Start, upstream: Upstream) -> None:
    mesh = Mesh(start, top={"xds_max_message_bytes": LIMIT})
    try:
        port = mesh.serving("c", port_of(upstream))
        with Traffic(port) as traffic:
            mesh.put_and_see(*(large(f"large{number}", 4_000_000) for number in range(10)))
            assert len(mesh.held("cds")) == 11
            assert mesh.client_view("cds")["bytes"] > 40_000_000
            streams = len(mesh.control.streams)
            mesh.put(*(large(f"larger{number}", 4_000_000) for number in range(2)))
            mesh.proxy.wait_for(f"a response is larger than max_message_bytes, {LIMIT}")
            # It tries again, and is sent the same.
            mesh.control.wait(lambda: len(mesh.control.streams) > streams)
            assert len(mesh.held("cds")) == 11
            assert traffic.goes_on()
            mesh.control.remove(CLUSTER, *(f"larger{number}" for number in range(2)))
            mesh.put(large("small", 10))
            assert eventually(lambda: "small" in mesh.held("cds"))
            assert traffic.goes_on()
        assert sum("larger than max_message_bytes" in line for line in mesh.proxy.lines) == 1
    finally:
        mesh.control.stop()
