"""Public complaints about xDS clients, by their rows: what must stay as it is while something changes or is rejected."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpConnectionManager
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from plain_sockets import connect, read_exactly, read_until
from pymosn_process import Upstream, eventually, free_ports
from tests.kit.certificates import server
from tests.kit.xds_server import CLUSTER, LISTENER
from tls_peers import answer
from web_sockets import ASK, TEXT, Echo, frame
from xds_peers import Mesh, answered, answers, eds, hosts, listener, manager, mesh_of, port_of, routes

pytestmark = pytest.mark.once

SOCKETS = 100


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh_of(tmp_path_factory.mktemp("mesh")) as made:
        yield made


def logging(text: str) -> HttpConnectionManager:
    made = manager("l", "r")
    made.upgrade_configs.add(upgrade_type="websocket")
    log = StdoutAccessLog()
    log.log_format.text_format_source.inline_string = f"{text} %RESPONSE_CODE%\n"
    made.access_log.add(name="log").typed_config.Pack(log)
    return made


def test_row_16_connections_survive_a_changed_listener_and_equal_content_is_no_change(
    mesh: Mesh, upstream: Upstream
) -> None:
    [port] = free_ports(1)
    echo = Echo()
    try:
        mesh.put(eds("c"), hosts("c", echo.port), routes("r", "c"), listener("l", port, logging("first")))
        assert eventually(lambda: answered(port, "/refuse") != 0)
        sockets = [connect(port) for _ in range(SOCKETS)]
        for sock in sockets:
            sock.sendall(ASK)
            assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        changes = mesh.changes()
        mesh.put_and_see(listener("l", port, logging("second")))
        assert eventually(lambda: mesh.changes() > changes)
        assert eventually(lambda: answered(port, "/refuse") != 0 and any("second" in line for line in mesh.proxy.lines))
        for sock in sockets:
            sock.sendall(frame(TEXT, b"still"))
            assert read_exactly(sock, 7) == b"\x81\x05still"
        changes = mesh.changes()
        mesh.put_and_see(listener("l", port, logging("second")))
        mesh.put_and_see(eds("marker"), hosts("marker", 1))
        assert eventually(lambda: '"marker"' in mesh.admin_text("/api/v1/clusters"))
        assert mesh.changes() <= changes + 2  # those of the marker
        for sock in sockets:
            sock.sendall(frame(TEXT, b"again"))
            assert read_exactly(sock, 7) == b"\x81\x05again"
            sock.close()
    finally:
        echo.close()
        mesh.clear()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_row_1_a_control_plane_that_repeats_what_is_rejected_does_not_spin(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    bad = eds("bad")
    bad.connect_timeout.seconds = -1
    mesh.control.repeats_rejected = True
    before, began, cpu = len(mesh.control.nacks(CLUSTER)), time.monotonic(), cpu_seconds(mesh.proxy.process.pid)
    mesh.rejected(bad)
    # Other types are not delayed.
    mesh.put(hosts("c"))
    assert eventually(lambda: answered(port) == 503)
    mesh.control.wait(lambda: len(mesh.control.nacks(CLUSTER)) >= before + 6)
    elapsed = time.monotonic() - began
    assert elapsed > 1.1  # three quarters of 0.1 + 0.2 + 0.4 + 0.8 s
    assert cpu_seconds(mesh.proxy.process.pid) - cpu < 0.5 * elapsed
    assert sum("cds bad is rejected" in line for line in mesh.proxy.lines) == 1
    mesh.control.repeats_rejected = False
    mesh.clear()


def test_row_28_dumps_have_no_key(mesh: Mesh) -> None:
    [port] = free_ports(1)
    message = listener("l", port, manager("l", "r"))
    context = DownstreamTlsContext()
    pair = context.common_tls_context.tls_certificates.add()
    pair.certificate_chain.inline_bytes, pair.private_key.inline_bytes = server().certificate, server().key
    socket = message.filter_chains[0].transport_socket
    socket.name = "tls"
    socket.typed_config.Pack(context)
    mesh.put(message, answers("r", "secret"))
    assert eventually(lambda: answer(port) == (200, b"secret"))
    key = server().key.decode().splitlines()[1]
    chain = server().certificate.decode().splitlines()[1]
    texts = [mesh.admin_text(path) for path in ("/config_dump", "/api/v1/config_dump", "/api/v1/xds")]
    assert all(key not in text for text in (*texts, mesh.proxy.output))
    assert any(chain in text for text in texts)
    assert mesh.control.nacks(LISTENER) == []
