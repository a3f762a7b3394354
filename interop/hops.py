"""pymosn between Java peers: two hops in one process, as in `examples/dubbo`, on free ports."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from tests.system.pymosn_process import READY, Pymosn, eventually, free_ports

Config = dict[str, Any]


class Hops:
    """consumer -> `port` -> second listener -> providers. Both listeners speak `protocol`."""

    def __init__(self, protocol: str, providers: list[int], extra: Config | None = None) -> None:
        """`providers`: their ports. `extra`: keys to set in the second listener."""
        self.port, second, self.admin_port = free_ports(3)
        server = _listener("serverListener", second, protocol, "server_router")
        server.update(extra or {})
        self.config: Config = {
            "admin": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}},
                "socket": "admin.sock",
            },
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "routers": [_table("client_router", "clientCluster"), _table("server_router", "serverCluster")],
                    "listeners": [_listener("clientListener", self.port, protocol, "client_router"), server],
                }
            ],
            "cluster_manager": {"clusters": [_cluster("clientCluster", [second]), _cluster("serverCluster", providers)]},
        }
        self.process: Pymosn | None = None

    @property
    def client_routes(self) -> list[Config]:
        """The routes of the first listener."""
        routes: list[Config] = self.config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"]
        return routes

    def limit_requests(self, size: int) -> None:
        """Limits the frames of consumers, in bytes."""
        proxy = self.config["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"]
        proxy["extend_config"] = {proxy["downstream_protocol"]: {"max_frame_size": size}}

    def limit_responses(self, size: int) -> None:
        """Limits the frames of providers, in bytes."""
        self.config["cluster_manager"]["clusters"][1]["max_frame_size"] = size

    @property
    def server_routes(self) -> list[Config]:
        """The routes of the second listener."""
        routes: list[Config] = self.config["servers"][0]["routers"][1]["virtual_hosts"][0]["routers"]
        return routes

    def start(self, directory: Path) -> None:
        """Starts pymosn and returns when it is ready."""
        path = directory / "mosn.json"
        path.write_text(json.dumps(self.config, indent=1))
        self.process = Pymosn(["-c", str(path)], directory, {})
        self.process.wait_for(READY)

    def hosts(self, action: str, ports: list[int]) -> None:
        """Adds providers to the second hop's cluster, or removes them."""
        hosts = [{"address": f"127.0.0.1:{port}"} for port in ports]
        self.post("/api/v1/update_hosts", {"type": action, "config": {"cluster": "serverCluster", "hosts": hosts}})

    def serve_only(self, service: str) -> None:
        """Replaces all routes of the second hop by one for `service`."""
        where: Config = {"router_config_name": "server_router", "domain": "*"}
        self.post("/api/v1/update_route", {"type": "remove", "config": {**where, "route": None}})
        match = {"headers": [{"name": "service", "value": service}]}
        route = {"match": match, "route": {"cluster_name": "serverCluster"}}
        self.post("/api/v1/update_route", {"type": "add", "config": {**where, "route": route}})

    def post(self, path: str, value: Config) -> None:
        """Applies a change through the admin API; it must succeed."""
        assert self.process is not None
        status, answer = self.process.post(path, value)
        assert status == 200, answer

    def wait_for_request(self) -> None:
        """Returns when a request is in flight at a provider."""

        def is_there() -> bool:
            clusters = json.loads(self.stats())["upstream"]
            return int(clusters["cluster.serverCluster"].get("request_active", 0)) > 0

        assert eventually(is_there, 60.0)

    def stats(self) -> str:
        """All metrics as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=40)
        connection.request("GET", "/api/v1/stats")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def __enter__(self) -> Hops:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.end()


def _listener(name: str, port: int, protocol: str, table: str) -> Config:
    proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": table}}
    return {"name": name, "address": f"127.0.0.1:{port}", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}


def _table(name: str, cluster: str) -> Config:
    route = {"match": {"headers": [{"name": "service", "value": ".*"}]}, "route": {"cluster_name": cluster}}
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": [route]}]}


def _cluster(name: str, ports: list[int]) -> Config:
    hosts = [{"address": f"127.0.0.1:{port}"} for port in ports]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}
