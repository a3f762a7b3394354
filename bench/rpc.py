"""`python -m bench.rpc bolt` or `dubbo`: CPU per request of pymosn beside the byte relay: 1 KiB echoed, 64 in flight on 8
connections.

Rows: the relay (the floor), frames forwarded as they came, and frames that a header filter has encoded anew. Load and
upstream share the other core. `serve PORT` and `load PORT SECONDS`, behind the protocol, are its own child processes.
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
from bench.machine import choose_cores, free_port
from bench.processes import Processes
from bench.rpc_frames import WIRES, Wire

CONNECTIONS, IN_FLIGHT = 8, 8


class Framed(asyncio.Protocol):
    """Cuts frames out of what comes; all that one read brought is answered with one write."""

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

    def answer(self, number: bytes) -> bytes:
        """What is sent back for a frame with that id."""
        return self.wire.reply(number)


class Caller(Framed):
    """Keeps IN_FLIGHT requests under way, and counts the replies."""

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

    def answer(self, number: bytes) -> bytes:
        self.waiting.remove(number)  # KeyError: a reply that was not asked for
        Caller.done += 1
        return self.next() if time.monotonic() < Caller.ends else b""


async def serve(wire: Wire, port: int) -> None:
    """The upstream."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Framed(wire, True), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def load(wire: Wire, port: int, seconds: float) -> None:
    """The load; prints how many requests were answered. All of them must be."""
    Caller.ends = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Caller(wire), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    callers = [caller for _, caller in made]
    while any(caller.waiting for caller in callers):
        await asyncio.sleep(0.01)
    print(Caller.done)


def configuration(protocol: str, port: int, upstream: int, filters: bool) -> dict[str, object]:
    """pymosn's."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": "r"}}
    route = {"match": {"headers": [{"name": "service", "value": ".*"}]}, "route": {"cluster_name": "c"}}
    path = str(Path(__file__).with_name("filters.py"))
    header_filter = {"type": "python", "config": {"path": path, "class": "HeaderFilter", "number": 1}}
    listener = {
        "name": "l",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "filter_chains": [{"filters": [proxy]}],
        "stream_filters": [header_filter] if filters else [],
    }
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    server = {"default_log_path": "stdout", "processor": 1, "routers": [table], "listeners": [listener]}
    cluster = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{upstream}"}]}
    return {"servers": [server], "cluster_manager": {"clusters": [cluster]}}


def main() -> int:
    """Measures in alternating rounds; prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("protocol", choices=WIRES)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    cores = choose_cores()
    with tempfile.TemporaryDirectory() as directory, Processes(Path(directory)) as processes:
        upstream = free_port()
        serving = processes.start("upstream", [*command_of(given.protocol), "serve", str(upstream)], cores.load)
        processes.wait_for_port("upstream", serving, upstream)
        ports: dict[str, tuple[int, list[int]]] = {}
        for name in ("relay", "raw frame", "encoded anew"):
            port = free_port()
            command = [sys.executable, "-m", "bench.relay", str(port), str(upstream)]
            if name != "relay":
                file = Path(directory, f"{name.split()[0]}.json")
                file.write_text(json.dumps(configuration(given.protocol, port, upstream, name != "raw frame")))
                command = [sys.executable, "-m", "pymosn", "start", "-c", str(file)]
            process = processes.start(name, command, cores.proxy)
            processes.wait_for_port(name, process, port)
            ports[name] = port, [process.pid] if name == "relay" else workers(process.pid)
        rounds: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(given.rounds):
            for name, (port, pids) in ports.items():
                rounds[name].append(cost(processes, given.protocol, cores.load, port, pids, given.seconds))
    floor = median(rounds["relay"])
    for name, figures in rounds.items():
        print(f"{name:14} {median(figures):6.2f} us CPU a request, {median(figures) / floor:5.2f} x the relay")
    return 0


def workers(pid: int) -> list[int]:
    """The workers of a pymosn, which has bound its ports already."""
    deadline = time.monotonic() + 30
    while not (found := measure.children(pid)):
        if time.monotonic() > deadline:
            raise SystemExit("pymosn has no worker")
        time.sleep(0.05)
    return found


def command_of(protocol: str) -> list[str]:
    """This program for one protocol, as a child process."""
    return [sys.executable, "-m", "bench.rpc", protocol]


def cost(processes: Processes, protocol: str, core: int, port: int, pids: list[int], seconds: float) -> float:
    """Microseconds of CPU of `pids` for each request of one run."""
    before = measure.read_cpu(pids)
    command = [*command_of(protocol), "load", str(port), str(seconds)]
    process = processes.start("load", command, core)
    code = process.wait(seconds + 30)
    if code:
        raise SystemExit(f"the load failed: {processes.log_path('load').read_text()}")
    done = int(processes.log_path("load").read_text())
    return measure.read_cpu(pids).since(before).total * 1e6 / done


if __name__ == "__main__":
    if sys.argv[2:3] == ["serve"]:
        uvloop.run(serve(WIRES[sys.argv[1]](), int(sys.argv[3])))
    elif sys.argv[2:3] == ["load"]:
        uvloop.run(load(WIRES[sys.argv[1]](), int(sys.argv[3]), float(sys.argv[4])))
    else:
        sys.exit(main())
