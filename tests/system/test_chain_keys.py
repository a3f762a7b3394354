"""Chains with access logs and stream filters of their own, chosen by the protocol of plain text, on the real program."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Upstream, eventually, free_ports, get
from thread_server import ThreadServer
from tls_peers import config_of, listener_of, table_of

pytestmark = pytest.mark.once


def proxy(log: Path, **keys: Any) -> dict[str, Any]:
    logs = [{"log_path": str(log), "json_format": {"status": "%response_code%", "path": "%request_path%"}}]
    config = {"downstream_protocol": "Http1", "router_config_name": "r", "access_logs": logs, **keys}
    return {"type": "proxy", "config": config}


def test_chains_have_their_own_logs_and_filters(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    fault = {"type": "fault", "config": {"abort": {"status": 418, "percentage": 100}}}
    only_failed = {"log_path": str(tmp_path / "failed.log"), "filter": {"status": {"op": "ge", "value": 400}}}
    limited = proxy(tmp_path / "http.log", stream_filters=[fault])
    limited["config"]["access_logs"].append({**only_failed, "log_format": "%response_code%"})
    chains = [
        {"name": "http", "match": {"application_protocols": ["http/1.1"]}, "filters": [limited]},
        {"name": "rest", "is_default": True, "filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]},
    ]
    listener = {**listener_of("l", port, chains), "http_inspector": True}
    listener["access_logs"] = [{"log_path": str(tmp_path / "listener.log"), "log_format": "%protocol%"}]
    config = config_of([listener], [table_of("r", cluster="c")], {"c": f"127.0.0.1:{upstream.port}"})
    program = start(config)
    program.wait_for(READY)
    assert get(port, "/x")[0] == 418
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:  # HTTP/1.0 has no chain of its own
        client.sendall(b"GET /y HTTP/1.0\r\n\r\n")
        assert client.recv(12).endswith(b" 200")
    log, failed, rest = tmp_path / "http.log", tmp_path / "failed.log", tmp_path / "listener.log"
    assert eventually(lambda: rest.exists() and rest.read_text().strip() != "")
    assert eventually(lambda: failed.exists() and failed.read_text() == "418\n")
    assert json.loads(log.read_text()) == {"status": 418, "path": "/x"}
    assert rest.read_text() == "tcp\n"


def test_no_limit_for_the_time_without_progress(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    chain = proxy(tmp_path / "http.log", extend_config={"Http1": {"stream_idle_timeout": 0}})
    listener = listener_of("l", port, [{"filters": [chain]}])
    program = start(config_of([listener], [table_of("r", cluster="c")], {"c": f"127.0.0.1:{upstream.port}"}))
    program.wait_for(READY)
    assert get(port, "/x")[0] == 200


def greet(sock: socket.socket) -> None:
    """A server that speaks first, and then repeats what the client sends."""
    sock.sendall(b"220 ready\r\n")
    while data := sock.recv(100):
        sock.sendall(data)


def received(sock: socket.socket, size: int) -> bytes:
    """The next bytes, fewer if the connection ends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < size and (more := sock.recv(size - len(data))):
            data += more
    return data


def test_clients_whose_first_bytes_do_not_decide(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    ports = continuing, closing = free_ports(2)
    server = ThreadServer(greet)
    chains = [
        {"name": "http", "match": {"application_protocols": ["http/1.1", "h2c"]}, "filters": [proxy(tmp_path / "http.log")]},
        {"name": "rest", "is_default": True, "filters": [{"type": "tcp_proxy", "config": {"cluster": "greeter"}}]},
    ]
    keys = {"http_inspector": True, "inspection_timeout": "0.2s"}
    listeners = [
        {**listener_of(how, port, chains), **keys, "on_undecided": how}
        for how, port in zip(("continue", "close"), ports, strict=True)
    ]
    hosts = {"c": f"127.0.0.1:{upstream.port}", "greeter": f"127.0.0.1:{server.port}"}
    start(config_of(listeners, [table_of("r", cluster="c")], hosts)).wait_for(READY)
    # Nothing, the beginning of a request line, and a request line that has no end.
    for sent in (b"", b"GE", b"PROPFIND / HTT"):
        with socket.create_connection(("127.0.0.1", continuing), PATIENCE) as client:
            client.sendall(sent)
            assert received(client, 11 + len(sent)) == b"220 ready\r\n" + sent
        with socket.create_connection(("127.0.0.1", closing), PATIENCE) as client:
            client.sendall(sent)
            assert received(client, 1) == b""
    for port in ports:
        assert get(port, "/x")[0] == 200
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"NOOP\r\n")
            assert received(client, 17) == b"220 ready\r\nNOOP\r\n"
    server.close()
