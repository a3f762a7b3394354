"""What upgrades under load need: a configuration with a listener for each protocol, and the upstreams behind them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from grpc_peers import EchoServer
from pymosn_process import free_ports
from tests.kit import certificates
from tests.kit.rpc_wires import WIRES, Provider
from web_sockets import Echo as WebSocketEcho

from show_upstream import ShowUpstream

#: Seconds for which RPC calls are at work, so that all that are allowed are so at any time.
CALL_TIME: Final = 0.1
#: Connections to hosts end when they are idle, so that none is left when nobody asks.
IDLE: Final = "1s"
#: The protocol and the router of each listener for HTTP and RPC.
PROXIES: Final = {
    "http1": ("Http1", "http"),
    "unix": ("Http1", "http"),
    "tls": ("Http1", "http"),
    "h2": ("Http2", "http"),
    "tls-h2": ("Http2", "http"),
    "ws": ("Http1", "ws"),
    "grpc": ("Http2", "grpc"),
    "bolt": ("bolt", "bolt"),
    "dubbo": ("dubbo", "dubbo"),
}


class UdpEcho(asyncio.DatagramProtocol):
    """Answers each datagram with the port that it came from, a space and itself."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(b"%d %s" % (addr[1], data), addr)


async def tcp_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except OSError:
        pass  # the proxy has reset the connection, as it does at the end of a drain
    writer.close()


class World:
    """The upstreams, which run in this process, and the configuration. `ports`: of the listeners, by name."""

    def __init__(self, folder: Path, graceful_timeout: float) -> None:
        self.unix_path = str(folder / "http.sock")
        self.listeners = [*PROXIES, "tcp", "udp"]
        names = [name for name in self.listeners if name != "unix"]
        *ports, self.admin_port = free_ports(len(names) + 1)
        self.ports: dict[str, int] = dict(zip(names, ports, strict=True))
        self.config: dict[str, Any] = {}
        self.graceful_timeout = graceful_timeout
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        http = await self._stack.enter_async_context(ShowUpstream())
        providers = [
            await self._stack.enter_async_context(Provider(WIRES[name], delay=CALL_TIME)) for name in ("bolt", "dubbo")
        ]
        grpc_server, ws_server = EchoServer(), WebSocketEcho()
        self._stack.callback(grpc_server.close)
        self._stack.callback(ws_server.close)
        tcp_server = await asyncio.start_server(tcp_echo, "127.0.0.1", 0)
        self._stack.callback(tcp_server.close)
        udp_server, _ = await asyncio.get_running_loop().create_datagram_endpoint(UdpEcho, local_addr=("127.0.0.1", 0))
        self._stack.callback(udp_server.close)
        upstreams = {
            "http": http.port,
            "ws": ws_server.port,
            "grpc": grpc_server.port,
            "bolt": providers[0].port,
            "dubbo": providers[1].port,
            "tcp": tcp_server.sockets[0].getsockname()[1],
            "udp": udp_server.get_extra_info("sockname")[1],
        }
        self.config = self._configured(upstreams)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def _configured(self, upstreams: dict[str, int]) -> dict[str, Any]:
        own = certificates.server()
        tls = {"status": True, "cert_chain": own.certificate.decode(), "private_key": own.key.decode()}
        listeners = []
        for name, (protocol, router) in PROXIES.items():
            config: dict[str, Any] = {"downstream_protocol": protocol, "router_config_name": router}
            if protocol.startswith("Http"):
                config["extend_config"] = {"reason_header": True}
            chain: dict[str, Any] = {"filters": [{"type": "proxy", "config": config}]}
            if name.startswith("tls"):
                chain["tls_context"] = {**tls, "alpn": "h2" if protocol == "Http2" else "http/1.1"}
            listeners.append(self._listener(name, chain))
        for name in ("tcp", "udp"):
            chain = {"filters": [{"type": f"{name}_proxy", "config": {"cluster": name}}]}
            listeners.append({**self._listener(name, chain), "network": name})
        return {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "pid": "pymosn.pid",
            "servers": [
                {
                    "default_log_path": "stdout",
                    "graceful_timeout": f"{self.graceful_timeout:g}s",
                    "processor": 2,
                    "routers": [_table(name) for name in ("http", "ws", "grpc", "bolt", "dubbo")],
                    "listeners": listeners,
                }
            ],
            "cluster_manager": {
                "clusters": [
                    {
                        "name": name,
                        "lb_type": "LB_ROUNDROBIN",
                        "hosts": [{"address": f"127.0.0.1:{port}"}],
                        "idle_timeout": IDLE,
                    }
                    for name, port in upstreams.items()
                ]
            },
        }

    def _listener(self, name: str, chain: dict[str, Any]) -> dict[str, Any]:
        address = {"network": "unix", "address": self.unix_path}
        if name != "unix":
            address = {"network": "tcp", "address": f"127.0.0.1:{self.ports[name]}"}
        return {"name": name, **address, "bind_port": True, "filter_chains": [chain]}


def _table(name: str) -> dict[str, Any]:
    route: dict[str, Any] = {"match": {"prefix": "/"}, "route": {"cluster_name": name, "timeout": "0s"}}
    if name in ("bolt", "dubbo"):
        route["match"] = {"headers": [{"name": "service", "value": ".*"}]}
    if name == "http":
        route["route"]["upstream_protocol"] = "Http1"
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": [route]}]}
