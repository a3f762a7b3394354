"""Rows of the table `files`: odd values in a configuration, and what a program does with them.

Each row has a listener, a router table and a cluster of its own in one configuration, so that one start serves for many
rows. Keys `listener`, `proxy`, `table`, `virtual_host`, `route`, `cluster`, `member` (the cluster's host) are merged into
them; `server`, `file` and `replaced` (texts in the file) change the rest, and need a start of their own; `alone` says why a
row needs one of MOSN. `(absent)` removes a key. `request` is sent to the listener.
"""

from __future__ import annotations

import copy
import http.client
import http.server
import json
import socket
import threading
from pathlib import Path
from typing import Any

from pymosn_process import free_ports
from tests.golden.mosn_table import Row

Config = dict[str, Any]

ABSENT = "(absent)"
#: Keys of rows that change what all rows share.
_ALONE = ("server", "file", "replaced")
#: Seconds to wait for a response.
_PATIENCE = 20.0


class Echo(http.server.BaseHTTPRequestHandler):
    """The upstream: returns what it received, as JSON; never answers `/silent`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.server.stopped.wait()  # type: ignore[attr-defined]
            return
        fields = {name.lower(): self.headers.get_all(name) for name in self.headers}
        body = json.dumps({"path": self.path, "headers": fields}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class EchoServer:
    """A server of `Echo` on a free port."""

    def __init__(self) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        self._server.daemon_threads = True
        self._stopped = self._server.stopped = threading.Event()  # type: ignore[attr-defined]
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


def is_alone(row: Row) -> bool:
    """Whether a row needs a start of its own."""
    return any(key in row.given for key in _ALONE)


class World:
    """The configuration of some rows, and the ports of their listeners."""

    def __init__(self, rows: list[Row], folder: Path, upstream: int) -> None:
        """`folder`: for the pid file. `upstream`: the port of an `EchoServer`."""
        self._upstream = upstream
        self.ports = dict(zip([row.case for row in rows], free_ports(len(rows)), strict=True))
        server: Config = {
            "default_log_path": "stdout",
            "default_log_level": "INFO",
            "processor": 1,
            "listeners": [],
            "routers": [],
        }
        self.config: Config = {
            "servers": [server],
            "cluster_manager": {"clusters": []},
            "pid": str(folder / "pid"),
            "disable_upgrade": True,
        }
        for i, row in enumerate(rows):
            self._add(row, i, server)
        for row in rows:
            merge(server, row.given.get("server", {}))
            merge(self.config, row.given.get("file", {}))
        self.text = json.dumps(self.config, indent=1)
        for row in rows:
            for old, new in row.given.get("replaced", {}).items():
                assert old in self.text
                self.text = self.text.replace(old, new, 1)

    def _add(self, row: Row, index: int, server: Config) -> None:
        """Adds the parts of a row, in which UPSTREAM is the upstream's address, UPPORT its port, (N) the row's number."""
        names = {"UPSTREAM": f"127.0.0.1:{self._upstream}", "UPPORT": str(self._upstream), "(N)": str(index)}
        text = json.dumps(row.given)
        for name, value in names.items():
            text = text.replace(name, value)
        given = json.loads(text)
        member = merge({"address": f"127.0.0.1:{self._upstream}"}, given.get("member", {}))
        cluster = {"name": f"c{index}", "lb_type": "LB_ROUNDROBIN", "hosts": [member]}
        route: Config = {"match": {"prefix": "/"}, "route": {"cluster_name": f"c{index}"}}
        host: Config = {"name": f"v{index}", "domains": ["*"], "routers": [merge(route, given.get("route", {}))]}
        table = {"router_config_name": f"r{index}", "virtual_hosts": [merge(host, given.get("virtual_host", {}))]}
        proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": f"r{index}"}
        filter = {"type": "proxy", "config": merge(proxy, given.get("proxy", {}))}
        listener: Config = {
            "name": f"l{index}",
            "address": f"127.0.0.1:{self.ports[row.case]}",
            "bind_port": True,
            "filter_chains": [{"filters": [filter]}],
        }
        server["listeners"].append(merge(listener, given.get("listener", {})))
        server["routers"].append(merge(table, given.get("table", {})))
        self.config["cluster_manager"]["clusters"].append(merge(cluster, given.get("cluster", {})))


def merge(into: Config, change: Config) -> Config:
    """Merges objects; any other value replaces, and `(absent)` removes."""
    for key, value in change.items():
        if value == ABSENT:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
    return into


def outcome(row: Row, port: int) -> Config:
    """What the program does with the row's request: status, headers, and what the upstream received, if it did.

    The status is 0 if the connection ends without a response.
    """
    asked = row.given.get("request", {})
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        client.putrequest(asked.get("method", "GET"), asked.get("path", "/a/b"), skip_host="host" in asked)
        if "host" in asked:
            client.putheader("Host", asked["host"])
        for name, value in asked.get("headers", []):
            client.putheader(name, value)
        client.endheaders()
        response = client.getresponse()
        body = response.read().decode("latin-1")
    except (OSError, http.client.HTTPException):
        return {"starts": True, "status": 0}
    finally:
        client.close()
    found: Config = {"starts": True, "status": response.status, "body": body}
    # A header that a row names as null must not be there.
    found["headers"] = dict.fromkeys(asked_headers(row)) | {name.lower(): value for name, value in response.getheaders()}
    if response.headers.get("content-type", "").startswith("application/json"):
        found["received"] = json.loads(body)
    return found


def asked_headers(row: Row) -> list[str]:
    """The headers of the response that a row looks at."""
    return [name for expected in (row.mosn, row.ours) for name in expected.get("headers", {})]


def effects(rows: list[Row], world: World) -> dict[str, Config]:
    """What a running program does with the request of each row, by its case."""
    return {row.case: outcome(row, world.ports[row.case]) for row in rows}


def is_open(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
