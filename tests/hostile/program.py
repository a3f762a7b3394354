"""The program under test for the rig: one worker, one hop and two, access logs that name client, status and reason word."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.visitor import Connect, connect_plainly, connect_securely
from tests.kit import certificates
from tests.system.plain_sockets import dead_sockets, port_of
from tests.system.pymosn_process import READY, Pymosn, _cluster, free_ports

#: The last three are what a client chooses: whatever it says, one request is one line.
LOG_FORMAT = (
    "%downstream_direct_remote_address% %response_code% %reason% "
    "%request_path% %request_header_user-agent% %request_header_x%"
)
#: Expressions that take an engine which goes back without end.
EVIL_PATTERNS = ("^/evil/(a+)+$", "^/evil/([a-zA-Z]+)*$", "^/evil/(a|aa)+$", "^/evil/(.*a){25}$")


class Program:
    """A running pymosn. `one_hop` and `two_hops` are ports, `worker` a process id; `logs()` what was logged, by client.

    `dead`: a port that refuses. `http1`: settings of the listeners that clients connect to, `inner` those of the second
    hop. `server`: further keys. `tls`: clients and the first hop connect with TLS; only the upstream is plain.
    """

    def __init__(
        self,
        directory: Path,
        upstream_port: int,
        dead: int,
        http1: dict[str, Any] | None = None,
        inner: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        tls: bool = False,
    ) -> None:
        self._tls = tls
        #: How clients connect.
        self.connect: Connect = connect_securely if tls else connect_plainly
        self.one_hop, self.two_hops, self._inner = free_ports(3)
        self.worker = 0
        self._directory = directory
        routes = [_direct("/direct", 200, "direct"), _direct("/denied", 401, "no")]
        routes += [{"match": {"regex": pattern}, "direct_response": {"status": 200}} for pattern in EVIL_PATTERNS]
        routes += [_route("down", "/down"), _route("nobody", "/nobody"), _route("up")]
        listeners = [
            self._listener("one", self.one_hop, "out", http1),
            self._listener("two", self.two_hops, "in", http1),
            self._listener("inner", self._inner, "out", inner),
        ]
        tables = [_table("out", routes), _table("in", [_route("hop")])]
        hop = _cluster("hop", self._inner)
        if tls:
            ca = certificates.ca().certificate.decode()
            hop["tls_context"] = {"status": True, "ca_cert": ca, "server_name": "server.test"}
        clusters = [_cluster("up", upstream_port), hop, _cluster("down", dead)]
        clusters.append({**_cluster("nobody", dead), "hosts": []})
        self.config: dict[str, Any] = {
            "admin": {"socket": "admin.sock"},
            "servers": [
                {"default_log_path": "stdout", "processor": 1, "routers": tables, "listeners": listeners, **(server or {})}
            ],
            "cluster_manager": {"clusters": clusters},
        }

    def _listener(self, name: str, port: int, table: str, http1: dict[str, Any] | None) -> dict[str, Any]:
        proxy: dict[str, Any] = {"downstream_protocol": "Http1", "router_config_name": table}
        if http1:
            proxy["extend_config"] = http1
        chain: dict[str, Any] = {"filters": [{"type": "proxy", "config": proxy}]}
        if self._tls:
            own = certificates.server()
            pem = {"cert_chain": own.certificate.decode(), "private_key": own.key.decode()}
            chain["tls_context"] = {"status": True, **pem}
        return {
            "name": name,
            "address": f"127.0.0.1:{port}",
            "bind_port": True,
            "access_logs": [{"log_path": str(self.log_path(name)), "log_format": LOG_FORMAT}],
            "filter_chains": [chain],
        }

    def log_path(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def port(self, hops: int) -> int:
        """Where to connect for that many hops."""
        return self.one_hop if hops == 1 else self.two_hops

    def count_lines(self, *names: str) -> int:
        """Lines in these access logs."""
        return sum(self.log_path(name).read_bytes().count(b"\n") for name in names)

    def logs(self, name: str) -> dict[str, list[tuple[int, str]]]:
        """Status and reason word of each line, by client address, in order."""
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for line in self.log_path(name).read_text().splitlines():
            client, status, reason = line.split(" ")[:3]
            found[client.rpartition(":")[0]].append((int(status), reason))
        return found


class Http2Program(Program):
    """The same for clients of HTTP/2. Two hops speak HTTP/2 with each other, and the last one HTTP/1 with the upstream."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for listener in self.config["servers"][0]["listeners"]:
            listener["filter_chains"][0]["filters"][0]["config"]["downstream_protocol"] = "Http2"
        for cluster in self.config["cluster_manager"]["clusters"]:
            cluster["upstream_protocol"] = "Http2" if cluster["name"] == "hop" else "Http1"


def _route(cluster: str, prefix: str = "/") -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "route": {"cluster_name": cluster}}


def _direct(prefix: str, status: int, body: str) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "direct_response": {"status": status, "body": body}}


def _table(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": routes}]}


@contextlib.contextmanager
def running(
    directory: Path,
    upstream_port: int,
    http1: dict[str, Any] | None = None,
    inner: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    ready: str = READY,
    tls: bool = False,
    kind: type[Program] | None = None,
) -> Iterator[Program]:
    """Starts the program, waits until it says `ready`, and ends it."""
    with dead_sockets(1) as (dead,):
        program = (kind or Program)(directory, upstream_port, port_of(dead), http1, inner, server, tls)
        path = directory / "mosn.json"
        path.write_text(json.dumps(program.config))
        process = Pymosn(["-c", str(path)], directory, {})
        try:
            process.wait_for(READY)
            process.wait_for(ready)
            program.worker = process.worker_pids()[0]
            yield program
        finally:
            process.end()
