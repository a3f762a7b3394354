"""The parts of which the configurations of MOSN's samples are made (`mosn_sample_configs`, `mosn_sample_refused`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymosn_process import free_ports

Config = dict[str, Any]

PREFIX: Config = {"prefix": "/"}
SERVICE: Config = {"headers": [{"name": "service", "value": ".*"}]}


class Places:
    """What configurations refer to, by names: addresses of listeners and peers, files, and the keys of tokens."""

    def __init__(self, folder: Path, peers: dict[str, str], jwks: str = "{}") -> None:
        """`folder`: with the certificates of both hops. `peers`: the addresses of the peers."""
        self.folder = folder
        self.jwks = jwks
        self._addresses = dict(peers)

    def at(self, name: str) -> str:
        """The address of a listener or peer; free when it is asked for the first time."""
        if name not in self._addresses:
            self._addresses[name] = f"127.0.0.1:{free_ports(1)[0]}"
        return self._addresses[name]

    def put(self, name: str, address: str) -> None:
        """Sets the address of a listener or peer."""
        self._addresses[name] = address

    def port(self, name: str) -> int:
        """The port of it."""
        return int(self.at(name).rpartition(":")[2])

    def tls(self, **more: Any) -> Config:
        """A TLS context of a hop."""
        files = {"ca_cert": "ca.pem", "cert_chain": "server.pem", "private_key": "server.key"}
        return {"status": True, **{key: str(self.folder / file) for key, file in files.items()}, **more}


def cluster(name: str, *addresses: str, **more: Any) -> Config:
    """A cluster as all samples have it."""
    limits = {"max_request_per_conn": 1024, "conn_buffer_limit_bytes": 32768}
    hosts = [{"address": address} for address in addresses]
    return {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", **limits, "hosts": hosts, **more}


def named(block: Config) -> Config:
    """A cluster in the spelling of older samples."""
    return {"Name": block.pop("name"), **block}


def table(name: str, *routes: Config) -> Config:
    return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": list(routes)}]}


def route(target: str, match: Config | None = None, **more: Any) -> Config:
    return {"match": PREFIX if match is None else match, "route": {"cluster_name": target}, **more}


def proxy(router: str, protocol: str, **more: Any) -> Config:
    return {"type": "proxy", "config": {"downstream_protocol": protocol, **more, "router_config_name": router}}


def listener(name: str, address: str, *filters: Config, chain: Config | None = None, **more: Any) -> Config:
    chains = [{**(chain or {}), "filters": list(filters)}]
    return {"name": name, "address": address, "bind_port": True, "filter_chains": chains, **more}


def file(listeners: list[Config], tables: list[Config], clusters: list[Config], **top: Any) -> Config:
    server: Config = {"default_log_path": "stdout", "routers": tables, "listeners": listeners}
    return {"servers": [server], "cluster_manager": {"clusters": clusters}, **top}


def admin(places: Places) -> Config:
    """`admin` of a sample."""
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": places.port("admin")}}}


class Hop:
    """The most common sample: a listener, a table with one route, and a cluster with one host. A call makes it."""

    def __init__(self, name: str, target: str, protocol: str = "Http1", upstream: str = "", **settings: Any) -> None:
        """`name`: of its listener; also a prefix of its names. `target`: a listener or peer.

        `settings`: `match`; `more` of the proxy; `filters` and `tls` of the listener, `demands` of the cluster; `old` for
        the keys that older samples have; `top` for keys of the file.
        """
        self.name = name
        self._target = target
        self._protocol = protocol
        self._upstream = upstream
        self._settings = settings

    def __call__(self, places: Places) -> Config:
        given, name = self._settings, self.name
        is_old = given.get("old", False)
        chain: Config = {"tls_context": {}} if is_old else {}
        if "tls" in given:
            chain = {"tls_context": places.tls(**given["tls"])}
        more: Config = {"log_path": "stdout"} if is_old else {}
        if "filters" in given:
            more["stream_filters"] = given["filters"](places) if callable(given["filters"]) else given["filters"]
        settings = {"upstream_protocol": self._upstream} if self._upstream else {}
        handler = proxy(f"{name} router", self._protocol, **settings, **given.get("more", {}))
        demands = {"tls_context": places.tls(**given["demands"])} if "demands" in given else {}
        hosts = cluster(f"{name} cluster", places.at(self._target), **demands)
        made = file(
            [listener(f"{name} listener", places.at(name), handler, chain=chain, **more)],
            [table(f"{name} router", route(f"{name} cluster", given.get("match")))],
            [named(hosts) if is_old else hosts],
            **given.get("top", {"disable_upgrade": True, "admin": admin(places)}),
        )
        if is_old:
            made["servers"][0]["default_log_level"] = "DEBUG"
        return made


def merged(*configs: Config) -> Config:
    """One configuration with the listeners, tables and clusters of all of them; of other keys the first counts."""
    made: Config = {}
    for config in configs:
        for key, value in config.items():
            if key == "servers":
                server = made.setdefault("servers", [{"listeners": [], "routers": []}])[0]
                for inner, part in value[0].items():
                    if inner in ("listeners", "routers"):
                        server[inner] = [*server[inner], *part]
                    else:
                        server.setdefault(inner, part)
            elif key == "cluster_manager":
                clusters = made.setdefault(key, {"clusters": []})["clusters"]
                clusters += value.get("clusters", [])
            else:
                made.setdefault(key, value)
    return made
