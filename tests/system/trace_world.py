"""One trace over two hops: HTTP with a retry to the second hop, and an RPC leg from it.

A client sends HTTP to the listener `front`. Its cluster has a host that refuses connections and the listener `back`, so that
about every other request is sent a second time. `back` translates the request to Bolt, whose host records what it gets. Both
listeners are those of one process, whose `tracing` is changed by reloads.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plain_sockets import connect, read_until
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports, get
from tests.kit import bolt_frames as bolt
from thread_server import ThreadServer


class Seen(NamedTuple):
    """A span as a collector shows it. `kind`: server or client. `parent`: empty for the first one of a trace."""

    trace: str
    span: str
    parent: str
    kind: str
    has_failed: bool
    peer: str


class TraceWorld:
    """The process with both hops."""

    def __init__(self, folder: Path, start: Start) -> None:
        self._path = folder / "conf" / "mosn.json"
        self.front, self.back, self.admin, self.dead = free_ports(4)
        #: The headers of each call that has reached the host of Bolt.
        self.calls: list[dict[str, str | None]] = []
        self._host = ThreadServer(self._answer)
        self.config: dict[str, Any] = self._config()
        self.proxy: Pymosn = start(self.config, "--workers", "1")
        self.proxy.wait_for(READY)
        self._version = 1

    def close(self) -> None:
        self._host.close()

    def _config(self) -> dict[str, Any]:
        transcoder = {"type": "transcoder", "config": {"type": "http2bolt_simple"}}
        listeners = [
            self._listener("front", "ingress", self.front, {"upstream_protocol": "Http1"}, []),
            self._listener(
                "back",
                "egress",
                self.back,
                {"upstream_protocol": "X", "extend_config": {"sub_protocol": "bolt"}},
                [transcoder],
            ),
        ]
        tables = [_table("front", "second hop"), _table("back", "rpc")]
        clusters = [
            _cluster("second hop", f"127.0.0.1:{self.dead}", f"127.0.0.1:{self.back}"),
            _cluster("rpc", f"127.0.0.1:{self._host.port}"),
        ]
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}
        server = {"default_log_path": "stdout", "listeners": listeners, "routers": tables}
        return {"servers": [server], "cluster_manager": {"clusters": clusters}, "admin": {"address": address}}

    def _listener(
        self, name: str, kind: str, port: int, proxy: dict[str, Any], filters: list[dict[str, Any]]
    ) -> dict[str, Any]:
        config = {"downstream_protocol": "Http1", "router_config_name": name, **proxy}
        return {
            "name": name,
            "type": kind,
            "address": f"127.0.0.1:{port}",
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": "proxy", "config": config}]}],
            "stream_filters": filters,
        }

    def _answer(self, sock: socket.socket) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := sock.recv(65_536):
                frame, rest = bolt.parse(rest + data)
                while frame is not None:
                    if frame.command == 0:
                        sock.sendall(bolt.heartbeat_ack(frame.request_id))
                    else:
                        self.calls.append(dict(frame.headers))
                        sock.sendall(bolt.response(frame.request_id, b"pong", {"x-reply": "r"}))
                    frame, rest = bolt.parse(rest)

    # ---- what tests do

    def trace_by(self, driver: str, config: dict[str, Any], propagation: Sequence[str] = ()) -> None:
        """Changes the driver by a reload."""
        self.config["tracing"] = {"enable": True, "driver": driver, "config": config, "propagation": list(propagation)}
        if not propagation:
            del self.config["tracing"]["propagation"]
        if driver == "Zipkin":
            self.config["tracing"]["sampling"] = {"rate": 1}
        before = json.loads(get(self.admin, "/api/v1/last_change")[1])["attempt"]
        self._path.write_text(json.dumps(self.config))
        self.proxy.send(signal.SIGHUP)
        assert eventually(lambda: json.loads(get(self.admin, "/api/v1/last_change")[1])["attempt"] > before)
        assert json.loads(get(self.admin, "/api/v1/last_change")[1])["applied"], self.proxy.output

    def send(self, count: int = 2) -> None:
        """Sends requests, some of which are retried; all of them succeed."""
        before = len(self.calls)
        for _ in range(count):
            with connect(self.front) as sock:
                sock.sendall(b"GET /shop?item=1 HTTP/1.1\r\nHost: here.example\r\nservice: shop\r\n\r\n")
                assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert len(self.calls) == before + count

    def counts(self, driver: str) -> dict[str, int]:
        """The metrics of a driver."""
        found = json.loads(get(self.admin, "/api/v1/stats")[1])["tracing"][f"driver.{driver}"]
        return {key: int(value) for key, value in found.items()}


def is_whole(spans: Sequence[Seen]) -> bool:
    """Whether these spans are all of one trace: of a request without a retry four, and with one five.

    The server span of the first hop, its attempts, the server span of the second hop below the last attempt, and its call.
    """
    servers = [span for span in spans if span.kind == "server"]
    clients = [span for span in spans if span.kind == "client"]
    if len(spans) not in (4, 5) or len(servers) != 2 or len({span.trace for span in spans}) != 1:
        return False
    by_id = {span.span: span for span in spans}
    roots = [span for span in servers if span.parent not in by_id]
    if len(by_id) != len(spans) or len(roots) != 1:
        return False
    [root] = roots
    [second] = [span for span in servers if span is not root]
    attempts = [span for span in clients if span.parent == root.span]
    failed = [span for span in attempts if span.has_failed]
    good = [span for span in attempts if not span.has_failed]
    calls = [span for span in clients if span.parent == second.span]
    return (
        [len(failed), len(good), len(calls)] == [len(spans) - 4, 1, 1]
        and second.parent == good[0].span
        and not calls[0].has_failed
    )


def by_trace(spans: Sequence[Seen]) -> list[list[Seen]]:
    """The spans of each trace."""
    found: dict[str, list[Seen]] = {}
    for span in spans:
        found.setdefault(span.trace, []).append(span)
    return list(found.values())


def _table(name: str, cluster: str) -> dict[str, Any]:
    policy = {"retry_on": True, "num_retries": 2}
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": cluster, "timeout": "10s", "retry_policy": policy}}
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": [route]}]}


def _cluster(name: str, *addresses: str) -> dict[str, Any]:
    hosts = [{"address": address} for address in addresses]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}
