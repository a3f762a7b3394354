"""Runs the rows of `tests/golden/mosn/digests.yaml`: the digest lines of SOFATracer that a program writes for a request.

The program under test, pymosn or MOSN, is started once with `World.config`. All requests are sent, one after the other; each
belongs to a listener and has a name. The outcome of a row has `file` ("server", "client" or "none"), `keys` in their order,
`is_json`, and all values by their keys.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mosn_variables import Upstreams
from plain_sockets import accepts, connect, read_exactly, read_until
from pymosn_process import end, eventually, free_ports
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from thread_server import ThreadServer

#: Each listener: its type, and the protocol that it speaks.
LISTENERS: Final = {
    "http in": ("ingress", "Http1"),
    "http out": ("egress", "Http1"),
    "http untyped": ("", "Http1"),
    "bolt in": ("ingress", "bolt"),
    "bolt out": ("egress", "bolt"),
    "dubbo in": ("ingress", "dubbo"),
}
FILES: Final = {"server": "rpc-server-digest.log", "client": "rpc-client-digest.log"}
#: Seconds in which a line must come; after as many there is none.
NO_LINE: Final = 0.5
_IDS: Final = b"SOFA-TraceId: abc123\r\nSOFA-RpcId: 0.1\r\n"
_FACTS: Final = (
    b"service: svc\r\nsofa_head_method_name: meth\r\n"
    b"rpc_trace_context.sofaCallerApp: capp\r\nrpc_trace_context.sofaPenAttrs: a=b\r\n"
)
_QUOTES: Final = b'rpc_trace_context.sofaPenAttrs: a="b"\r\n'
_BOLT_FACTS: Final = {
    "rpc_trace_context.sofaTraceId": "abc123",
    "rpc_trace_context.sofaRpcId": "0.1",
    "rpc_trace_context.sofaCallerApp": "capp",
    "rpc_trace_context.sofaPenAttrs": "a=b",
    "sofa_head_method_name": "meth",
}
#: The HTTP requests: path, fields, body, and whether MOSN and pymosn write a line.
HTTP: Final[dict[str, tuple[bytes, bytes, bytes]]] = {
    "forwarded": (b"/up/x?a=1", b"", b""),
    "with ids": (b"/up/x", _IDS + _FACTS, b""),
    "with quotes": (b"/up/x", _QUOTES, b""),
    "with a body": (b"/up/x", b"", b"12345"),
    "without route": (b"/nowhere", b"", b""),
    "direct": (b"/direct", b"", b""),
    "to a dead host": (b"/dead", b"", b""),
    "answered by 503": (b"/up/503", b"", b""),
    "too late": (b"/late/slow", b"", b""),
}
BOLT: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "forwarded": ("up", {}),
    "with ids": ("up", _BOLT_FACTS),
    "to no host": ("empty", {}),
    "to a dead host": ("dead", {}),
    "without route": ("nobody", {}),
}


class Hosts(Upstreams):
    """The hosts, with one for Dubbo."""

    def __init__(self) -> None:
        super().__init__()
        self.dubbo = ThreadServer(self._dubbo)

    def _dubbo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError):
            while True:
                head = read_exactly(sock, 16)
                request_id, length = struct.unpack(">qI", head[4:])
                read_exactly(sock, length)
                is_event = bool(head[2] & 0x20)
                sock.sendall(dubbo.heartbeat_ack(request_id) if is_event else dubbo.result(request_id, "yes"))

    def close(self) -> None:
        super().close()
        self.dubbo.close()


class World:
    """The configuration, the requests, and the lines that a program writes for them."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder = folder
        self.hosts = hosts
        *ports, self.admin, self.dead = free_ports(len(LISTENERS) + 2)
        self.ports = dict(zip(LISTENERS, ports, strict=True))
        #: The outcome of each request, by the names of its listener and its own.
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._seen = dict.fromkeys(FILES, 0)

    def config(self) -> dict[str, Any]:
        listeners = [self._listener(name, kind, protocol) for name, (kind, protocol) in LISTENERS.items()]
        http = [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": "direct"}},
            {"match": {"prefix": "/dead"}, "route": {"cluster_name": "dead"}},
            {"match": {"prefix": "/late/"}, "route": {"cluster_name": "up", "timeout": "0.2s"}},
            {"match": {"prefix": "/up"}, "route": {"cluster_name": "up", "timeout": "10s"}},
        ]
        services = [
            {"match": {"headers": [{"name": "service", "value": name}]}, "route": {"cluster_name": cluster}}
            for name, cluster in (("up", "rpc"), ("dead", "dead"), ("empty", "empty"))
        ]
        calls = [
            {"match": {"headers": [{"name": "service", "value": ".*", "regex": True}]}, "route": {"cluster_name": "dubbo"}}
        ]
        tables = [_table("Http1", http), _table("bolt", services), _table("dubbo", calls)]
        clusters = [
            _cluster("up", self.hosts.http1.port),
            _cluster("rpc", self.hosts.bolt.port),
            _cluster("dubbo", self.hosts.dubbo.port),
            _cluster("dead", self.dead),
            _cluster("empty"),
        ]
        server = {
            "default_log_path": str(self.folder / "process.log"),
            "processor": 1,
            "listeners": listeners,
            "routers": tables,
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}
        return {
            "servers": [server],
            "cluster_manager": {"clusters": clusters},
            "admin": {"address": address},
            "tracing": {"enable": True, "driver": "SOFATracer", "config": {"log_path": str(self.folder / "digests")}},
        }

    def _listener(self, name: str, kind: str, protocol: str) -> dict[str, Any]:
        proxy = {"downstream_protocol": protocol, "upstream_protocol": protocol, "router_config_name": protocol}
        return {
            "name": name,
            "type": kind,
            "address": f"127.0.0.1:{self.ports[name]}",
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
        }

    # ---- the requests

    def send(self) -> None:
        """Sends all requests, and reads the lines for them."""
        for listener, (kind, protocol) in LISTENERS.items():
            if protocol == "Http1":
                chosen = HTTP if kind else {"forwarded": HTTP["forwarded"]}
                for name, (path, fields, body) in chosen.items():
                    self._recorded(listener, name, self._http(listener, path, fields, body))
            elif protocol == "bolt":
                for name, (service, headers) in BOLT.items():
                    self._recorded(listener, name, self._bolt(listener, bolt.request, service, headers))
        self._recorded("bolt in", "heartbeat", self._heartbeat)
        self._recorded("dubbo in", "forwarded", self._dubbo)

    def _http(self, listener: str, path: bytes, fields: bytes, body: bytes) -> Callable[[], None]:
        def exchange() -> None:
            length = b"Content-Length: %d\r\n" % len(body) if body else b""
            method = b"POST " if body else b"GET "
            with connect(self.ports[listener]) as sock:
                sock.sendall(method + path + b" HTTP/1.1\r\nHost: h\r\n" + length + fields + b"\r\n" + body)
                assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 ")

        return exchange

    def _bolt(self, listener: str, frame: Callable[..., bytes], service: str, headers: dict[str, str]) -> Callable[[], None]:
        def exchange() -> None:
            with connect(self.ports[listener]) as sock:
                sock.sendall(frame(7, b"ping", {"service": service, **headers}, timeout=5000))
                _read_bolt(sock)

        return exchange

    def _heartbeat(self) -> None:
        with connect(self.ports["bolt in"]) as sock:
            sock.sendall(bolt.heartbeat(3))
            _read_bolt(sock)

    def _dubbo(self) -> None:
        with connect(self.ports["dubbo in"]) as sock:
            sock.sendall(dubbo.call(5, "S", "m", attachments={"path": "S", "interface": "S", "service": "S"}))
            [length] = struct.unpack(">I", read_exactly(sock, 16)[12:])
            read_exactly(sock, length)

    def _recorded(self, listener: str, name: str, exchange: Callable[[], None]) -> None:
        exchange()
        found: list[dict[str, Any]] = []

        def has_come() -> bool:
            found.extend(self._new_lines())
            return bool(found)

        eventually(has_come, NO_LINE)
        assert len(found) <= 1, f"{listener}, {name}: {found}"
        self.outcomes[f"{listener} {name}"] = found[0] if found else {"file": "none"}

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        for kind, file in FILES.items():
            with contextlib.suppress(FileNotFoundError):
                content = (self.folder / "digests" / file).read_bytes()
                new = content[self._seen[kind] : content.rfind(b"\n") + 1]
                self._seen[kind] += len(new)
                for line in new.decode().splitlines():
                    yield outcome(kind, line)


def outcome(kind: str, line: str) -> dict[str, Any]:
    """The outcome of a line."""
    try:
        pairs, is_json = json.loads(line, object_pairs_hook=list), True
    except ValueError:
        pairs, is_json = re.findall(r'"([^"]+)":"(.*?)"(?=,"|}$)', line), False
    return {"file": kind, "keys": [key for key, _ in pairs], "is_json": is_json, **dict(pairs)}


def _read_bolt(sock: socket.socket) -> None:
    frame, rest = None, b""
    while frame is None:
        data = sock.recv(65_536)
        assert data, "no response"
        frame, rest = bolt.parse(rest + data)


def _table(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": routes}]}


def _cluster(name: str, *ports: int) -> dict[str, Any]:
    hosts = [{"address": f"127.0.0.1:{port}"} for port in ports]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}


def run(world: World, command: list[str], environment: dict[str, str]) -> None:
    """Runs a program, `command` and the name of the file, through all requests."""
    path = world.folder / "conf" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(world.config(), indent=1))
    output = world.folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, str(path)], cwd=world.folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        assert eventually(lambda: all(map(accepts, [*world.ports.values(), world.admin]))), output.read_text()
        world.send()
    finally:
        end(process)
