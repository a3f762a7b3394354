"""`python -m bench.bolt`: CPU per Bolt request of pymosn beside the byte relay: 1 KiB echoed, 64 in flight on 8 connections.

Rows: the relay (the floor), frames forwarded as they came, and frames that a header filter has encoded anew. Load and
upstream share the other core. `serve PORT` and `load PORT SECONDS` are its own child processes.
"""

import argparse
import asyncio
import json
import struct
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import uvloop

from bench import measure
from bench.machine import choose_cores, free_port
from bench.processes import Processes

CONNECTIONS, IN_FLIGHT, BODY = 8, 8, 1024
HEADERS = {
    "service": "com.example.Echo:1.0",
    "sofa_head_target_service": "com.example.Echo:1.0",
    "sofa_head_method_name": "echo",
    "rpc_trace_context.sofaTraceId": "c00002021795562785345100115746",
    "rpc_trace_context.sofaRpcId": "0",
    "x-user": "alice",
}


def block() -> bytes:
    """The header map of each request."""
    texts = [text.encode() for pair in HEADERS.items() for text in pair]
    return b"".join(struct.pack(">I", len(text)) + text for text in texts)


CLASS = b"com.alipay.sofa.rpc.core.request.SofaRequest"
REQUEST_TAIL = struct.pack(">HHI", len(CLASS), len(block()), BODY) + CLASS + block() + bytes(BODY)
REPLY_TAIL = struct.pack(">HHI", len(CLASS), 0, BODY) + CLASS + bytes(BODY)


def request(number: int) -> bytes:
    """A request with that id."""
    return b"\x01\x01\x00\x01\x01" + number.to_bytes(4, "big") + b"\x01\xff\xff\xff\xff" + REQUEST_TAIL


def reply(number: bytes) -> bytes:
    """The reply to the request with that id."""
    return b"\x01\x00\x00\x02\x01" + number + b"\x01\x00\x00" + REPLY_TAIL


class Framed(asyncio.Protocol):
    """Cuts frames out of what comes; all that one read brought is answered with one write."""

    head = 22

    def __init__(self) -> None:
        self.rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at, out = 0, []
        while len(data) - at >= self.head:
            sizes = struct.unpack_from(">HHI", data, at + self.head - 8)
            size = self.head + sum(sizes)
            if len(data) - at < size:
                break
            answer = self.answer(data[at + 5 : at + 9])
            if answer:
                out.append(answer)
            at += size
        self.rest = data[at:]
        if out and self.transport is not None:
            self.transport.write(b"".join(out))

    def answer(self, number: bytes) -> bytes:
        """What is sent back for a frame with that id."""
        return reply(number)


class Caller(Framed):
    """Keeps IN_FLIGHT requests under way, and counts the replies."""

    head = 20
    done = 0
    ends = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.last = 0
        self.waiting: set[bytes] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.write(b"".join(self.next() for _ in range(IN_FLIGHT)))  # type: ignore[attr-defined]

    def next(self) -> bytes:
        self.last += 1
        self.waiting.add(self.last.to_bytes(4, "big"))
        return request(self.last)

    def answer(self, number: bytes) -> bytes:
        self.waiting.remove(number)  # KeyError: a reply that was not asked for
        Caller.done += 1
        return self.next() if time.monotonic() < Caller.ends else b""


async def serve(port: int) -> None:
    """The upstream."""
    server = await asyncio.get_running_loop().create_server(Framed, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def load(port: int, seconds: float) -> None:
    """The load; prints how many requests were answered. All of them must be."""
    Caller.ends = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(Caller, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    while any(caller.waiting for caller in callers):
        await asyncio.sleep(0.01)
    print(Caller.done)


def configuration(port: int, upstream: int, filters: bool) -> dict[str, object]:
    """pymosn's."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": "bolt", "router_config_name": "r"}}
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
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    cores = choose_cores()
    with tempfile.TemporaryDirectory() as directory, Processes(Path(directory)) as processes:
        upstream = free_port()
        serving = processes.start("upstream", [sys.executable, "-m", "bench.bolt", "serve", str(upstream)], cores.load)
        processes.wait_for_port("upstream", serving, upstream)
        ports: dict[str, tuple[int, list[int]]] = {}
        for name in ("relay", "raw frame", "encoded anew"):
            port = free_port()
            command = [sys.executable, "-m", "bench.relay", str(port), str(upstream)]
            if name != "relay":
                file = Path(directory, f"{name.split()[0]}.json")
                file.write_text(json.dumps(configuration(port, upstream, name != "raw frame")))
                command = [sys.executable, "-m", "pymosn", "start", "-c", str(file)]
            process = processes.start(name, command, cores.proxy)
            processes.wait_for_port(name, process, port)
            ports[name] = port, measure.children(process.pid) or [process.pid]
        rounds: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(given.rounds):
            for name, (port, pids) in ports.items():
                rounds[name].append(cost(processes, cores.load, port, pids, given.seconds))
    floor = median(rounds["relay"])
    for name, figures in rounds.items():
        print(f"{name:14} {median(figures):6.2f} us CPU a request, {median(figures) / floor:5.2f} x the relay")
    return 0


def cost(processes: Processes, core: int, port: int, pids: list[int], seconds: float) -> float:
    """Microseconds of CPU of `pids` for each request of one run."""
    before = measure.read_cpu(pids)
    command = [sys.executable, "-m", "bench.bolt", "load", str(port), str(seconds)]
    process = processes.start("load", command, core)
    code = process.wait(seconds + 30)
    if code:
        raise SystemExit(f"the load failed: {processes.log_path('load').read_text()}")
    done = int(processes.log_path("load").read_text())
    return measure.read_cpu(pids).since(before).total * 1e6 / done


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(int(sys.argv[2])))
    elif sys.argv[1:2] == ["load"]:
        uvloop.run(load(int(sys.argv[2]), float(sys.argv[3])))
    else:
        sys.exit(main())
