"""The resources of the groups: a listener, a RouteConfiguration and all clusters, as messages; and the requests to them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import Message
from tests.system.pymosn_process import PATIENCE, eventually

from interop.echo import EchoHosts, Seen
from interop.xds_groups import Group, Json, Sent
from interop.xds_hash_clusters import HASH_CLUSTERS
from interop.xds_places import locality
from interop.xds_types import message_of

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
#: The configuration of a resource comes from the same stream.
ADS: Json = {"ads": {}, "resource_api_version": "V3"}


class Answer(NamedTuple):
    """What a client got. `headers`: with lower-case names, in order. `seen`: what the upstreams have received."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seen: tuple[Seen, ...]


def cluster(name: str, **more: Any) -> Message:
    """A cluster whose hosts come by EDS."""
    base = {
        "name": name,
        "type": "EDS",
        "connect_timeout": "2s",
        "eds_cluster_config": {"eds_config": ADS},
    }
    return message_of("envoy.config.cluster.v3.Cluster", {**base, **more})


def endpoints(name: str, *localities: Json) -> Message:
    """The hosts of a cluster."""
    return message_of(
        "envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": name, "endpoints": list(localities)}
    )


def clusters(ports: Mapping[str, int], refusing: int) -> list[Message]:
    """All clusters and their endpoints. `ports`: those of the hosts; `refusing`: one that nothing listens on."""
    every = list(ports.values())
    a, b, c, *_ = every
    subsets = {"lb_subset_config": {"fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["version"]}]}}
    panic = {"common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
    ring = {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 256}}
    made: list[tuple[Message, list[Json]]] = [
        (cluster("a"), [locality([a])]),
        (cluster("b"), [locality([b])]),
        (cluster("empty"), []),
        (cluster("refusing"), [locality([refusing])]),
        (cluster("ring", **ring), [locality(every)]),
        (cluster("maglev", lb_policy="MAGLEV", maglev_lb_config={"table_size": 1021}), [locality(every)]),
        (cluster("subsets", **subsets), [locality([a], version="v1"), locality([b], version="v2")]),
        (cluster("priorities"), [locality([a], health="UNHEALTHY"), locality([c], priority=1)]),
        (cluster("unhealthy", **panic), [locality([a, b], health="UNHEALTHY")]),
    ]
    made += [(cluster(one.name, **one.fields), one.places([*ports.values()])) for one in HASH_CLUSTERS]
    return [message for one, places in made for message in (one, endpoints(str(one.name), *places))]


def routes(group: Group) -> Message:
    """The RouteConfiguration of a group."""
    return message_of("envoy.config.route.v3.RouteConfiguration", _table(group))


def _table(group: Group) -> Json:
    return {"name": group.name, "virtual_hosts": group.virtual_hosts, **group.table}


def listener(group: Group, port: int) -> Message:
    """The listener of a group."""
    source: Json = {"rds": {"route_config_name": group.name, "config_source": ADS}}
    manager = {
        "@type": f"type.googleapis.com/{_MANAGER}",
        "stat_prefix": group.name,
        "http_filters": [_ROUTER],
        **({"route_config": _table(group)} if group.is_inline else source),
        **group.hcm,
    }
    last = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    chain = {"filters": [*group.network, last]}
    return message_of(
        "envoy.config.listener.v3.Listener",
        {
            "name": group.name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [chain],
            **group.listener,
        },
    )


def resources(groups: Sequence[Group], ports: Mapping[str, int], hosts: EchoHosts, refusing: int) -> Iterator[Message]:
    """Everything that a control plane sends. `ports`: name of a group -> the port of its listener."""
    yield from clusters(hosts.ports, refusing)
    for group in groups:
        if not group.is_inline:
            yield routes(group)
        yield listener(group, ports[group.name])


class Client:
    """Sends requests, each on a connection of its own, and looks what the upstreams have got of them."""

    def __init__(self, hosts: EchoHosts, name: str) -> None:
        self._hosts = hosts
        self._name = name
        self._count = 0

    def send(self, port: int, request: Sent) -> Answer:
        """Sends a request, and waits for the copies that mirroring makes."""
        self._count += 1
        case = f"{self._name}-{self._count}"
        status, headers, body = exchange(port, request, case)
        if request.path.startswith("/mirror"):
            eventually(lambda: len(self._hosts.seen(case)) > 1, 3)
        return Answer(status, headers, body, tuple(sorted(self._hosts.seen(case), key=lambda seen: seen.host)))


def exchange(port: int, request: Sent, case: str = "") -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """Sends one request on a connection of its own: status, headers and body of the response; 0 if there was none."""
    body = b"hello" if request.method in ("POST", "PUT", "PATCH") else b""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.host}", f"x-case: {case}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        response = http.client.HTTPResponse(connection, method=request.method)
        try:
            response.begin()
            content = response.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, (), b""
    return response.status, tuple((name.lower(), value) for name, value in response.getheaders()), content
