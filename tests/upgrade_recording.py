"""Records what the two processes of an upgrade send each other: `tests/fixtures/upgrade/vN`.

`python -m tests.upgrade_recording --write` runs an upgrade of the real program, with this file as its `--command`: it starts
the successor and relays the messages with their descriptors. Process ids, times, paths and secrets are replaced. An old
version is never recorded again: its files are what another program has sent. `moved.hex`, between workers, has examples.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from bench.machine import free_port
from tests.kit.unix_http import UnixHttp

from pymosn.server.channel import Channel
from pymosn.server.upgrade.inheritance import VARIABLE
from pymosn.server.upgrade.messages import VERSION, Moved, MovedConnection, MovedSession, SessionsMoved
from pymosn.server.worker_process import worker_environment

FOLDER: Final = Path(__file__).parent / "fixtures" / "upgrade"
SIDES: Final = ("predecessor", "successor")
#: What paths begin with in the recordings.
BASE: Final = "/srv/pymosn"
PATIENCE: Final = 60.0
MOVED_EXAMPLES: Final[list[Moved]] = [
    MovedConnection(
        "tcp",
        b"GET / HT",
        ("192.0.2.1", 4000),
        ("192.0.2.2", 80),
        "192.0.2.3:80",
        bytes_read=8,
        bytes_written=9,
        requests=2,
        age=3.5,
        idle=0.5,
        protocol="Http1",
        step=1,
        chain=0,
        key="k",
    ),
    MovedSession("udp", 1, ("192.0.2.1", 4000), ("192.0.2.4", 53), "dns", 10, 20, 3.5, 0.5, "dns.test:53", socket=7),
    SessionsMoved("udp", 1, 7),
]


class AnyMessage:
    """Decodes nothing, so that what is relayed stays as it is."""

    def decode(self, payload: bytes) -> msgspec.Raw:
        return msgspec.Raw(payload)


async def relay(folder: Path, arguments: list[str]) -> int:
    """Is the successor for its predecessor, and the predecessor for the successor; writes what they send."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    upstream = socket.socket(fileno=int(os.environ[VARIABLE]))
    environment = {**os.environ, VARIABLE: str(theirs.fileno())}
    command = [sys.executable, "-m", "pymosn", *arguments]
    process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    ends: dict[str, Channel[Any]] = {}

    def pass_on(side: str, message: msgspec.Raw, descriptors: list[int]) -> None:
        with (folder / f"{side}.hex").open("a") as file:
            file.write(f"{bytes(message).hex()}\n")
        ends[side].send(message, descriptors)
        while not ends[side].is_flushed:
            ends[side]._write()
        for descriptor in descriptors:
            os.close(descriptor)

    decoder: Any = AnyMessage()
    closed = asyncio.Event()
    ends["successor"] = Channel(loop, upstream, decoder, lambda m, d: pass_on("predecessor", m, d), lambda _: closed.set())
    ends["predecessor"] = Channel(loop, ours, decoder, lambda m, d: pass_on("successor", m, d), lambda _: closed.set())
    loop.add_signal_handler(signal.SIGTERM, process.terminate)
    await closed.wait()
    for end in ends.values():
        end.close()
    return await process.wait()


def clean(value: Any, folder: str) -> Any:
    """A value without what belongs to the machine: process ids, times, paths and secrets."""
    match value:
        case dict():
            return {key: _clean_field(str(key), item, folder) for key, item in value.items()}
        case list() | tuple():
            return [clean(item, folder) for item in value]
        case str():
            return value.replace(folder, BASE)
    return value


def _clean_field(key: str, value: Any, folder: str) -> Any:
    if key in ("pid", "main_pid"):
        return 1000
    if key == "started":
        return 1_000_000.0
    if key == "inode" and value is not None:
        return [1, 2]
    if key == "secret":
        return bytes(len(value))
    if key in ("content", "config") and isinstance(value, bytes):
        return msgspec.msgpack.encode(clean(msgspec.msgpack.decode(value), folder))
    return clean(value, folder)


def _config(folder: Path, ports: list[int]) -> dict[str, Any]:
    """Something of each kind of state: an unhealthy host, an ejected one, metrics."""
    routes = [
        {"match": {"prefix": "/down"}, "route": {"cluster_name": "down"}},
        {"match": {"prefix": "/failing"}, "route": {"cluster_name": "failing"}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": "hello"}},
    ]
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
    chains = [{"filters": [proxy]}]
    check = {"interval": "1h", "initial_delay_seconds": "10ms", "timeout": "1s"}
    rule = {"consecutive_errors": 1, "base_ejection_time": "1h", "max_ejection_percent": 100}
    dead = [{"address": f"127.0.0.1:{ports[2]}"}]
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ports[1]}}},
        "servers": [
            {
                "default_log_path": "stdout",
                "processor": 1,
                "graceful_timeout": "1s",
                "routers": [
                    {"router_config_name": "r", "virtual_hosts": [{"name": "h", "domains": ["*"], "routers": routes}]}
                ],
                "listeners": [
                    {"name": "tcp", "address": f"127.0.0.1:{ports[0]}", "bind_port": True, "filter_chains": chains},
                    {
                        "name": "unix",
                        "network": "unix",
                        "address": f"{folder}/u.sock",
                        "bind_port": True,
                        "filter_chains": chains,
                    },
                ],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": "down", "hosts": dead, "health_check": check},
                {"name": "failing", "hosts": dead, "outlier_detection": rule},
            ]
        },
    }


def _ask(connection: http.client.HTTPConnection, method: str, target: str, body: str | None = None) -> bytes:
    with contextlib.closing(connection):
        connection.request(method, target, body)
        return connection.getresponse().read()


def _until(done: Any) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if done():
                return
        time.sleep(0.1)
    raise TimeoutError


def record(folder: Path, recorded: Path) -> None:
    """Runs one upgrade in a folder."""
    recorded.mkdir()
    (folder / "conf").mkdir()
    config = folder / "conf" / "pymosn.json"
    ports = [free_port() for _ in range(3)]
    config.write_text(json.dumps(_config(folder, ports)))
    root = str(Path(__file__).parent.parent)
    environment = worker_environment(os.environ)
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    program = [sys.executable, "-m", "pymosn"]
    process = subprocess.Popen([*program, "start", "-c", str(config)], env=environment, cwd=folder)

    def tcp(port: int, target: str) -> bytes:
        return _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "GET", target)

    try:
        _until(lambda: tcp(ports[0], "/failing") or True)
        _until(lambda: b"failed_active_check" in tcp(ports[1], "/api/v1/clusters"))
        admin = str(folder / "pymosn.admin.sock")
        _ask(UnixHttp(admin, 5), "POST", "/api/v1/update_loglevel", '{"log_path": "stdout", "log_level": "DEBUG"}')
        _ask(UnixHttp(admin, 5), "POST", "/healthcheck/fail")
        _until(lambda: b'"ejected"' in tcp(ports[1], "/api/v1/clusters"))
        time.sleep(2.0)  # the workers report ejections each second
        command = f"{sys.executable} -m tests.upgrade_recording relay {recorded}"
        subprocess.run(
            [*program, "upgrade", "-c", str(config), "--keep-config", "--command", command],
            env=environment,
            check=True,
            timeout=PATIENCE,
        )
        _until(lambda: len(json.loads(tcp(ports[1], "/api/v1/upgrade"))["generations"]) == 1)
        subprocess.run([*program, "stop", "-c", str(config)], env=environment, check=True, timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Writes the recording of the present version, or relays."""
    if sys.argv[1] == "relay":
        sys.exit(asyncio.run(relay(Path(sys.argv[2]), sys.argv[3:])))
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "recorded"
        record(Path(folder), recorded)
        target = FOLDER / f"v{VERSION}"
        target.mkdir(parents=True, exist_ok=True)
        for side in SIDES:
            lines = (recorded / f"{side}.hex").read_text().split()
            cleaned = [clean(msgspec.msgpack.decode(bytes.fromhex(line)), folder) for line in lines]
            text = "".join(f"{msgspec.msgpack.encode(message).hex()}\n" for message in cleaned)
            (target / f"{side}.hex").write_text(text)
        moved = "".join(f"{msgspec.msgpack.encode(message).hex()}\n" for message in MOVED_EXAMPLES)
        (target / "moved.hex").write_text(moved)


if __name__ == "__main__":
    main()
