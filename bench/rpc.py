"""`python -m bench.rpc bolt` or `dubbo`: CPU per request of pymosn and of the byte relay, for echoed bodies of 1 KiB with 64
requests in flight on 8 connections.

Rows: the relay (the lower bound), frames forwarded unchanged, frames re-encoded because the route adds a header, and the
same by a Python filter. Load and upstream share the other core. With `serve PORT` or `load PORT SECONDS` after the protocol,
it is one of its child processes.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import uvloop

from bench import measure
from bench.machine import Cores, choose_cores, free_port
from bench.processes import Processes
from bench.rpc_frames import WIRES, Wire
from bench.void import Unavailable, Void

CONNECTIONS, IN_FLIGHT = 8, 8
#: The byte relay; pymosn forwarding frames unchanged, with a header that the route adds in both directions, and with one
#: that a Python filter adds in both directions.
RELAY, UNCHANGED, RE_ENCODED, FILTERED = ROWS = ("relay", "unchanged", "re-encoded", "Python filter")


class Framed(asyncio.Protocol):
    """Splits received data into frames; all frames of one read are answered with one write."""

    def __init__(self, wire: Wire, is_server: bool) -> None:
        self.wire = wire
        self.head = wire.heads[0 if is_server else 1]
        self.rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at, out = 0, []
        while len(data) - at >= self.head:
            size = self.wire.size(data, at, self.head)
            if len(data) - at < size:
                break
            answer = self.answer(data[at + self.wire.id_at : at + self.wire.id_at + self.wire.id_size])
            if answer:
                out.append(answer)
            at += size
        self.rest = data[at:]
        if out and self.transport is not None:
            self.transport.write(b"".join(out))

    def answer(self, request_id: bytes) -> bytes:
        """The data to send back for a frame with that id."""
        return self.wire.response(request_id)


class Caller(Framed):
    """Keeps IN_FLIGHT requests in flight, and counts the responses."""

    done = 0
    ends = 0.0

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, False)
        self.last = 0
        self.waiting: set[bytes] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.write(b"".join(self.next() for _ in range(IN_FLIGHT)))  # type: ignore[attr-defined]

    def next(self) -> bytes:
        self.last += 1
        self.waiting.add(self.last.to_bytes(self.wire.id_size, "big"))
        return self.wire.request(self.last)

    def answer(self, request_id: bytes) -> bytes:
        self.waiting.remove(request_id)  # KeyError: an unexpected response
        Caller.done += 1
        return self.next() if time.monotonic() < Caller.ends else b""


async def serve(wire: Wire, port: int) -> None:
    """The upstream."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Framed(wire, True), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def load(wire: Wire, port: int, seconds: float) -> None:
    """The load; prints the number of requests that were answered, which must be all."""
    Caller.ends = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    connected = [await loop.create_connection(lambda: Caller(wire), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    callers = [caller for _, caller in connected]
    while any(caller.waiting for caller in callers):
        await asyncio.sleep(0.01)
    print(Caller.done)


def configuration(protocol: str, port: int, upstream: int, row: str) -> dict[str, object]:
    """The configuration of pymosn for one of the rows."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": "r"}}
    action: dict[str, object] = {"cluster_name": "c"}
    if row == RE_ENCODED:
        for kind in ("request", "response"):
            action[f"{kind}_headers_to_add"] = [{"header": {"key": f"x-bench-{kind}", "value": "alice"}}]
    route = {"match": {"headers": [{"name": "service", "value": ".*"}]}, "route": action}
    path = str(Path(__file__).with_name("filters.py"))
    header_filter = {"type": "python", "config": {"path": path, "class": "HeaderFilter", "number": 1}}
    listener = {
        "name": "l",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "filter_chains": [{"filters": [proxy]}],
        "stream_filters": [header_filter] if row == FILTERED else [],
    }
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    server = {"default_log_path": "stdout", "processor": 1, "routers": [table], "listeners": [listener]}
    cluster = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{upstream}"}]}
    admin = {"socket": f"admin-{port}.sock"}
    return {"admin": admin, "servers": [server], "cluster_manager": {"clusters": [cluster]}}


def measure_rows(protocol: str, processes: Processes, cores: Cores, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Microseconds of CPU per call for each row and round; the rows alternate. Raises Unavailable, Void."""
    upstream = free_port()
    serving = processes.start(f"{protocol}-upstream", [*command_of(protocol), "serve", str(upstream)], cores.load)
    processes.wait_for_port(f"{protocol}-upstream", serving, upstream)
    ports: dict[str, tuple[int, list[int]]] = {}
    started = [serving]
    for row in ROWS:
        port = free_port()
        name = f"{protocol}-{row.replace(' ', '-')}"
        command = [sys.executable, "-m", "bench.relay", str(port), str(upstream)]
        if row != RELAY:
            file = processes.directory / f"{name}.json"
            file.write_text(json.dumps(configuration(protocol, port, upstream, row)))
            command = [sys.executable, "-m", "pymosn", "start", "-c", str(file)]
        process = processes.start(name, command, cores.proxy)
        processes.wait_for_port(name, process, port)
        ports[row] = port, [process.pid] if row == RELAY else workers(process.pid)
        started.append(process)
    figures: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(rounds):
        for row, (port, pids) in ports.items():
            figures[row].append(cost(processes, protocol, cores.load, port, pids, seconds))
    for process in started:
        processes.stop(process)
    return figures


def main() -> int:
    """Measures in alternating rounds; prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("protocol", choices=WIRES)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory, Processes(Path(directory)) as processes:
        figures = measure_rows(given.protocol, processes, choose_cores(), given.rounds, given.seconds)
    floor = median(figures[RELAY])
    for row, costs in figures.items():
        print(f"{row:14} {median(costs):6.2f} us CPU per call, {median(costs) / floor:5.2f} x the relay")
    return 0


def workers(pid: int) -> list[int]:
    """The workers of a pymosn process that has already bound its ports."""
    deadline = time.monotonic() + 30
    while not (found := measure.children(pid)):
        if time.monotonic() > deadline:
            raise Unavailable("pymosn has no worker")
        time.sleep(0.05)
    return found


def command_of(protocol: str) -> list[str]:
    """The command that runs this program for one protocol as a child process."""
    return [sys.executable, "-m", "bench.rpc", protocol]


def cost(processes: Processes, protocol: str, core: int, port: int, pids: list[int], seconds: float) -> float:
    """Microseconds of CPU of `pids` per request in one run."""
    before = measure.read_cpu(pids)
    command = [*command_of(protocol), "load", str(port), str(seconds)]
    process = processes.start("load", command, core)
    code = process.wait(seconds + 30)
    if code:
        raise Void(f"the load failed: {processes.log_path('load').read_text()}")
    done = int(processes.log_path("load").read_text())
    return measure.read_cpu(pids).since(before).total * 1e6 / done


if __name__ == "__main__":
    if sys.argv[2:3] == ["serve"]:
        uvloop.run(serve(WIRES[sys.argv[1]](), int(sys.argv[3])))
    elif sys.argv[2:3] == ["load"]:
        uvloop.run(load(WIRES[sys.argv[1]](), int(sys.argv[3]), float(sys.argv[4])))
    else:
        sys.exit(main())
