"""A mesh of pods in network namespaces: apps, sidecars, and rules that redirect connections to the sidecars, as in Istio.

    sleep 10.78.0.1, echo 10.78.0.2, both with a sidecar, and legacy 10.78.0.3 without one, on one bridge

A sidecar is the real program, driven by scripted control planes at two unix sockets (ADS and SDS), as by istio-agent. It
runs with the group 1337, by which iptables lets its own connections pass.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from google.protobuf.message import Message
from istio_shapes import bootstrap, identity, secrets
from namespaces import NamedNamespaces, Unavailable
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, eventually
from tests.kit.certificates import Issued, ca, issue
from tests.kit.xds_server import XdsServer

SLEEP, ECHO, LEGACY, FABRIC = "sleep", "echo", "legacy", "fabric"
ADDRESSES: Final = {SLEEP: "10.78.0.1", ECHO: "10.78.0.2", LEGACY: "10.78.0.3"}
#: The virtual address of the services of `serving`.
SERVICES: Final = "10.96.0.10"
#: The port of the apps' HTTP servers, and of servers of TCP.
HTTP, TCP = 8080, 9000
_GROUP: Final = 1337
#: The beginning of a command that runs as the sidecar.
AS_PROXY: Final = f'exec setpriv --regid={_GROUP} --clear-groups "$0" "$@"'


class Answer(NamedTuple):
    """A response of an app: the status, and what the app has seen; empty unless it was the app that answered."""

    status: int
    seen: dict[str, Any]

    def header(self, name: str) -> str:
        """A header of the request as the app has seen it; empty without it."""
        return str(self.seen.get("headers", {}).get(name, ""))


class MeshNetwork(NamedNamespaces):
    """The namespaces of the pods."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        if shutil.which("setpriv") is None:
            raise Unavailable("the program setpriv is not installed")
        super().__init__(*ADDRESSES, FABRIC)

    def _connect(self) -> None:
        self.run(FABRIC, "ip link add bridge0 type bridge")
        self.run(FABRIC, "ip address add 10.78.0.254/24 dev bridge0")
        self.run(FABRIC, "ip link set bridge0 up")
        for name, address in ADDRESSES.items():
            self._link(name, f"to_{name}")
            self.run(FABRIC, f"ip link set to_{name} master bridge0 up")
            self.run(name, f"ip address add {address}/24 dev eth0")
            self.run(name, "ip link set eth0 up")
            self.run(name, "ip route add default via 10.78.0.254")

    def redirect(self, name: str) -> None:
        """Redirects the connections of a pod to its sidecar, except the sidecar's own."""
        for rule in (
            "PREROUTING -p tcp -j REDIRECT --to-ports 15006",
            f"OUTPUT -p tcp -m owner --gid-owner {_GROUP} -j RETURN",
            "OUTPUT -p tcp -d 127.0.0.1/32 -j RETURN",
            "OUTPUT -p tcp -j REDIRECT --to-ports 15001",
        ):
            self.run(name, f"iptables -t nat -A {rule}")


class _App(BaseHTTPRequestHandler):
    """Answers with what it has seen."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"path": self.path, "headers": headers, "peer": self.client_address[0], "port": self.server.server_port}  # type: ignore[attr-defined]
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("x-app", "yes")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _AppServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


class Sidecar:
    """The sidecar of one pod and its two control planes. `certificate`: what it has at present."""

    def __init__(self, net: MeshNetwork, name: str, folder: Path) -> None:
        folder.mkdir()
        self.name = name
        self.xds = XdsServer(f"unix:{folder / 'x'}")
        self.sds = XdsServer(f"unix:{folder / 's'}")
        self.proxy: Pymosn | None = None
        self._net = net
        self._folder = folder
        self._start = Start(folder)
        self.rotate()

    def rotate(self) -> Issued:
        """Gives it a new certificate."""
        self.certificate = issue(self.name, ca(), uris=(identity(self.name),))
        self.sds.set(*secrets(self.certificate.certificate, self.certificate.key, ca().certificate))
        return self.certificate

    def start(self, *resources: Message) -> None:
        """Starts it with these resources, and waits until it has its listeners."""
        self.xds.set(*resources)
        self.xds.start()
        self.sds.start()
        config = bootstrap(self.name, ADDRESSES[self.name], str(self._folder / "x"), str(self._folder / "s"))
        self._net.redirect(self.name)
        self.proxy = self._net.call(self.name, lambda: self._start(config, "--workers", "1", before=AS_PROXY))
        self.proxy.wait_for(READY)

    def close(self) -> None:
        """Ends all of it."""
        self._start.end()
        self.xds.stop()
        self.sds.stop()


class Pods:
    """The pods with their apps, until `close`."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        self.net = MeshNetwork()
        self._servers: list[_AppServer] = []
        self._sockets: list[socket.socket] = []
        try:
            for pod in (ECHO, LEGACY):
                server = self.net.call(pod, lambda: _AppServer(("0.0.0.0", HTTP), _App))
                threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
                self._servers.append(server)
        except BaseException:
            self.net.close()
            raise

    def close(self) -> None:
        """Ends the apps and the namespaces."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for sock in self._sockets:
            sock.close()
        self.net.close()

    def connect(self, pod: str, address: str, port: int) -> socket.socket:
        """A connection of the app of a pod."""
        return self.net.call(pod, lambda: socket.create_connection((address, port), PATIENCE))

    def listen(self, pod: str, port: int) -> socket.socket:
        """A socket that listens in a pod."""
        self._sockets.append(self.net.call(pod, lambda: socket.create_server(("0.0.0.0", port))))
        return self._sockets[-1]

    def client(self, pod: str, address: str, port: int = HTTP) -> Client:
        """An HTTP client in a pod."""
        return Client(self, pod, address, port)

    def get(self, pod: str, address: str, host: str, path: str = "/", port: int = HTTP, **headers: str) -> Answer:
        """The response to one request on a connection of its own; status 0 if the connection ends without one."""
        try:
            with contextlib.closing(self.client(pod, address, port)) as client:
                return client.get(host, path, **headers)
        except (ConnectionError, http.client.HTTPException):
            return Answer(0, {})


class Mesh(Pods):
    """The pods, two of them with sidecars."""

    def __init__(self, folder: Path) -> None:
        """Raises Unavailable."""
        super().__init__()
        self.sleep = Sidecar(self.net, SLEEP, folder / "a")
        self.echo = Sidecar(self.net, ECHO, folder / "b")

    def close(self) -> None:
        """Ends all of it."""
        self.sleep.close()
        self.echo.close()
        super().close()


class Client:
    """An HTTP connection of the app of a pod."""

    def __init__(self, mesh: Pods, pod: str, address: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(address, port)
        self._connection.sock = mesh.connect(pod, address, port)

    def get(self, host: str, path: str = "/", **headers: str) -> Answer:
        """The response to a GET. Raises OSError and HTTPException."""
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", path, headers={"Host": host, **shown})
        response = self._connection.getresponse()
        body = response.read()
        return Answer(response.status, json.loads(body) if response.headers.get("x-app") else {})

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@contextlib.contextmanager
def mesh_of(folder: Path) -> Iterator[Mesh]:
    """A mesh for tests, which are skipped if this kernel or user cannot have network namespaces."""
    try:
        mesh = Mesh(folder)
    except Unavailable as why:
        pytest.skip(f"no network namespaces: {why}")
    try:
        yield mesh
    finally:
        mesh.close()


@contextlib.contextmanager
def serving(folder: Path, begin: Callable[[Sidecar], None]) -> Iterator[Mesh]:
    """A mesh whose sidecars `begin` has started, once a request passes both."""
    with mesh_of(folder) as mesh:
        for sidecar in (mesh.sleep, mesh.echo):
            begin(sidecar)
        assert eventually(lambda: mesh.get(SLEEP, SERVICES, "echo").status == 200)
        yield mesh
