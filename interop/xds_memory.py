"""The memory of pymosn beside Envoy's with the same resources of delta ADS: `python -m interop.xds_memory [clusters ...]`.

Each cluster has ten endpoints and three routes, in tables of 1,000 routes, each with a listener that binds no port. Envoy
runs with one worker thread, pymosn with one worker process. Needs `PYTHONPATH=build/compiled:tests:tests/system`, the
packages of the interop tests, and Envoy in PATH or ENVOY.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.xds_resources import ROUTES_PER_TABLE, cluster, endpoints, listener, table
from tests.kit.xds_server import ENDPOINTS, ROUTES, XdsServer
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, eventually, free_ports, get

from interop.envoy import Envoy, bootstrap

HOSTS: Final = 10
ROUTES_PER_CLUSTER: Final = 3
#: Seconds until everything is active, and between two looks at the memory.
PATIENCE: Final = 300.0
PAUSE: Final = 2.0


def control_plane(clusters: int) -> XdsServer:
    """A control plane with so many clusters, and all that belongs to them."""
    server = XdsServer()
    server.start()
    if clusters:
        tables = range(max(1, clusters * ROUTES_PER_CLUSTER // ROUTES_PER_TABLE))
        server.set(*(cluster(i) for i in range(clusters)))
        server.set(*(endpoints(i, HOSTS) for i in range(clusters)))
        server.set(*(table(k, clusters) for k in tables))
        server.set(*(listener(k) for k in tables))
    return server


def has_got_all(server: XdsServer, clusters: int) -> bool:
    """Whether the endpoints and tables were accepted by their only client."""
    [stream] = server.open_streams() or [None]
    sent = {} if stream is None else {kind: len(watch.sent) for kind, watch in stream.watches.items()}
    return clusters == 0 or (sent.get(ENDPOINTS) == clusters and sent.get(ROUTES, 0) > 0 and bool(server.acks(ROUTES)))


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = [re.search(rf"^{key}: +(\d+)", text, re.MULTILINE) for key in ("Rss", "Pss")]
    return tuple(0.0 if one is None else int(one[1]) / 1024 for one in found)  # type: ignore[return-value]


def settled(pids: Callable[[], list[int]]) -> list[tuple[float, float]]:
    """The memory of processes when it does not grow any more."""
    before: list[tuple[float, float]] = []
    while True:
        now = [memory(pid) for pid in pids()]
        if before and all(abs(new[0] - old[0]) < 0.5 for old, new in zip(before, now, strict=True)):
            return now
        before = now
        threading.Event().wait(PAUSE)


def of_envoy(program: str, clusters: int, folder: Path) -> list[tuple[float, float]]:
    """The memory of Envoy's process."""
    server = control_plane(clusters)
    try:
        with Envoy(program, folder, server.port, is_delta=True) as envoy:
            assert eventually(lambda: has_got_all(server, clusters), PATIENCE), envoy.output[-2000:]
            envoy.wait()
            wanted = f"cluster_manager.active_clusters: {clusters + 1}"
            query = "/stats?filter=cluster_manager.active_clusters"
            assert eventually(lambda: wanted in get(envoy.admin, query)[1], PATIENCE), get(envoy.admin, query)
            return settled(lambda: [envoy.pid])
    finally:
        server.stop()


def of_pymosn(clusters: int, folder: Path) -> list[tuple[float, float]]:
    """The memory of the supervisor and of the worker."""
    server = control_plane(clusters)
    start = Start(folder)
    [admin] = free_ports(1)
    try:
        running = start({**bootstrap(server.port, admin, is_delta=True), "xds_cache": "off"}, "--workers", "1")
        running.wait_for(READY)
        assert eventually(lambda: has_got_all(server, clusters), PATIENCE), running.output[-2000:]
        wanted = '"waiting": ?\\[\\]'
        assert eventually(lambda: re.search(wanted, get(admin, "/api/v1/xds")[1]) is not None, PATIENCE)
        return settled(lambda: [running.process.pid, *running.worker_pids()])
    finally:
        start.end()
        server.stop()


def main(sizes: list[int], envoy: str) -> None:
    """Prints a line for each size and process."""
    print(f"{'clusters':>8} {'endpoints':>9} {'routes':>7}  process             RSS      PSS   MiB")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for name, found in (
                (("Envoy",), of_envoy(envoy, size, Path(folder, "envoy"))),
                (("supervisor", "worker"), of_pymosn(size, Path(folder))),
            ):
                for process, (rss, pss) in zip(name, found, strict=True):
                    facts = f"{size:>8} {size * HOSTS:>9} {size * ROUTES_PER_CLUSTER:>7}"
                    print(f"{facts}  {process:<14} {rss:>8.1f} {pss:>8.1f}", flush=True)


if __name__ == "__main__":
    found = shutil.which(os.environ.get("ENVOY") or "envoy")
    assert found is not None, "Envoy is not installed"
    began = time.monotonic()
    main([int(text) for text in sys.argv[1:]] or [0, 1000, 10_000], found)
    print(f"{time.monotonic() - began:.0f} s")
