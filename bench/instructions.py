"""`python -m bench.instructions FOLDER...`: instructions per request for the pymosn in each folder (`build/compiled`).

This metric does not depend on other activity of the machine. valgrind's callgrind counts the instructions of a real worker,
started by the real supervisor from a configuration, whose event loop passes bytes without sockets (`bench/socketless/`).
It does not include the kernel, uvloop, the garbage collector and cache misses. So it measures the cost of a change to the
code, while `python -m bench` measures the cost of a request.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases import HTTP2
from bench.machine import free_port
from bench.socketless.cases import CASES, Case
from bench.void import Void

ROOT = Path(__file__).resolve().parents[1]
#: Seconds for one build; valgrind makes a worker about fifty times slower.
PATIENCE = 900.0
#: The C function that `bench.socketless.loop.call_counted` calls.
_COUNTED = "PyRun_StringFlags"
_CALLGRIND = (
    "--tool=callgrind",
    "--quiet",
    "--collect-atstart=no",
    f"--toggle-collect={_COUNTED}",
    f"--dump-after={_COUNTED}",
)


def main(folders: Sequence[str]) -> int:
    """Prints a row per case and a column per folder."""
    if shutil.which("valgrind") is None:
        print("the instructions cannot be counted: valgrind is not installed", file=sys.stderr)
        return 1
    try:
        columns = [count(Path(folder).resolve()) for folder in folders]
    except Void as fault:
        print(f"the instructions cannot be counted: {fault}", file=sys.stderr)
        return 1
    print(table(folders, columns))
    return 0


def count(folder: Path) -> dict[str, float]:
    """Instructions per request of each case; a build from before HTTP/2 has no cases of that. Raises Void."""
    if not (folder / "pymosn").is_dir():
        raise Void(f"{folder} does not contain the package pymosn")
    has_http2 = (folder / "pymosn" / "stream" / "http2").is_dir()
    cases = [case for case in CASES if has_http2 or case.protocol != HTTP2]
    with tempfile.TemporaryDirectory(prefix="pymosn-instructions-") as name:
        directory = Path(name)
        dumps = _run(folder, directory, cases)
        totals = [read_total((directory / f"out.{number}").read_text()) for number in dumps]
    return {case.name: total / case.count for case, total in zip(cases, totals, strict=True)}


def read_total(dump: str) -> int:
    """The number of instructions in a dump of callgrind."""
    for line in dump.splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise Void("callgrind wrote no total")


def table(folders: Sequence[str], columns: Sequence[dict[str, float]]) -> str:
    """The figures; all columns but the first also as a change relative to the first."""
    width = max(14, *(len(folder) + 2 for folder in folders))
    lines = (
        ["instructions per request"] if len(folders) == 1 else ["instructions per request, and the change from the first"]
    )
    lines.append(" " * 14 + "".join(f"{folder:>{width}}" + " " * 10 * (at > 0) for at, folder in enumerate(folders)))
    for case in columns[0]:
        if not all(case in column for column in columns):
            continue
        first = columns[0][case]
        line = f"{case:14}"
        for at, column in enumerate(columns):
            line += f"{column[case]:>{width},.0f}"
            if at:
                line += f" {100 * (column[case] / first - 1):>+7.2f} %"
        lines.append(line)
    return "\n".join(lines)


def _run(folder: Path, directory: Path, cases: Sequence[Case]) -> list[int]:
    """Runs the proxy of a folder until its worker has counted; returns the number of the dump for each case."""
    valgrind = " ".join([*_CALLGRIND, f"--callgrind-out-file={directory}/out"])
    wrapper = directory / "python"
    wrapper.write_text(f'#!/bin/sh\nexec valgrind {valgrind} "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    ports = {case.name: free_port() for case in cases}
    (directory / "pymosn.json").write_text(json.dumps(configuration(cases, ports, free_port())))
    done = directory / "done"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (folder, Path(__file__).with_name("socketless"), ROOT))),
        "PYTHONHASHSEED": "0",
        "PYMOSN_COUNT_WRAPPER": str(wrapper),
        "PYMOSN_COUNT_DONE": str(done),
        "PYMOSN_COUNT_PORTS": json.dumps(ports),
    }
    command = [sys.executable, "-P", "-m", "pymosn", "start", "-c", str(directory / "pymosn.json"), "--workers", "1"]
    with (directory / "log").open("w+b") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=directory, start_new_session=True)
        try:
            outcome = _await(process, done)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if isinstance(outcome, str):
        raise Void(f"{outcome or 'no worker'}; the proxy's log:\n{(directory / 'log').read_text()[-3000:]}")
    return list(outcome)


def _await(process: "subprocess.Popen[bytes]", done: Path) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if done.exists():
            return json.loads(done.read_text())
        if process.poll() is not None:
            return f"pymosn exited with {process.returncode}"
        time.sleep(0.1)
    return f"no result within {PATIENCE:g} s"


def configuration(cases: Sequence[Case], ports: dict[str, int], admin_port: int) -> dict[str, object]:
    """A configuration with a listener and a cluster for each case."""
    listeners, routers, clusters = [], [], []
    for case in cases:
        name = case.name
        proxy = {"type": "proxy", "config": {"downstream_protocol": case.protocol, "router_config_name": name}}
        address = f"127.0.0.1:{ports[name]}"
        filters = {"filter_chains": [{"filters": [proxy]}], "stream_filters": list(case.filters)}
        listeners.append({"name": name, "address": address, "bind_port": True, **filters})
        action = {"cluster_name": name}
        if case.upstream_protocol:
            action["upstream_protocol"] = case.upstream_protocol
        route = {"match": case.match, "route": action}
        routers.append({"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": [route]}]})
        hosts = [{"address": "192.0.2.2:80"}]
        clusters.append({"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts})
    server = {
        "default_log_path": "stdout",
        "default_log_level": "WARN",
        "processor": 1,
        # A worker is blocked while it counts, for longer the busier the machine is.
        "worker_hang_limit": "0s",
        "worker_start_limit": "0s",
        # Each request would be among the slowest.
        "recent_exchanges": {"slow": 0},
        "routers": routers,
        "listeners": listeners,
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}
    admin = {"address": address, "socket": "admin.sock"}
    return {"admin": admin, "servers": [server], "cluster_manager": {"clusters": clusters}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["build/compiled"]))
