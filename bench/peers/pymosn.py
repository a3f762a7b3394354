"""pymosn: as built, interpreted, and from another source tree."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import measure
from bench.cases import ASYNC, CHUNK, HEADER, HTTP1, HTTP2, host_name, route_kinds
from bench.machine import free_port
from bench.peers.base import Peer, Plan, first_line
from bench.void import Unavailable

SOURCE = Path(__file__).resolve().parents[2] / "src"
FILTER_FILE = Path(__file__).resolve().parents[1] / "filters.py"
WORKER_MODULE = "pymosn.server.worker"
FILTER_CLASSES = {HEADER: "HeaderFilter", ASYNC: "AsyncHeaderFilter", CHUNK: "ChunkFilter"}


class Pymosn(Peer):
    """The pymosn that `python` imports, or that of this repository's `src` if it is not installed there."""

    name = "pymosn"
    takes_hosts = True
    takes_routes = True
    takes_streams = True
    kinds = (HEADER, ASYNC, CHUNK)
    ways = ((HTTP1, HTTP1), (HTTP2, HTTP1), (HTTP2, HTTP2))

    def __init__(self, python: str) -> None:
        self.python = python
        self.source: Path | None = None
        if not self._runs():
            self.source = SOURCE
        self.build = self._build()

    def version(self) -> str:
        return f"{self.build} ({self._location()})"

    def environment(self) -> Mapping[str, str] | None:
        if self.source is None:
            return None
        return {**os.environ, "PYTHONPATH": str(self.source)}

    def command(self, plan: Plan) -> list[str]:
        path = plan.directory / "pymosn.json"
        path.write_text(json.dumps(configuration(plan, free_port()), indent=1))
        return [self.python, "-m", "pymosn", "start", "-c", str(path), "--workers", "1"]

    def split(self, process: subprocess.Popen[bytes]) -> tuple[list[int], list[int]]:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            children = measure.children(process.pid)
            workers = [pid for pid in children if WORKER_MODULE in measure.command_line(pid)]
            if workers:
                if len(workers) > 1:
                    raise Unavailable(f"{self.name} has {len(workers)} workers instead of 1")
                return workers, [process.pid, *(pid for pid in children if pid not in workers)]
            time.sleep(0.02)
        raise Unavailable(f"{self.name}: no child process runs {WORKER_MODULE}")

    def _runs(self) -> bool:
        command = [self.python, "-c", "import pymosn.version"]
        return subprocess.run(command, capture_output=True, env=self.environment(), timeout=30).returncode == 0

    def _build(self) -> str:
        try:
            return first_line([self.python, "-m", "pymosn", "version"], self.environment())
        except (OSError, subprocess.SubprocessError) as fault:
            output = getattr(fault, "stdout", None) or str(fault)
            raise Unavailable(f"{self.name} does not run: {output.strip().splitlines()[-1]}") from None

    def _location(self) -> str:
        code = "import pymosn, os; print(os.path.dirname(pymosn.__file__))"
        return first_line([self.python, "-c", code], self.environment())


class Interpreted(Pymosn):
    """The same source without its compiled modules, copied to a temporary directory."""

    name = "pymosn-interpreted"

    def __init__(self, python: str) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="pymosn-interpreted-")
        self.source = Path(self._copy.name)
        skip = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(SOURCE / "pymosn", self.source / "pymosn", ignore=skip)
        self.python = python
        self.build = self._build()


class Baseline(Pymosn):
    """The pymosn of another source tree, such as a checkout of an older version."""

    name = "pymosn-baseline"

    def __init__(self, python: str, source: Path | None) -> None:
        if source is None or not (source / "pymosn").is_dir():
            raise Unavailable(f"{self.name}: --baseline must be a directory that contains the package pymosn")
        self.python = python
        self.source = source.resolve()
        self.build = self._build()


def _match(kind: str, value: str) -> dict[str, Any]:
    if kind == "header":
        return {"prefix": "/", "headers": [{"name": "x-route", "value": value}]}
    return {kind: value}


def configuration(plan: Plan, admin_port: int) -> dict[str, Any]:
    """A MOSN configuration: one listener, one router, one cluster with one host."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": plan.front, "router_config_name": "router"}}
    chain: dict[str, Any] = {"filters": [proxy]}
    if plan.certificate is not None:
        files = {"cert_chain": str(plan.certificate.chain), "private_key": str(plan.certificate.key)}
        alpn = {"alpn": "h2"} if plan.front == HTTP2 else {}
        chain["tls_context"] = {"status": True, **files, **alpn}
    listener = {
        "name": "front",
        "address": f"127.0.0.1:{plan.port}",
        "bind_port": True,
        "stream_filters": [
            {"type": "python", "config": {"path": str(FILTER_FILE), "class": FILTER_CLASSES[plan.kind], "number": k}}
            for k in plan.filter_numbers
        ],
        "filter_chains": [chain],
    }
    names = [host_name(index) for index in range(plan.hosts)] or ["*"]
    action = {"cluster_name": "up"}
    if plan.back != plan.front:
        action["upstream_protocol"] = plan.back
    routes = [{"match": _match(kind, value), "route": action} for kind, value in route_kinds(plan.routes)]
    router = {
        "router_config_name": "router",
        "virtual_hosts": [{"name": name, "domains": [name], "routers": routes} for name in names],
    }
    server = {
        "mosn_server_name": "bench",
        "default_log_path": "stdout",
        "default_log_level": "WARN",
        "processor": 1,
        "routers": [router],
        "listeners": [listener],
    }
    cluster = {
        "name": "up",
        "type": "SIMPLE",
        "lb_type": "LB_ROUNDROBIN",
        "hosts": [{"address": f"127.0.0.1:{plan.upstream_port}"}],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}
    admin = {"address": address, "socket": f"admin-{plan.port}.sock"}
    return {"admin": admin, "servers": [server], "cluster_manager": {"clusters": [cluster]}}
