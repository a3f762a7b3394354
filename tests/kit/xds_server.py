"""A scripted control plane over real gRPC: state of the world, delta and SDS, on ADS or a stream for each type.

By itself it does what a correct control plane does: `set` and `remove` change its resources, and every subscribed stream is
sent what it needs. It can also be silent, repeat what was rejected, send any response (`ServerStream.send`), end or kill
streams, stop, and start again on the same port. All requests are recorded.

It runs gRPC's own threads, so that tests with and without an event loop can use it.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, duration_pb2

TYPE_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = TYPE_PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = TYPE_PREFIX + "envoy.config.listener.v3.Listener"
ROUTES: Final = TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET: Final = TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
#: Types with a wildcard.
WILDCARD: Final = frozenset({CLUSTER, LISTENER})

_DISCOVERY: Final = "envoy.service."
#: Service -> (method for state of the world, method for delta).
SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    _DISCOVERY + "discovery.v3.AggregatedDiscoveryService": ("StreamAggregatedResources", "DeltaAggregatedResources"),
    _DISCOVERY + "cluster.v3.ClusterDiscoveryService": ("StreamClusters", "DeltaClusters"),
    _DISCOVERY + "endpoint.v3.EndpointDiscoveryService": ("StreamEndpoints", "DeltaEndpoints"),
    _DISCOVERY + "listener.v3.ListenerDiscoveryService": ("StreamListeners", "DeltaListeners"),
    _DISCOVERY + "route.v3.RouteDiscoveryService": ("StreamRoutes", "DeltaRoutes"),
    _DISCOVERY + "secret.v3.SecretDiscoveryService": ("StreamSecrets", "DeltaSecrets"),
}
#: Seconds for which `wait` waits by default.
PATIENCE: Final = 20.0


class TlsFiles(NamedTuple):
    """PEM: the server's chain and key; `client_ca`: clients must have a certificate of this CA."""

    certificate: bytes
    key: bytes
    client_ca: bytes = b""


def name_of(message: Any) -> str:
    """The name of a resource."""
    return str(message.cluster_name if hasattr(message, "cluster_name") else message.name)


def packed(message: Any) -> any_pb2.Any:
    """A message in an `Any`, with the same bytes each time."""
    return any_pb2.Any(
        type_url=TYPE_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


def wrapped(message: Any | None, name: str, version: str = "", ttl: float | None = None) -> discovery_pb2.Resource:
    """The wrapper `Resource`. Without a message it is a heartbeat."""
    resource = discovery_pb2.Resource(name=name, version=version)
    if message is not None:
        resource.resource.CopyFrom(message if isinstance(message, any_pb2.Any) else packed(message))
    if ttl is not None:
        duration = duration_pb2.Duration()
        duration.FromMilliseconds(round(ttl * 1000))
        resource.ttl.CopyFrom(duration)
    return resource


class Recorded(NamedTuple):
    """One request. `at`: monotonic seconds. `stream`: number of the stream, from 1. `message`: (Delta)DiscoveryRequest."""

    at: float
    stream: int
    is_delta: bool
    message: Any

    @property
    def is_nack(self) -> bool:
        return bool(self.message.HasField("error_detail"))


class _Watch:
    """What one stream has subscribed to of one type, and what it was sent."""

    def __init__(self) -> None:
        # In their order; thousands are looked up.
        self.names: dict[str, None] = {}
        # Whether names were subscribed on this stream, from when on an empty list means none.
        self.has_named = False
        self.is_wildcard = False
        self.nonce = ""
        self.version = ""
        # Delta: name -> version that the client has.
        self.sent: dict[str, str] = {}
        # State of the world: the names and the version of the last response.
        self.last: tuple[object, ...] = ()


class ServerStream:
    """One stream of a client, as the server sees it. `number`: from 1. `method`: its path, such as `/a.Service/Method`."""

    def __init__(self, server: XdsServer, number: int, method: str, is_delta: bool, context: Any) -> None:
        self.number = number
        self.method = method
        self.is_delta = is_delta
        self.is_open = True
        self.watches: dict[str, _Watch] = {}
        self._server = server
        self._context = context
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def requests(self) -> list[Recorded]:
        """The requests of this stream."""
        return [one for one in self._server.requests if one.stream == self.number]

    @property
    def peer(self) -> str:
        """gRPC's text for the client's address."""
        return str(self._context.peer())

    def send(self, message: Any) -> None:
        """Sends a response: a message, or any bytes."""
        self._waiting.put(message)

    def send_sotw(self, type_url: str, *resources: Any, version: str, nonce: str) -> None:
        """Sends a DiscoveryResponse. Each of `resources` is a message, an `Any`, or a `Resource`, which is packed."""
        packs = [one if isinstance(one, any_pb2.Any) else packed(one) for one in resources]
        self.send(discovery_pb2.DiscoveryResponse(type_url=type_url, version_info=version, nonce=nonce, resources=packs))

    def end(self, code: Any = None, details: str = "") -> None:
        """Ends the stream: with status OK, or with a code of gRPC."""
        self._waiting.put(_End(code, details))

    def _responses(self) -> Iterator[bytes]:
        while True:
            item = self._waiting.get()
            if isinstance(item, _End):
                if item.code is not None:
                    self._context.abort(item.code, item.details)
                return
            yield item if isinstance(item, bytes) else item.SerializeToString(deterministic=True)


class _End(NamedTuple):
    code: Any
    details: str


class XdsServer:
    """A control plane on a loopback port, or at `address` such as `unix:/path`. A context manager that starts and stops it.

    `silent`: types that are never answered. `repeats_rejected`: a rejected response is sent again at once, as
    go-control-plane does; istiod does not. `is_empty`: it knows of no resource, as after a start. `ttl`: seconds of every
    resource. `ignores_versions`: delta clients are sent everything, whatever they have.
    """

    def __init__(self, address: str = "127.0.0.1:0", tls: TlsFiles | None = None) -> None:
        self.requests: list[Recorded] = []
        self.streams: list[ServerStream] = []
        self.silent: set[str] = set()
        self.repeats_rejected = False
        self.ignores_versions = False
        self.is_empty = False
        self.ttl: float | None = None
        self.version = 0
        self._address = address
        self._tls = tls
        self._resources: dict[str, dict[str, tuple[any_pb2.Any, str]]] = {}
        self._versions: dict[str, str] = {}
        self._nonces = itertools.count(1)
        self._changed = threading.Condition(threading.RLock())
        self._server: Any = None

    # ---- life

    def __enter__(self) -> XdsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """`127.0.0.1:port` or `unix:/path`."""
        return self._address

    @property
    def port(self) -> int:
        """The port."""
        return int(self._address.rpartition(":")[2])

    def start(self) -> None:
        """Listens; after `stop` at the same address, with the same resources."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        server = grpc.server(ThreadPoolExecutor(64, "xds server"), options=options)
        for service, (stream, delta) in SERVICES.items():
            handlers = {stream: self._handler(service, stream, False), delta: self._handler(service, delta, True)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        if self._tls is None:
            port = server.add_insecure_port(self._address)
        else:
            port = server.add_secure_port(self._address, _credentials(self._tls))
        if not self._address.startswith("unix:"):
            self._address = f"{self._address.rpartition(':')[0]}:{port}"
        server.start()
        self._server = server

    def stop(self) -> None:
        """Closes all connections and the port."""
        if self._server is None:
            return
        stopping = self._server.stop(None)
        for stream in self.streams:
            stream.end()
        stopping.wait(PATIENCE)
        self._server = None

    # ---- resources

    def set(self, *messages: Any, version: str | None = None) -> None:
        """Adds or replaces resources, and sends them to their subscribers; one response for each type."""
        with self._changed:
            changed = set()
            self.version += 1
            text = version if version is not None else str(self.version)
            for message in messages:
                pack = packed(message)
                self._resources.setdefault(pack.type_url, {})[name_of(message)] = (pack, text)
                self._versions[pack.type_url] = text
                changed.add(pack.type_url)
            self._push(changed)

    def remove(self, type_url: str, *names: str) -> None:
        """Removes resources, all of a type if none is named, and informs the subscribers."""
        with self._changed:
            self.version += 1
            held = self._resources.setdefault(type_url, {})
            for name in names or tuple(held):
                held.pop(name, None)
            self._versions[type_url] = str(self.version)
            self._push({type_url})

    def answer(self, type_url: str) -> None:
        """Ends the silence about a type."""
        with self._changed:
            self.silent.discard(type_url)
            self._push({type_url})

    # ---- waiting

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Waits until `condition` is true after a request or the start of a stream; returns its value. AssertionError."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (found := condition()):
                left = end - time.monotonic()
                assert left > 0, f"not within {seconds} s; requests:\n" + "\n".join(map(str, self.requests[-10:]))
                # Conditions may also depend on what does not notify.
                self._changed.wait(min(left, 0.05))
            return found

    def of(self, type_url: str) -> list[Recorded]:
        """The requests of a type."""
        return [one for one in self.requests if one.message.type_url == type_url]

    def acks(self, type_url: str, version: str | None = None) -> list[Recorded]:
        """The requests that accept a response of a type; of that version (state of the world)."""
        found = [one for one in self.of(type_url) if one.message.response_nonce and not one.is_nack]
        return [one for one in found if version is None or one.message.version_info == version]

    def nacks(self, type_url: str) -> list[Recorded]:
        """The requests that reject a response of a type."""
        return [one for one in self.of(type_url) if one.is_nack]

    def open_streams(self) -> list[ServerStream]:
        """The streams that have not ended."""
        return [one for one in self.streams if one.is_open]

    # ---- streams

    def _handler(self, service: str, method: str, is_delta: bool) -> Any:
        kind = discovery_pb2.DeltaDiscoveryRequest if is_delta else discovery_pb2.DiscoveryRequest

        def handle(requests: Iterator[Any], context: Any) -> Iterator[bytes]:
            with self._changed:
                stream = ServerStream(self, len(self.streams) + 1, f"/{service}/{method}", is_delta, context)
                self.streams.append(stream)
                self._changed.notify_all()
            context.add_callback(lambda: self._on_end(stream))
            threading.Thread(target=self._read, args=(stream, requests), daemon=True).start()
            return stream._responses()

        return grpc.stream_stream_rpc_method_handler(handle, request_deserializer=kind.FromString)

    def _on_end(self, stream: ServerStream) -> None:
        with self._changed:
            stream.is_open = False
            stream.end()
            self._changed.notify_all()

    def _read(self, stream: ServerStream, requests: Iterator[Any]) -> None:
        try:
            for message in requests:
                with self._changed:
                    self.requests.append(Recorded(time.monotonic(), stream.number, stream.is_delta, message))
                    (self._on_delta if stream.is_delta else self._on_sotw)(stream, message)
                    self._changed.notify_all()
            stream.end()
        except grpc.RpcError:
            stream.end()

    def _push(self, types: Collection[str]) -> None:
        for stream in self.open_streams():
            for type_url in [one for one in stream.watches if one in types]:
                (self._send_delta if stream.is_delta else self._send_sotw)(stream, type_url)

    def _known(self, type_url: str) -> dict[str, tuple[any_pb2.Any, str]]:
        return {} if self.is_empty else self._resources.get(type_url, {})

    # ---- state of the world

    def _on_sotw(self, stream: ServerStream, message: Any) -> None:
        type_url = message.type_url
        watch = stream.watches.get(type_url)
        if watch is not None and message.response_nonce != watch.nonce:
            return  # stale
        names = list(message.resource_names)
        if watch is None:
            watch = stream.watches[type_url] = _Watch()
            watch.is_wildcard = not names and type_url in WILDCARD
            watch.version = message.version_info
        watch.has_named = watch.has_named or bool(names)
        if watch.has_named:
            watch.is_wildcard = "*" in names
        watch.names = dict.fromkeys(names)
        if message.HasField("error_detail"):
            if self.repeats_rejected:
                watch.last = ()
                self._send_sotw(stream, type_url)
            return
        if watch.version and not message.version_info:
            watch.last = ()  # the client asks for everything again
        watch.version = message.version_info
        self._send_sotw(stream, type_url)

    def _send_sotw(self, stream: ServerStream, type_url: str) -> None:
        if type_url in self.silent:
            return
        watch = stream.watches[type_url]
        held = self._known(type_url)
        chosen = [name for name in held if watch.is_wildcard or name in watch.names]
        version = self._versions.get(type_url, "")
        state = (version, tuple(watch.names), tuple(chosen))
        if not version or state == watch.last or (watch.last == () and not chosen and type_url not in WILDCARD):
            return
        watch.last = state
        watch.nonce = f"n{next(self._nonces)}"
        resources: list[Any] = [held[name][0] for name in chosen]
        if self.ttl is not None:
            resources = [packed(wrapped(held[name][0], name, held[name][1], self.ttl)) for name in chosen]
        stream.send_sotw(type_url, *resources, version=version, nonce=watch.nonce)

    # ---- delta

    def _on_delta(self, stream: ServerStream, message: Any) -> None:
        type_url = message.type_url
        watch = stream.watches.get(type_url)
        subscribe = list(message.resource_names_subscribe)
        if watch is None:
            watch = stream.watches[type_url] = _Watch()
            watch.is_wildcard = not subscribe and type_url in WILDCARD
            watch.sent = {} if self.ignores_versions else dict(message.initial_resource_versions)
        watch.is_wildcard = (watch.is_wildcard or "*" in subscribe) and "*" not in message.resource_names_unsubscribe
        watch.names.update((name, None) for name in subscribe if name != "*")
        for name in message.resource_names_unsubscribe:
            watch.sent.pop(name, None)
            watch.names.pop(name, None)
        if message.HasField("error_detail"):
            if message.response_nonce == watch.nonce and self.repeats_rejected:
                watch.sent.clear()
                self._send_delta(stream, type_url)
            return
        missing = [name for name in subscribe if name != "*" and name not in self._resources.get(type_url, {})]
        self._send_delta(stream, type_url, [*missing], must=bool(subscribe) or not watch.nonce)

    def _send_delta(self, stream: ServerStream, type_url: str, missing: list[str] | None = None, must: bool = False) -> None:
        if type_url in self.silent:
            return
        watch = stream.watches[type_url]
        held = self._known(type_url)
        chosen = [name for name in held if watch.is_wildcard or name in watch.names]
        changed = [name for name in chosen if watch.sent.get(name) != held[name][1]]
        gone = [name for name in watch.sent if name not in held] + (missing or [])
        if not changed and not gone and not must:
            return
        watch.nonce = f"d{next(self._nonces)}"
        response = discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url, nonce=watch.nonce, system_version_info=self._versions.get(type_url, "")
        )
        response.removed_resources.extend(dict.fromkeys(gone))
        for name in changed:
            response.resources.append(wrapped(held[name][0], name, held[name][1], self.ttl))
            watch.sent[name] = held[name][1]
        for name in gone:
            watch.sent.pop(name, None)
        stream.send(response)


def _credentials(tls: TlsFiles) -> Any:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], tls.client_ca or None, require_client_auth=bool(tls.client_ca)
    )
