"""Resources of xDS as messages, and the real program under a scripted control plane."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpConnectionManager
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from process_fixtures import Start
from pymosn_process import READY, Pymosn, Upstream, eventually, free_ports, get
from tests.kit.certificates import Issued
from tests.kit.xds_server import CLUSTER, LISTENER, Recorded, ServerStream, XdsServer, name_of, packed
from tls_peers import opened

from load_client import Asked, Load

#: A setting of the control plane's cluster: a PING after a second without data, which must be answered within another one.
KEEPALIVE = {"http2_protocol_options": {"connection_keepalive": {"interval": "1s", "timeout": "1s"}}}


def eds(name: str, **more: Any) -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS, **more)
    message.eds_cluster_config.eds_config.ads.SetInParent()
    return message


def hosts(name: str, *ports: int) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    group = message.endpoints.add()
    for port in ports:
        address = group.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return message


def manager(name: str, table: str) -> HttpConnectionManager:
    """A connection manager with a table from RDS."""
    made = HttpConnectionManager(stat_prefix=name)
    made.rds.route_config_name = table
    made.rds.config_source.ads.SetInParent()
    made.http_filters.add(name="envoy.filters.http.router").typed_config.Pack(Router())
    return made


def listener(name: str, port: int, *managers: HttpConnectionManager) -> Listener:
    """A listener with a chain for each connection manager."""
    message = Listener(name=name)
    message.address.socket_address.address, message.address.socket_address.port_value = "127.0.0.1", port
    for one in managers:
        message.filter_chains.add().filters.add(name="hcm").typed_config.Pack(one)
    return message


def listens(name: str, port: int, table: str) -> Listener:
    return listener(name, port, manager(name, table))


def routes(name: str, *clusters: str) -> RouteConfiguration:
    """A table that shares all requests between clusters."""
    message = RouteConfiguration(name=name)
    route = message.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    if len(clusters) == 1:
        route.route.cluster = clusters[0]
    for cluster in clusters[1:] and clusters:
        route.route.weighted_clusters.clusters.add(name=cluster).weight.value = 1
    return message


def answers(name: str, text: str) -> RouteConfiguration:
    """A table that answers all requests with a text."""
    message = RouteConfiguration(name=name)
    route = message.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    route.direct_response.body.inline_string = text
    return message


def certificate(name: str, issued: Issued, key: bytes = b"") -> Secret:
    secret = Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = issued.certificate
    secret.tls_certificate.private_key.inline_bytes = key or issued.key
    return secret


def sds_source(address: str, name: str) -> dict[str, Any]:
    """A secret of a server of secrets, for the `sds_source` of a `tls_context` in a file."""
    service = {"googleGrpc": {"targetUri": address, "statPrefix": "sds"}}
    return {"name": name, "sdsConfig": {"apiConfigSource": {"apiType": "GRPC", "grpcServices": [service]}}}


def serial_of(issued: Issued) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(issued.certificate).serial_number


def served_serial(port: int) -> int:
    """The serial number of the certificate that a listener has."""
    with opened(port) as secured:
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def dynamic(control: XdsServer | int, admin: int, **cluster: Any) -> dict[str, Any]:
    """A configuration in dynamic mode. `control`: the control plane, or its port."""
    port = control if isinstance(control, int) else control.port
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    static = {
        "name": "xds_cluster",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "xds_cluster", "endpoints": ends},
        **cluster,
    }
    ads = {
        "api_type": "GRPC",
        "refresh_delay": {"seconds": 3},
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}],
    }
    return {
        "dynamic_resources": {"ads_config": ads, "cds_config": {"ads": {}}, "lds_config": {"ads": {}}},
        "static_resources": {"clusters": [static]},
        "node": {"id": "node-1", "cluster": "test", "unknown_to_envoy": 1},
        "layered_runtime": {"layers": [{"name": "r", "rtds_layer": {"name": "r", "rtds_config": {"ads": {}}}}]},
        "admin": {"address": {"socket_address": {"port_value": admin}}},
    }


def view(admin: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/api/v1/xds") as response:
        return json.load(response)


def is_open(port: int) -> bool:
    try:
        get(port, "/")
    except OSError:
        return False
    return True


def port_of(upstream: Upstream) -> int:
    return int(upstream.port)


class Traffic:
    """Clients that ask without a pause, in a thread of their own; a context manager that asserts that none failed."""

    def __init__(self, port: int, clients: int = 2, context: Any = None, per_connection: int = 1 << 60) -> None:
        self._arguments = port, clients, 1 << 60, context, per_connection
        self._load: Load | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._load = Load(*self._arguments)
        self._started.set()
        await self._load.done()

    @property
    def asked(self) -> list[Asked]:
        assert self._load is not None
        return self._load.asked

    def goes_on(self, count: int = 20) -> bool:
        """Waits until so many more requests are answered, all well."""
        target = len(self.asked) + count
        return eventually(lambda: len(self.asked) >= target or self.failed != []) and not self.failed

    @property
    def failed(self) -> list[Asked]:
        return [one for one in list(self.asked) if not one.is_good]

    def __enter__(self) -> Traffic:
        self._thread.start()
        assert self._started.wait(30)
        assert self.goes_on()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._load is not None
        self._load.stop()
        self._thread.join(60)
        if error == (None, None, None):
            assert self.failed == []


class Mesh:
    """A control plane, and a pymosn in dynamic mode that it drives. `admin`: the port of the admin API."""

    def __init__(
        self,
        start: Start,
        *,
        control: XdsServer | None = None,
        is_delta: bool = False,
        ads: Mapping[str, Any] | None = None,
        top: Mapping[str, Any] | None = None,
        **static: Any,
    ) -> None:
        """`ads`, `top`: more settings of `ads_config` and of the configuration; `static`: of the control plane's cluster."""
        self._start = start
        self.control = XdsServer() if control is None else control
        if control is None:
            self.control.start()
        [self.admin] = free_ports(1)
        self.config = dynamic(self.control, self.admin, **static)
        self.config |= top or {}
        self.config["dynamic_resources"]["ads_config"] |= ads or {}
        if is_delta:
            self.config["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC"
        self._put: dict[str, set[str]] = {}
        self.proxy = self.start()

    def start(self) -> Pymosn:
        """Starts pymosn, also another time."""
        self.proxy = self._start(self.config)
        self.proxy.wait_for(READY)
        return self.proxy

    def put(self, *messages: Any, version: str | None = None) -> str:
        """Adds or replaces resources; returns their version. `version`: instead of the next number."""
        for message in messages:
            self._put.setdefault(packed(message).type_url, set()).add(name_of(message))
        self.control.set(*messages, version=version)
        return str(self.control.version) if version is None else version

    def put_and_see(self, *messages: Any) -> str:
        """The same, and waits until each type is accepted."""
        kinds = {packed(message).type_url for message in messages}
        before = {kind: len(self.control.acks(kind)) for kind in kinds}
        version = self.put(*messages)
        for type_url in kinds:
            # Requests of delta have no version.
            self.control.wait(
                lambda kind=type_url: [
                    one
                    for one in self.control.acks(kind)[before[kind] :]
                    if one.is_delta or one.message.version_info == version
                ]
            )
        return version

    def clear(self) -> None:
        """Removes all that was put, in the order in which nothing is missed."""
        self.control.silent.clear()
        for type_url in sorted(self._put, key=lambda kind: (kind != LISTENER, kind != CLUSTER)):
            self.control.remove(type_url, *self._put[type_url])
        self._put.clear()
        assert eventually(lambda: not any(self.held(kind) for kind in ("cds", "lds", "eds", "rds"))), self.view()

    def reconnected(self, meanwhile: Callable[[], None] = lambda: None) -> ServerStream:
        """Stops the control plane, starts it after `meanwhile`, and returns the next stream, once it is synchronized.

        That is when its clusters and listeners are accepted.
        """
        before = len(self.control.streams)
        self.control.stop()
        meanwhile()
        self.control.start()
        [stream, *_] = self.control.wait(lambda: self.control.streams[before:])
        self.control.wait(lambda: {CLUSTER, LISTENER} <= {one.message.type_url for one in accepted(stream)})
        assert isinstance(stream, ServerStream)
        return stream

    def view(self) -> Any:
        return view(self.admin)

    def held(self, short: str) -> dict[str, str]:
        """The accepted resources of a type (`cds`, ...), and their versions."""
        found: dict[str, str] = self.view()["types"][short]["resources"]
        return found

    def client_view(self, short: str) -> Any:
        """The state of the ADS client about a type."""
        [ads] = [one for one in self.view()["clients"] if one["name"] == "ADS"]
        return ads["types"][short]

    def changes(self) -> int:
        """The number of changes by xDS that were activated."""
        return sum("change from xDS" in line for line in self.proxy.lines)

    def rejected(self, *messages: Any) -> Recorded:
        """Puts resources of one type and returns the NACK of them."""
        type_url = packed(messages[0]).type_url
        before = len(self.control.nacks(type_url))
        self.put(*messages)
        found: list[Recorded] = self.control.wait(lambda: self.control.nacks(type_url)[before:])
        return found[0]

    def serving(self, name: str, upstream_port: int) -> int:
        """Puts a listener, a table and a cluster of one host, all called `name`; returns the port once it serves."""
        [port] = free_ports(1)
        self.put(eds(name), hosts(name, upstream_port), routes(name, name), listens(name, port, name))
        assert eventually(lambda: answered(port) == 200), self.view()
        return port

    def admin_text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}") as response:
            return str(response.read().decode())


def accepted(stream: ServerStream) -> list[Recorded]:
    """The requests of a stream that accept a response."""
    return [one for one in stream.requests if one.message.response_nonce and not one.is_nack]


def answered(port: int, path: str = "/") -> int:
    """The status of a GET; 0 if nothing listens."""
    try:
        return get(port, path)[0]
    except OSError:
        return 0


def text_of(port: int, path: str = "/") -> str:
    """The body of a GET; empty if nothing listens."""
    try:
        return get(port, path)[1]
    except OSError:
        return ""


@contextmanager
def mesh_of(folder: Path, **settings: Any) -> Iterator[Mesh]:
    """A mesh for several tests."""
    start = Start(folder)
    with XdsServer() as control:
        try:
            yield Mesh(start, control=control, **settings)
        finally:
            start.end()


def removed_meanwhile(mesh: Mesh) -> None:
    """A cluster is removed between two streams of delta; the others, with their latest versions, are declared and stay."""
    first, second, third = (Cluster(name=name, type=Cluster.STATIC) for name in "abc")
    mesh.put(first, second)
    mesh.put_and_see(third)
    first.connect_timeout.seconds = 7
    latest = mesh.put_and_see(first)
    assert eventually(lambda: '"b"' in mesh.admin_text("/api/v1/clusters"))
    versions = mesh.held("cds")
    assert versions["a"] == latest
    assert len(set(versions.values())) == 3
    stream = mesh.reconnected(lambda: mesh.control.remove(CLUSTER, "b"))
    asked = next(one for one in stream.requests if one.message.type_url == CLUSTER)
    assert dict(asked.message.initial_resource_versions) == versions
    assert eventually(lambda: mesh.held("cds").keys() == {"a", "c"})
    assert eventually(lambda: '"b"' not in mesh.admin_text("/api/v1/clusters"))
    assert '"a"' in mesh.admin_text("/api/v1/clusters")
