"""Ports without a declared protocol between two sidecars: HTTP/1.1, HTTP/2 and TCP arrive as what they are."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from h2_peers import H2Client, H2Server, Message, Serving
from istio_shapes import (
    common_clusters,
    endpoints,
    identity,
    outbound,
    service,
    table,
    undeclared_listener,
    virtual_inbound,
    virtual_outbound,
)
from mesh import ADDRESSES, ECHO, LEGACY, SLEEP, TCP, Mesh, mesh_of
from pymosn_process import eventually
from tests.kit.xds_server import LISTENER

pytestmark = pytest.mark.once

#: The virtual address of the service.
SERVICE = "10.96.0.10"
PREFACE = b"PRI"
CERTIFICATE = "x-forwarded-client-cert"


class App(H2Server):
    """The app `echo`, which speaks HTTP/1.1, HTTP/2 or TCP, as its client does, and answers with what it has seen."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(_answer, listener=listener)

    def serve(self, sock: socket.socket) -> None:
        first = sock.recv(len(PREFACE), socket.MSG_PEEK)
        if first == PREFACE:
            super().serve(sock)
        elif first == b"GET":
            with contextlib.suppress(OSError):
                while _serve_text(sock):
                    pass
        else:
            sock.sendall(b"TCP:" + sock.recv(100))


def _answer(end: Serving, stream: int, message: Message) -> None:
    end.respond(stream, _seen("HTTP/2", dict(message.fields)))


def _serve_text(sock: socket.socket) -> bool:
    """Answers a request of HTTP/1.1 without content. Whether there was one."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(1 << 16)
        if not data:
            return False
        head += data
    lines = head.decode().split("\r\n")[1:-2]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = _seen("HTTP/1.1", fields)
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return True


def _seen(protocol: str, fields: dict[str, str]) -> bytes:
    return json.dumps({"protocol": protocol, **fields}).encode()


class Caller:
    """Calls the app from a pod."""

    def __init__(self, mesh: Mesh, pod: str, address: str) -> None:
        self._mesh = mesh
        self._pod = pod
        self._address = address

    def _connect(self) -> socket.socket:
        return self._mesh.connect(self._pod, self._address, TCP)

    def http1(self) -> dict[str, Any]:
        """What the app has seen of a request of HTTP/1.1; empty if there was no response."""
        client = http.client.HTTPConnection(self._address, TCP)
        with self._connect() as client.sock:
            try:
                client.request("GET", "/", headers={"Host": service(ECHO)})
                response = client.getresponse()
                return json.loads(response.read()) if response.status == 200 else {}
            except (ConnectionError, http.client.HTTPException):
                return {}

    def http2(self) -> dict[str, Any]:
        """The same of a request of HTTP/2 in plain text."""
        with H2Client(sock=self._connect()) as client:
            response = client.request(authority=service(ECHO))
            return json.loads(response.body) if response.status == 200 else {}

    def tcp(self) -> bytes:
        """What the app answers to bytes that are no HTTP."""
        with contextlib.suppress(ConnectionError), self._connect() as sock:
            sock.sendall(b"hello\r\n")
            return sock.recv(100)
        return b""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(mesh_of(tmp_path_factory.mktemp("mesh")))
        stack.callback(App(made.listen(ECHO, TCP)).close)
        common = [*common_clusters(TCP), virtual_outbound(), virtual_inbound(undeclared=[TCP])]
        made.echo.start(*common)
        made.sleep.start(
            *common,
            outbound(ECHO, TCP, is_declared=False),
            endpoints(ECHO, TCP, ADDRESSES[ECHO], has_sidecar=True),
            undeclared_listener(ECHO, SERVICE, TCP, has_alpn=False),
            table(TCP, ECHO),
        )
        assert eventually(lambda: Caller(made, SLEEP, SERVICE).tcp() == b"TCP:hello\r\n")
        yield made


def test_everything_arrives_as_what_it_is_by_mutual_tls(mesh: Mesh) -> None:
    app = Caller(mesh, SLEEP, SERVICE)
    # Without the filter the receiving sidecar takes everything for TCP: it adds nothing to requests.
    for seen in (app.http1(), app.http2()):
        assert seen["protocol"] in ("HTTP/1.1", "HTTP/2")
        assert CERTIFICATE not in seen
    mesh.sleep.xds.set(undeclared_listener(ECHO, SERVICE, TCP))
    assert eventually(lambda: CERTIFICATE in app.http1())
    for _ in range(3):
        for protocol, seen in (("HTTP/1.1", app.http1()), ("HTTP/2", app.http2())):
            assert seen["protocol"] == protocol
            assert f"URI={identity(SLEEP)}" in seen[CERTIFICATE]
            assert f"By={identity(ECHO)}" in seen[CERTIFICATE]
        assert app.tcp() == b"TCP:hello\r\n"
    assert not mesh.sleep.xds.nacks(LISTENER)
    assert not mesh.echo.xds.nacks(LISTENER)


def test_plain_text_of_pods_without_a_sidecar_is_distinguished_by_its_first_bytes(mesh: Mesh) -> None:
    app = Caller(mesh, LEGACY, ADDRESSES[ECHO])
    for protocol, seen in (("HTTP/1.1", app.http1()), ("HTTP/2", app.http2())):
        assert (seen["protocol"], CERTIFICATE in seen) == (protocol, False)
        assert "x-request-id" in seen, "the sidecar has read the request"
    assert app.tcp() == b"TCP:hello\r\n"
