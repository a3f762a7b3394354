"""What a client needs of a connection to a control plane, as an interface. `grpc_transport` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from pymosn.control.xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET

_SERVICE: Final = "/envoy.service."
#: The methods of all types on one stream (ADS): state of the world, delta.
ADS: Final = (
    _SERVICE + "discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    _SERVICE + "discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
)
#: Type -> the methods of a stream of its own: state of the world, delta.
METHODS: Final[Mapping[str, tuple[str, str]]] = {
    CLUSTER: (
        _SERVICE + "cluster.v3.ClusterDiscoveryService/StreamClusters",
        _SERVICE + "cluster.v3.ClusterDiscoveryService/DeltaClusters",
    ),
    ENDPOINTS: (
        _SERVICE + "endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
        _SERVICE + "endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
    ),
    LISTENER: (
        _SERVICE + "listener.v3.ListenerDiscoveryService/StreamListeners",
        _SERVICE + "listener.v3.ListenerDiscoveryService/DeltaListeners",
    ),
    ROUTES: (
        _SERVICE + "route.v3.RouteDiscoveryService/StreamRoutes",
        _SERVICE + "route.v3.RouteDiscoveryService/DeltaRoutes",
    ),
    SECRET: (
        _SERVICE + "secret.v3.SecretDiscoveryService/StreamSecrets",
        _SERVICE + "secret.v3.SecretDiscoveryService/DeltaSecrets",
    ),
    EXTENSION: (
        _SERVICE + "extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs",
        _SERVICE + "extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs",
    ),
}


class Tls(NamedTuple):
    """TLS to a control plane, in PEM. The server's certificate must be valid for `server_name`; empty: for the address.

    `authorities`: empty for those of gRPC. `certificate`, `key`: of the client; both or none.
    """

    authorities: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    server_name: str = ""


class Server(NamedTuple):
    """One address of a control plane: `host:port` or `unix:/path`. `tls`: None for plaintext. Times are in seconds.

    `keepalive`, `keepalive_timeout`: an HTTP/2 PING after so long without data, and the wait for its answer.
    `metadata`: of every stream, such as `initial_metadata` of the configuration.
    """

    address: str
    tls: Tls | None = None
    connect_timeout: float = 5.0
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    max_message_bytes: int = 256 * 1024 * 1024
    metadata: tuple[tuple[str, str], ...] = ()


class StreamEnded(Exception):
    """A stream has ended, or could not be opened; the text is the reason.

    `is_normal`: the server ended it with status OK, or closes its connections in an orderly way (GOAWAY).
    `refuses_pings`: the server finds the keepalive PINGs too frequent.
    """

    def __init__(self, reason: str, is_normal: bool = False, refuses_pings: bool = False) -> None:
        super().__init__(reason)
        self.is_normal = is_normal
        self.refuses_pings = refuses_pings


class Stream:
    """One open stream."""

    async def send(self, message: bytes) -> None:
        """Sends a serialized request; waits while the server does not read. StreamEnded."""
        raise NotImplementedError

    async def read(self) -> bytes:
        """The next serialized response. StreamEnded."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the stream and its connection. May be called at any time, and again."""
        raise NotImplementedError


class Transport:
    """Opens streams."""

    async def open(self, server: Server, method: str) -> Stream:
        """Connects and opens a stream of a method. StreamEnded."""
        raise NotImplementedError
