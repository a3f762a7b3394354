"""Two workers' run-time objects in one process, between which open connections move."""

import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from tests.kit import bolt_frames as bolt

from pymosn.assembly.packer import pack
from pymosn.assembly.steps import run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import MosnConfig
from pymosn.observe.logs import LogSet
from pymosn.server import messages
from pymosn.server.channel import Channel
from pymosn.server.upgrade.arriving import receive_connections
from pymosn.server.upgrade.departure import Departure
from pymosn.server.upgrade.moving import key_of

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def config_of(http: int, frames: int, udp: int = 0) -> MosnConfig:
    """`http`, `frames`, `udp`: the ports of the hosts; 0: there is no UDP."""

    def listener(name: str, protocol: str) -> dict[str, Any]:
        proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": name}}
        return {"name": name, "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}

    def router(name: str) -> dict[str, Any]:
        routes: list[dict[str, Any]] = [{"match": {"prefix": "/"}, "route": {"cluster_name": name}}]
        if name == "b":
            routes = [
                {"match": {"headers": [{"name": "service", "value": ".*", "regex": True}]}, "route": {"cluster_name": "b"}}
            ]
        return {"router_config_name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes}]}

    ports = {"h": http, "b": frames, **({"u": udp} if udp else {})}
    clusters = [
        {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{port}"}]}
        for name, port in ports.items()
    ]
    listeners = [listener("h", "Http1"), listener("b", "bolt")]
    if udp:
        chain: dict[str, Any] = {"filters": [{"type": "udp_proxy", "config": {"cluster": "u"}}]}
        listeners.append(
            {"name": "u", "network": "udp", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [chain]}
        )
    servers: list[dict[str, Any]] = [{"listeners": listeners, "routers": [router("h"), router("b")]}]
    return msgspec.convert({"servers": servers, "cluster_manager": {"clusters": clusters}}, MosnConfig)


class Worker:
    """The run-time objects of one worker."""

    def __init__(self, folder: Path, config: MosnConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.runtime = WorkerRuntime(1, 0, self.loop, LogSet(str(folder / "log")))
        self.runtime.activate(run_whole(self.runtime.prepare(pack(config), str(folder), str(folder))))

    async def listen(self, sockets: dict[str, socket.socket]) -> None:
        for listener in self.runtime.listeners:
            await listener.start(sockets[listener.name].dup())

    def counts(self, name: str) -> dict[str, int]:
        data = self.runtime.metrics.group("downstream", ("listener", name)).data()
        return {key: value for key, value in {**data["counters"], **data["gauges"]}.items() if value}

    def moved(self, name: str) -> int:
        return int(self.runtime.metrics.group("worker", ("worker", "all")).counter(f"connections_{name}").value)


class Reports:
    """The channel to the supervisor."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


class World:
    """Two workers, the hosts, and the clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go_on = asyncio.Event()
        self.waiting = 0
        self.reports = Reports()
        self.queues: list[tuple[socket.socket, socket.socket]] = []
        self.sockets: dict[str, socket.socket] = {}

    async def start(self, queues: int = 2, *, is_unix: bool = False, udp: int = 0) -> None:
        """`is_unix`: clients of HTTP come over a unix socket. `udp`: the port of a host of UDP; 0: there is no UDP."""
        http = await asyncio.start_server(self._serve_http, "127.0.0.1", 0)
        frames = await asyncio.start_server(self._serve_bolt, "127.0.0.1", 0)
        self.servers = [http, frames]
        ports = [int(server.sockets[0].getsockname()[1]) for server in self.servers]
        for name in ("h", "b"):
            self.sockets[name] = socket.create_server(("127.0.0.1", 0))
        if is_unix:
            self.sockets["h"] = socket.socket(socket.AF_UNIX)
            self.sockets["h"].bind(str(self.folder / "h.sock"))
        if udp:
            self.sockets["u"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sockets["u"].bind(("127.0.0.1", 0))
        config = config_of(ports[0], ports[1], udp)
        self.old, self.new = (Worker(self.folder, config) for _ in range(2))
        self.queues = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(queues)]
        await self.old.listen(self.sockets)

    def receive(self) -> None:
        """The successor's worker takes connections from now on."""
        for _, receiving in self.queues:
            receive_connections(self.new.loop, self.new.runtime, [receiving.dup().detach()])

    def depart(
        self, seconds: float = 20.0, keys: dict[str, str] | None = None, dropped: Sequence[str] = ()
    ) -> asyncio.Task[None]:
        """The predecessor's worker leaves. `dropped`: the listeners whose addresses the successor does not serve."""
        if keys is None:
            keys = {built.name: key_of(built.config) for built in self.new.runtime.active.listeners}
        inodes = [os.fstat(self.sockets[name].fileno()).st_ino for name in dropped]
        for name in dropped:
            self.sockets.pop(name).close()
        command = messages.Depart(seconds, keys, inodes)
        descriptors = [sending.detach() for sending, _ in self.queues]
        self.departure = Departure(self.old.loop, self.old.runtime, cast("Channel[Any]", self.reports))
        return asyncio.create_task(self.departure.run(command, descriptors))

    async def connect(self, name: str = "h") -> "Client":
        sock = self.sockets[name]
        if sock.family == socket.AF_UNIX:
            return Client(*await asyncio.open_unix_connection(sock.getsockname()))
        return Client(*await asyncio.open_connection(*sock.getsockname()))

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            if head.startswith(b"GET /slow"):
                self.waiting += 1
                await self.go_on.wait()
            writer.write(RESPONSE)
        writer.close()

    async def _serve_bolt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while part := await reader.read(65536):
            data += part
            while True:
                frame, data = bolt.parse(data)
                if frame is None:
                    break
                if frame.content == b"slow":
                    await self.go_on.wait()
                writer.write(bolt.response(frame.request_id, b"ok"))
        writer.close()

    async def close(self) -> None:
        for server in self.servers:
            server.close()
        for worker in (self.old, self.new):
            for listener in worker.runtime.listeners:
                listener.abort_all()
                listener.release()
            await worker.runtime.aclose()


class Client:
    """A client of HTTP/1 or Bolt."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.rest = b""

    async def receives(self, expected: bytes) -> None:
        """A response with these last bytes, and without `connection: close`."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"close" not in head
        assert await self.reader.readexactly(len(expected)) == expected

    async def asks(self, request: bytes = REQUEST) -> None:
        self.writer.write(request)
        await self.receives(b"ok")
