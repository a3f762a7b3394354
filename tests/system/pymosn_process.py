"""Real processes: pymosn as a child, an HTTP upstream beside it, free ports, and an end for each of them."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.machine import free_port
from tests.kit.unix_http import post_unix

from pymosn.server.worker_process import worker_environment

READY = r"ready: .* serve"
#: Seconds to wait for what must come; other load on the machine may slow it down. A test that needs them all has failed.
PATIENCE = 40.0


class Pymosn:
    """A running `pymosn start`, or another `verb` that serves. Its output is kept line by line."""

    def __init__(
        self, arguments: list[str], directory: Path, environment: dict[str, str], before: str = "", verb: str = "start"
    ) -> None:
        """`before`: a shell command, such as `ulimit -n 100`, that the process runs before it becomes pymosn."""
        limit = ["sh", "-c", f'{before} && exec "$0" "$@"'] if before else []
        command = [*limit, sys.executable, "-m", "pymosn", verb, *arguments]
        self._run(command, directory, {**worker_environment(os.environ), **environment})

    def _run(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> "re.Match[str]":
        """The first line that matches, once it is there."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            found[:] = [match for line in self.lines if (match := re.search(pattern, line))]
            return bool(found) or not self._reader.is_alive()

        with self._news:
            self._news.wait_for(is_there, timeout)
        assert found, f"no line matches {pattern!r} in:\n{self.output}"
        return found[0]

    def worker_pids(self) -> list[int]:
        """The live workers, from /proc."""
        return children(self.process.pid, "pymosn.server.worker")

    @property
    def admin_socket(self) -> str:
        """The unix socket of the admin API, once it is served."""
        return self.wait_for(r"admin API for changes on unix:(.+)")[1]

    def post(self, target: str, value: Any = None) -> tuple[int, Any]:
        """Makes a change through the admin API: the status and the JSON of the response."""
        return post_unix(self.admin_socket, target, value, PATIENCE)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, timeout: float = PATIENCE) -> int:
        code = self.process.wait(timeout)
        self._reader.join(timeout)  # what it said is looked at next: all of it
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


def children(parent: int, word: str) -> list[int]:
    """Child processes with `word` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status[1]) == parent and status[0] != "Z" and word.encode() in command:
            found.append(int(entry.name))
    return sorted(found)


def state(pid: int) -> str:
    """The letter for the state of a process in /proc: `T` is stopped by a signal; `X` as well when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_alive(pid: int) -> bool:
    return state(pid) not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached every thread of a process."""
    return all(state(int(task.name)) == "T" for task in Path(f"/proc/{pid}/task").iterdir())


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry) == str(path):
                return True
        except OSError:
            pass  # closed meanwhile
    return False


def eventually(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Polls something of another process that no event tells of."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def end(process: "subprocess.Popen[Any]") -> None:
    """Terminates another program; kills it after ten seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Stopwatch:
    """Seconds since it was made, without those for which processes that must act in turn waited for a core.

    What other load on the machine takes is not their slowness. Of each group of processes, which act at the same time, the
    longest wait counts; the test's own process is one more group.
    """

    def __init__(self, *groups: Sequence[int]) -> None:
        self._groups = [[os.getpid()], *groups]
        self._waited = self._waits()
        self._began = time.monotonic()

    def _waits(self) -> list[list[float]]:
        return [[kept_waiting(pid) for pid in group] for group in self._groups]

    def seconds(self) -> float:
        elapsed = time.monotonic() - self._began
        groups = zip(self._waited, self._waits(), strict=True)
        return elapsed - sum(max(0.0, *(after - before for before, after in zip(*group, strict=True))) for group in groups)


def kept_waiting(pid: int) -> float:
    """Seconds for which the main thread of a process was ready to run and had no core; 0 when it is gone, or unknown."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Request(BaseHTTPRequestHandler):
    """The upstream: `/slow` answers when the test opens the gate, any other path at once."""

    protocol_version = "HTTP/1.1"
    gate: threading.Event
    arrived: threading.Event

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.arrived.set()
            self.gate.wait(PATIENCE + 20)  # longer than a test waits for an end that must come before
        body = f"hello from upstream, {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        try:
            self.rfile.read(int(self.headers["content-length"]))
        except ConnectionError:
            self.close_connection = True  # the proxy gave the request up
        else:
            self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Upstream:
    def __init__(self, host: str = "127.0.0.1") -> None:
        self.gate = threading.Event()
        self.arrived = threading.Event()
        handler = type("Handler", (Request,), {"gate": self.gate, "arrived": self.arrived})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.port: int = self._server.server_address[1]

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment, and that no outgoing connection is given."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def with_ports(text: str, ports: dict[int, int]) -> str:
    """A configuration with other ports, all replaced at once: a new one may contain the digits of an old one."""
    return re.sub(r"\b(" + "|".join(map(str, ports)) + r")\b", lambda match: str(ports[int(match[1])]), text)


class TwoHops:
    """MOSN's example: client -> `client_port` -> `server_port` -> the upstream; log on standard output."""

    def __init__(self, upstream_port: int) -> None:
        self.client_port, self.server_port, self.admin_port = free_ports(3)
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "graceful_timeout": "60s",  # longer than PATIENCE: no end that a test waits for is a cut
                    "processor": 2,
                    "routers": [_table("client_router", "client"), _table("server_router", "server")],
                    "listeners": [
                        _listener("clientListener", self.client_port, "client_router"),
                        _listener("serverListener", self.server_port, "server_router"),
                    ],
                }
            ],
            "cluster_manager": {"clusters": [_cluster("client", self.server_port), _cluster("server", upstream_port)]},
        }

    @property
    def server(self) -> dict[str, Any]:
        server: dict[str, Any] = self.config["servers"][0]
        return server

    def get(self, path: str = "/") -> tuple[int, str]:
        """Status and body of one request on a connection of its own."""
        return get(self.client_port, path)

    def admin(self, path: str) -> str:
        return get(self.admin_port, path)[1]


def _table(name: str, cluster: str) -> dict[str, Any]:
    """A router table that sends everything to a cluster."""
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": cluster}}
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": [route]}]}


def _listener(name: str, port: int, router: str, filters: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A listener for HTTP/1 with a router table and stream filters."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": router}}
    return {
        "name": name,
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "stream_filters": list(filters),
        "filter_chains": [{"filters": [proxy]}],
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{port}"}]}


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
