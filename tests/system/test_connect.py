"""CONNECT through two hops of the real program: the first passes it on, the second ends it at the cluster's host."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess

from plain_sockets import connect, read_until
from process_fixtures import Start
from pymosn_process import READY, TwoHops, Upstream, eventually


def allow(hops: TwoHops) -> None:
    for listener, mode in zip(hops.server["listeners"], ("forward", "terminate"), strict=True):
        listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": {"connect": mode}}


def test_requests_through_a_tunnel(start: Start, two_hops: TwoHops, upstream: Upstream) -> None:
    allow(two_hops)
    start(two_hops.config).wait_for(READY)
    client = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=20)
    client.set_tunnel("db.example", 5432)
    for path in ("/a", "/b"):
        client.request("GET", path)
        response = client.getresponse()
        assert response.read() == f"hello from upstream, {path}\n".encode()
        assert response.headers["x-request-id"] is None
    assert two_hops.get("/beside")[0] == 200
    client.close()
    stats = json.loads(two_hops.admin("/api/v1/stats"))["downstream"]["proxy.global"]
    assert stats["tunnel_total"] == "2"
    assert eventually(
        lambda: json.loads(two_hops.admin("/api/v1/stats"))["downstream"]["proxy.global"]["tunnel_active"] == "0"
    )


def test_curl_through_a_tunnel(start: Start, two_hops: TwoHops) -> None:
    allow(two_hops)
    start(two_hops.config).wait_for(READY)
    command = ["curl", "-sS", "--proxytunnel", "--proxy", f"http://127.0.0.1:{two_hops.client_port}", "http://a.example/x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("hello from upstream, /x\n", "")


def test_a_server_that_speaks_first(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hops = TwoHops(listening.getsockname()[1])
        allow(hops)
        start(hops.config).wait_for(READY)
        for _ in range(20):
            with connect(hops.client_port) as client:
                client.sendall(b"CONNECT ssh.example:22 HTTP/1.1\r\nHost: ssh.example:22\r\n\r\n")
                server, _ = listening.accept()
                with server:
                    server.sendall(b"SSH-2.0-greeting\r\n")
                    data = read_until(client, b"greeting\r\n")
                    assert data == b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-greeting\r\n"


def test_off_by_default(start: Start, two_hops: TwoHops) -> None:
    start(two_hops.config).wait_for(READY)
    with connect(two_hops.client_port) as client:
        client.sendall(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
        assert read_until(client, b"\r\n").startswith(b"HTTP/1.1 405 ")
