"""Runs the rows of `tests/golden/mosn/variables.yaml`: what a program logs and counts for the same bytes.

The program under test, pymosn or MOSN, is started once with `World.config`. All requests of `World.send` are sent, one after
the other. Of each, the access log of its listener shows all variables; at the end come all metrics. A row has one of

    request   the name of a request; the outcome: its variables, by name
    stats     type and group of metrics; the outcome: numbers as text, by key
    log       nothing; the outcome: the whole process log
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from h2_peers import H2Client, H2Server
from plain_sockets import accepts, connect, read_exactly, read_until
from pymosn_process import end, eventually, free_ports, get
from tests.golden.mosn_table import Row, meets
from tests.kit import bolt_frames as bolt
from thread_server import ThreadServer

#: What the access logs of all listeners show.
VARIABLES: Final = (
    *("start_time", "request_received_duration", "response_received_duration", "request_finished_duration"),
    *("process_time_duration", "duration", "bytes_sent", "bytes_received", "protocol", "response_code", "response_flag"),
    *("response_flags", "upstream_local_address", "downstream_local_address", "downstream_remote_address"),
    *("upstream_host", "upstream_transport_failure_reason", "upstream_cluster", "requested_server_name", "route_name"),
    *("request_header_x-one", "request_header_X-One", "request_header_absent", "response_header_x-reply"),
    *("stream_id", "trace_id", "connection_id", "upstream_connection_id", "listener_port", "listener_name"),
    *("listener_type", "conn_default_read_buffer_size", "connection_fd", "ori_remote_addr", "downstream_protocol"),
    *("upstream_protocol", "connection_pool_index", "span_key", "trace_span", "protocol_config"),
    *("Http1_request_scheme", "Http1_request_method", "Http1_request_length", "Http1_request_uri", "Http1_request_path"),
    *("Http1_request_path_original", "Http1_request_arg", "Http1_request_header_x-one", "Http1_request_arg_a"),
    *("Http1_cookie_c", "Http1_request_header_absent", "Http2_request_scheme", "Http2_request_header_x-one"),
    *("Http2_cookie_c", "Http2_request_length", "Http2_request_path", "request_path", "request_uri", "request_arg"),
    *("request_scheme", "request_method", "cookie_c", "request_arg_a", "x-mosn-host", "x-mosn-path", "x-mosn-method"),
    *("x-mosn-path-original", "x-mosn-querystring", "x-mosn-scheme", "x-mosn-status", "x-mosn-direction", "authority"),
    *("x-mosn-rpc-service", "x-mosn-rpc-method", "x-mosn-router-meta", "proxy_try_timeout", "proxy_global_timeout"),
    *("proxy_hijack_status", "proxy_gzip_switch", "proxy_direct_response", "proxy_disable_retry", "upstream_index"),
    *("listener_match_fallback_ip", "gRPC_serviceName", "requestResult", "Dubbo_service", "Dubbo_method", "nonsense"),
)
FORMAT: Final = "\t".join(f"{name}=%{name}%" for name in VARIABLES)
#: Seconds to wait for a line in the process log; a row that needs them all has failed.
LATE: Final = 5.0
#: A request and its response.
Exchange = Callable[[], None]


class Upstreams:
    """Hosts for all protocols: they answer `reply`, or what the path says."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.http1 = ThreadServer(self._http1)
        self.http2 = H2Server()
        self.bolt = ThreadServer(self._bolt)
        self.tcp = ThreadServer(self._tcp)

    def _http1(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError):
            while True:
                head = read_until(sock, b"\r\n\r\n")
                head, _, body = head.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if length:
                    read_exactly(sock, int(length[1]) - len(body))
                elif b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
                    read_until(sock, b"0\r\n\r\n")
                path = head.split(b" ")[1]
                if b"/close" in path:
                    return
                if b"/slow" in path:
                    self.gate.wait(10)
                status = b"503 Service Unavailable" if b"/503" in path else b"200 OK"
                end = b"Connection: close\r\n" if b"/last" in path else b""
                sock.sendall(b"HTTP/1.1 " + status + b"\r\n" + end + b"X-Reply: r\r\nContent-Length: 5\r\n\r\nhello")
                if end:
                    return
        sock.close()

    def _bolt(self, sock: socket.socket) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                frame, rest = bolt.parse(rest + data)
                while frame is not None:
                    if frame.command == 0:
                        sock.sendall(bolt.heartbeat_ack(frame.request_id))
                    else:
                        sock.sendall(bolt.response(frame.request_id, b"pong", {"x-reply": "r"}))
                    frame, rest = bolt.parse(rest)

    def _tcp(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(b"hello " + sock.recv(100))
            sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.gate.set()
        for server in (self.http1, self.http2, self.bolt, self.tcp):
            server.close()


def _table(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": routes}]}


def _route(prefix: str, **action: Any) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "route": {"timeout": "10s", **action}}


def _service(name: str, cluster: str) -> dict[str, Any]:
    return {"match": {"headers": [{"name": "service", "value": name}]}, "route": {"cluster_name": cluster, "timeout": "10s"}}


def _cluster(name: str, *ports: int, **more: Any) -> dict[str, Any]:
    hosts = [{"address": f"127.0.0.1:{port}"} for port in ports]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts, **more}


class World:
    """The configuration, the requests, and what a program makes of them."""

    def __init__(self, folder: Path, upstreams: Upstreams, has_lost: bool = False) -> None:
        """`has_lost`: with a listener whose router table does not exist, which MOSN starts."""
        self.has_lost = has_lost
        self.folder = folder
        self.upstreams = upstreams
        self.http1, self.http2, self.bolt, self.tcp, self.lost, self.admin, self.dead = free_ports(7)
        self.log = folder / "process.log"
        #: For each request the variables of its line in the access log.
        self.outcomes: dict[str, dict[str, str]] = {}
        self.stats: dict[str, dict[str, dict[str, str]]] = {}

    def config(self) -> dict[str, Any]:
        listeners = [
            self._listener("http1", self.http1, {"downstream_protocol": "Http1", "router_config_name": "http1"}),
            self._listener("http2", self.http2, {"downstream_protocol": "Http2", "router_config_name": "http2"}),
            self._listener("bolt", self.bolt, {"downstream_protocol": "bolt", "router_config_name": "bolt"}),
            self._listener("tcp", self.tcp, {"cluster": "tcp"}, "tcp_proxy"),
        ]
        if self.has_lost:
            config = {"downstream_protocol": "Http1", "router_config_name": "absent"}
            listeners.append(self._listener("lost", self.lost, config))
        subset = {"subset_selectors": [["stage"]], "fall_back_policy": 1}
        host = {
            "address": f"127.0.0.1:{self.upstreams.http1.port}",
            "metadata": {"filter_metadata": {"mosn.lb": {"stage": "a"}}},
        }
        server = {
            "default_log_path": str(self.log),
            "default_log_level": "INFO",
            "processor": 1,
            "listeners": listeners,
            "routers": self._tables(),
        }
        clusters = [
            _cluster("up", self.upstreams.http1.port),
            _cluster("h2", self.upstreams.http2.port),
            _cluster("rpc", self.upstreams.bolt.port),
            _cluster("tcp", self.upstreams.tcp.port),
            _cluster("dead", self.dead),
            _cluster("empty"),
            _cluster("parts", lb_subset_config=subset) | {"hosts": [host]},
        ]
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}
        return {"servers": [server], "cluster_manager": {"clusters": clusters}, "admin": {"address": address}}

    def _listener(self, name: str, port: int, config: dict[str, Any], kind: str = "proxy") -> dict[str, Any]:
        return {
            "name": name,
            "type": "ingress",
            "address": f"127.0.0.1:{port}",
            "bind_port": True,
            "access_logs": [{"log_path": str(self.folder / f"{name}.log"), "log_format": FORMAT}],
            "filter_chains": [{"filters": [{"type": kind, "config": config}]}],
        }

    def _tables(self) -> list[dict[str, Any]]:
        wanted = {"filter_metadata": {"mosn.lb": {"stage": "b"}}}
        http1 = [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": "direct"}},
            {"match": {"prefix": "/moved"}, "redirect": {"response_code": 302, "path_redirect": "/elsewhere"}},
            _route("/dead", cluster_name="dead"),
            _route("/empty", cluster_name="empty"),
            _route("/unknown", cluster_variable="request_header_x-cluster"),
            _route("/late/", cluster_name="up") | {"route": {"cluster_name": "up", "timeout": "0.2s"}},
            _route("/rewritten/", cluster_name="up", prefix_rewrite="/new/"),
            _route("/parts", cluster_name="parts", metadata_match=wanted),
            _route("/up", cluster_name="up"),
        ]
        http2 = [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": "direct"}},
            _route("/up", cluster_name="h2"),
        ]
        services = [_service("up", "rpc"), _service("dead", "dead"), _service("empty", "empty")]
        chosen = {"cluster_variable": "request_header_service", "timeout": "10s"}
        services.append({"match": {"headers": [{"name": "service", "value": "unknown"}]}, "route": chosen})
        return [_table("http1", http1), _table("http2", http2), _table("bolt", services)]

    def ports(self) -> tuple[int, ...]:
        """Those that the program listens on, without that of tcp_proxy, which counts every connection."""
        return self.http1, self.http2, self.bolt, self.admin

    def named(self, group: str) -> str:
        """The name of a group of metrics in which words stand for ports."""
        for name, port in (("UP", self.upstreams.http1.port), ("DEAD", self.dead)):
            group = group.replace(name, str(port))
        return group

    # ---- the requests

    def send(self) -> None:
        """Sends all requests, and reads what became of them."""
        one = b"X-One: 1\r\nCookie: c=cc; d=dd\r\n"
        self._http1("http1 forwarded", b"GET /up/a%20b/x?a=1&b=2 HTTP/1.1\r\nHost: Here.example\r\n" + one)
        self._http1("http1 with a body", b"POST /up/body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n", b"12345")
        self._http1(
            "http1 in chunks",
            b"POST /up/c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n",
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )
        self._http1("http1 rewritten", b"GET /rewritten/p?q=1 HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 direct", b"GET /direct HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 direct with a body", b"POST /direct HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n", b"12345")
        self._http1("http1 redirected", b"GET /moved HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 without route", b"GET /nowhere HTTP/1.1\r\nHost: h\r\n" + one)
        self._http1("http1 to no cluster", b"GET /unknown HTTP/1.1\r\nHost: h\r\nX-Cluster: none\r\n")
        self._http1("http1 to no host", b"GET /empty HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 to a dead host", b"GET /dead HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 answered by 503", b"GET /up/503 HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 closed by the host", b"GET /up/close HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 last on its connection", b"GET /up/last HTTP/1.1\r\nHost: h\r\n")
        self._http1("http1 too late", b"GET /late/slow HTTP/1.1\r\nHost: h\r\n")
        self.upstreams.gate.set()
        self._http1("http1 to another subset", b"GET /parts HTTP/1.1\r\nHost: h\r\n")
        if self.has_lost:
            self._http1("http1 without table", b"GET /up HTTP/1.1\r\nHost: h\r\n", port=self.lost, listener="lost")
        self._recorded("http1 not HTTP", "http1", self._garbage, is_logged=False)
        for name, path in (
            ("http2 forwarded", "/up/x?a=1"),
            ("http2 direct", "/direct"),
            ("http2 without route", "/nowhere"),
        ):
            self._http2(name, path)
        for service in ("up", "unknown", "empty", "dead", "nobody"):
            self._bolt(f"bolt to {service}", service)
        self._recorded("bolt with a broken frame", "bolt", self._broken_frame, is_logged=False)
        self._recorded("tcp", "tcp", self._tcp, is_logged=False)
        self.stats = json.loads(get(self.admin, "/api/v1/stats")[1])

    def _http1(self, name: str, head: bytes, body: bytes = b"", port: int = 0, listener: str = "http1") -> None:
        def exchange() -> None:
            with connect(port or self.http1) as sock:
                sock.sendall(head + b"\r\n" + body)
                reply = read_until(sock, b"\r\n\r\n")
                reply, _, rest = reply.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", reply)
                if length:
                    read_exactly(sock, int(length[1]) - len(rest))

        self._recorded(name, listener, exchange)

    def _http2(self, name: str, path: str) -> None:
        def exchange() -> None:
            with H2Client(self.http2) as client:
                client.request("GET", path, [("x-one", "1"), ("cookie", "c=cc")])

        self._recorded(name, "http2", exchange)

    def _bolt(self, name: str, service: str) -> None:
        def exchange() -> None:
            with connect(self.bolt) as sock:
                sock.sendall(bolt.request(7, b"ping", {"service": service, "x-one": "1"}, timeout=5000))
                frame, rest = None, b""
                while frame is None:
                    frame, rest = bolt.parse(rest + sock.recv(65536))

        self._recorded(name, "bolt", exchange)

    def _garbage(self) -> None:
        with connect(self.http1) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(b"\x00\x01\x02\x03 garbage\r\n\r\n")
            while sock.recv(1000):
                pass

    def _broken_frame(self) -> None:
        with connect(self.bolt) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(bolt.request(7, b"ping")[:1] + b"\x09" * 40)
            while sock.recv(1000):
                pass

    def _tcp(self) -> None:
        with connect(self.tcp) as sock:
            sock.sendall(b"you")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1000):
                pass

    def _recorded(self, name: str, listener: str, exchange: Exchange, is_logged: bool = True) -> None:
        """Runs one exchange, and keeps the new lines of the logs."""
        path = self.folder / f"{listener}.log"
        before = _size(path)
        exchange()
        if is_logged:
            assert eventually(lambda: _size(path) > before), f"{name}: no line in the access log"
            self.outcomes[name] = _variables(path.read_bytes()[before:])


def _size(path: Path) -> int:
    """Bytes of a file; of its whole lines."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().rfind(b"\n") + 1
    return 0


def _variables(lines: bytes) -> dict[str, str]:
    """The variables of the first line of an access log."""
    line = lines.decode().splitlines()[0]
    return dict(part.partition("=")[::2] for part in line.split("\t"))


def meets_row(world: World, row: Row, expected: Any) -> bool:
    """Whether a row's outcome is `expected`. Lines of the process log may still come."""
    if "log" in row.given or row.given.get("request") == "tcp":
        return eventually(lambda: meets(found_for(world, row), expected), LATE)
    return meets(found_for(world, row), expected)


def found_for(world: World, row: Row) -> Any:
    """What a row is about."""
    if "log" in row.given:
        return world.log.read_text()
    if "stats" in row.given:
        kind, name = row.given["stats"].split(" ")
        return world.stats.get(kind, {}).get(world.named(name), {})
    request = row.given["request"]
    if request == "tcp":  # MOSN logs none of these
        return _variables(path.read_bytes().splitlines()[-1]) if _size(path := world.folder / "tcp.log") else "no line"
    return world.outcomes.get(request, {})


@contextlib.contextmanager
def ran(world: World, command: list[str], environment: dict[str, str]) -> Iterator[World]:
    """Runs a program, `command` and the name of the file, through all requests."""
    path = world.folder / "conf" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(world.config(), indent=1))
    with (world.folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, str(path)], cwd=world.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        assert eventually(lambda: all(accepts(port) for port in world.ports())), (world.folder / "output").read_text()
        world.send()
        yield world
    finally:
        end(process)
