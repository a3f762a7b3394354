"""The sections `dynamic_resources`, `static_resources` and `node`: control planes, and static clusters and listeners.

They are Envoy's Bootstrap as JSON, in snake_case or camelCase. MOSN's `refresh_delay` is an object, which is accepted
and has no effect: nothing has to be asked for again and again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.config.sds import ADS, FILE
from pymosn.control.xds.node import FEATURES
from pymosn.control.xds.types import CLUSTER, LISTENER
from pymosn.core.addresses import write_address
from pymosn.core.files import read_regular
from pymosn.version import VERSION

NO_EXTRA: Final = "xDS requires the optional dependency `xds`: pip install 'pymosn[xds]'"
_ADS: Final = "dynamic_resources.ads_config"
#: The fields of a TLS context of a control plane; gRPC negotiates the versions and protocols itself.
_TLS_FIELDS: Final = ("tls_certificates", "validation_context", "tls_params", "alpn_protocols")
#: The types of which all resources are received -> the key of their source.
_WILDCARDS: Final[Mapping[str, str]] = {CLUSTER: "cds_config", LISTENER: "lds_config"}
_MAX_FILE: Final = 1024 * 1024


class Address(NamedTuple):
    """A control plane: `host:port` or `unix:/path`. Paths of PEM files; empty for none. `has_tls`: false for plain text."""

    address: str
    has_tls: bool = False
    authorities: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    connect_timeout: float = 5.0
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0


class Source(NamedTuple):
    """Where resources come from: the addresses of a control plane, which are tried in turn."""

    addresses: tuple[Address, ...]
    is_delta: bool = False
    node_on_first_message_only: bool = True


class Bootstrap(NamedTuple):
    """`ads`: None without xDS, or if all comes from files. `clusters`, `listeners`: serialized messages.

    `servers`: by the name of a static cluster. `wildcards`: the sources of all clusters and of all listeners, by type.
    """

    ads: Source | None
    node: bytes
    clusters: list[tuple[str, bytes]]
    listeners: list[tuple[str, bytes]]
    servers: Mapping[str, tuple[Address, ...]]
    wildcards: Mapping[str, str] = {}


def is_needed(config: MosnConfig) -> bool:
    """Whether a configuration uses xDS or SDS."""
    return config.uses_xds() or config.uses_sds()


def read_bootstrap(config: MosnConfig) -> tuple[Bootstrap | None, list[Diagnostic]]:
    """Reads the sections; None if there are errors, or if neither xDS nor SDS is used."""
    if not is_needed(config):
        return None, []
    if find_spec("grpc") is None or find_spec("envoy") is None:
        key = "dynamic_resources" if config.uses_xds() else "servers"
        return None, [Diagnostic(path=key, message=NO_EXTRA)]
    reader = _Reader()
    found = reader.read(config)
    return (None if any(fault.severity == "error" for fault in reader.faults) else found), reader.faults


class _Reader:
    def __init__(self) -> None:
        self.faults: list[Diagnostic] = []
        # Why static clusters cannot be control planes.
        self._unusable: dict[str, list[Diagnostic]] = {}

    def error(self, path: str, message: str) -> None:
        self.faults.append(Diagnostic(path=path, message=message))

    def warn(self, path: str, message: str) -> None:
        self.faults.append(Diagnostic(severity="warning", path=path, message=message))

    def read(self, config: MosnConfig) -> Bootstrap | None:
        from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap as Message

        node = self._node(config.node)
        if not config.uses_xds():
            return Bootstrap(None, node, [], [], {})
        dynamic = self._parse(_without_objects(config.dynamic_resources), Message.DynamicResources, "dynamic_resources")
        static = self._parse(config.static_resources, Message.StaticResources, "static_resources")
        if dynamic is None or static is None:
            return None
        servers = {
            cluster.name: self._server(cluster, f"static_resources.clusters[{i}]")
            for i, cluster in enumerate(static.clusters)
        }
        wildcards = self._wildcards(dynamic)
        ads = self._ads(dynamic, servers) if ADS in wildcards.values() or dynamic.HasField("ads_config") else None
        for i, secret in enumerate(static.secrets):
            self.error(f"static_resources.secrets[{i}]", f"secret {secret.name}: use files in tls_context")
        clusters = [(cluster.name, cluster.SerializeToString(deterministic=True)) for cluster in static.clusters]
        listeners = [
            (listener.name, listener.SerializeToString(deterministic=True))
            for listener in (self._named(listener) for listener in static.listeners)
        ]
        return Bootstrap(ads, node, clusters, listeners, servers, wildcards)

    def _parse(self, value: Any, kind: Any, path: str) -> Any:
        from google.protobuf import json_format

        if not isinstance(value, dict):
            self.error(path, "expected an object")
            return None
        try:
            _import_types(value)
            return json_format.ParseDict(value, kind())
        except json_format.ParseError as error:
            self.error(path, str(error))
            return None

    def _node(self, value: Any) -> bytes:
        """The Node message. Unknown fields are ignored, as in MOSN."""
        from envoy.config.core.v3.base_pb2 import Node
        from google.protobuf import json_format

        node = Node()
        try:
            json_format.ParseDict(value if isinstance(value, dict) else {}, node, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            self.error("node", str(error))
        node.user_agent_name = node.user_agent_name or "pymosn"
        if not node.HasField("user_agent_build_version"):
            node.user_agent_version = node.user_agent_version or VERSION
        node.client_features.extend(feature for feature in FEATURES if feature not in node.client_features)
        found: bytes = node.SerializeToString(deterministic=True)
        return found

    def _wildcards(self, dynamic: Any) -> dict[str, str]:
        """The sources of all clusters and listeners: files, or else ADS, as in MOSN."""
        found = {kind: f"{FILE}{path}" for kind, key in _WILDCARDS.items() if (path := _path_in(getattr(dynamic, key)))}
        has_no_file = not found
        for kind, key in _WILDCARDS.items():
            if kind not in found and (has_no_file or dynamic.HasField("ads_config") or dynamic.HasField(key)):
                found[kind] = ADS
        return found

    def _ads(self, dynamic: Any, servers: Mapping[str, tuple[Address, ...]]) -> Source | None:
        if not dynamic.HasField("ads_config"):
            self.error(_ADS, "missing: resources are received over ADS only")
            return None
        for key in ("cds_config", "lds_config"):
            config = getattr(dynamic, key)
            if dynamic.HasField(key) and not config.HasField("ads") and not _path_in(config):
                self.warn(f"dynamic_resources.{key}", "has no effect: everything is received over ADS, as in MOSN")
        ads = dynamic.ads_config
        kind = ads.DESCRIPTOR.fields_by_name["api_type"].enum_type.values_by_number[ads.api_type].name
        if kind not in ("GRPC", "DELTA_GRPC"):
            self.error(f"{_ADS}.api_type", f"{kind} is not supported; expected GRPC or DELTA_GRPC")
        if ads.transport_api_version == 1:
            self.error(f"{_ADS}.transport_api_version", "version 2 of xDS is not supported; expected V3")
        addresses: list[Address] = []
        for i, service in enumerate(ads.grpc_services):
            path = f"{_ADS}.grpc_services[{i}]"
            if service.HasField("google_grpc"):
                addresses.append(Address(_absolute(service.google_grpc.target_uri)))
                continue
            name = service.envoy_grpc.cluster_name
            if name not in servers:
                self.error(f"{path}.envoy_grpc.cluster_name", f"{name!r} is not among static_resources.clusters")
            self.faults += self._unusable.get(name, [])
            addresses += servers.get(name, ())
        if not ads.grpc_services:
            self.error(f"{_ADS}.grpc_services", "missing: the control plane")
        elif not addresses and not self.faults:
            self.error(f"{_ADS}.grpc_services", "the cluster of the control plane has no addresses")
        return Source(tuple(addresses), kind == "DELTA_GRPC", ads.set_node_on_first_message_only)

    def _server(self, cluster: Any, path: str) -> tuple[Address, ...]:
        """The addresses of a static cluster; none, with errors if it is the ADS server, if it cannot be a control plane."""
        before = len(self.faults)
        found = self._addresses(cluster, path)
        self._unusable[cluster.name] = self.faults[before:]
        del self.faults[before:]
        return () if self._unusable[cluster.name] else found

    def _addresses(self, cluster: Any, path: str) -> tuple[Address, ...]:
        """The addresses of a static cluster, if it is used as a control plane."""
        base = self._secured(cluster, path)
        timeout = _seconds(cluster.connect_timeout)
        base = base._replace(connect_timeout=timeout if timeout >= 1.0 else 10.0)
        base = _with_keepalive(base, cluster)
        found: list[Address] = []
        for locality in cluster.load_assignment.endpoints:
            for end in locality.lb_endpoints:
                address = end.endpoint.address
                if address.HasField("pipe"):
                    found.append(base._replace(address=_absolute(address.pipe.path)))
                elif address.HasField("socket_address") and address.socket_address.port_value:
                    host, port = address.socket_address.address, address.socket_address.port_value
                    found.append(base._replace(address=write_address(host, port)))
        return tuple(found)

    def _secured(self, cluster: Any, path: str) -> Address:
        """TLS of a cluster, always when it is configured."""
        from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

        socket = cluster.transport_socket
        if not cluster.HasField("transport_socket") or socket.name == "envoy.transport_sockets.raw_buffer":
            return Address("")
        context = UpstreamTlsContext()
        if not socket.typed_config.Unpack(context):
            self.error(f"{path}.transport_socket.typed_config", f"unknown type {socket.typed_config.type_url}")
            return Address("", has_tls=True)
        common = context.common_tls_context
        for field, _ in common.ListFields():
            if field.name not in _TLS_FIELDS:
                self.error(f"{path}.{field.name}", "is not supported for the connection to a control plane; use files")
        for field, _ in common.validation_context.ListFields():
            if field.name != "trusted_ca":
                what = "is not supported for the connection to a control plane; its certificate must be valid for `sni`"
                self.error(f"{path}.validation_context.{field.name}", what)
        pairs = list(common.tls_certificates)
        if len(pairs) > 1:
            self.error(f"{path}.tls_certificates", "expected at most one")
        for field in (field for pair in pairs for field, _ in pair.ListFields()):
            if field.name not in ("certificate_chain", "private_key"):
                self.error(f"{path}.tls_certificates[0].{field.name}", "is not supported here")
        validation = common.validation_context
        return Address(
            "",
            True,
            self._pem(validation.trusted_ca, f"{path}.trusted_ca"),
            self._pem(pairs[0].certificate_chain, f"{path}.certificate_chain") if pairs else "",
            self._pem(pairs[0].private_key, f"{path}.private_key") if pairs else "",
            context.sni,
        )

    def _pem(self, source: Any, path: str) -> str:
        """The PEM text of a DataSource."""
        if source.environment_variable:
            text = os.environ.get(source.environment_variable, "")
            if not text:
                self.error(path, f"the environment variable {source.environment_variable} is not set")
            return text
        if source.filename:
            try:
                return read_regular(source.filename, _MAX_FILE).decode("utf-8", "replace")
            except (OSError, ValueError) as error:
                self.error(path, f"{source.filename} cannot be read: {error}")
                return ""
        return str(source.inline_string) or source.inline_bytes.decode("utf-8", "replace")

    def _named(self, listener: Any) -> Any:
        """A listener with MOSN's name if it has none."""
        listener.name = listener.name or f"127.0.0.1_{listener.address.socket_address.port_value}"
        return listener


def _with_keepalive(base: Address, cluster: Any) -> Address:
    """`connection_keepalive` of HTTP/2 sets the times of PINGs. gRPC has no probes of TCP: PINGs are sent instead of them,
    more often than by default if `tcp_keepalive` begins earlier; a later one, as Istio's of 300 s, does not delay them.
    """
    from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

    alive = cluster.upstream_connection_options.tcp_keepalive
    if alive.keepalive_time.value:
        base = base._replace(keepalive=min(base.keepalive, float(alive.keepalive_time.value)))
    found = [cluster.http2_protocol_options]
    options = HttpProtocolOptions()
    for value in cluster.typed_extension_protocol_options.values():
        if value.Unpack(options):
            found += [options.explicit_http_config.http2_protocol_options, options.auto_config.http2_protocol_options]
    for http2 in found:
        ping = http2.connection_keepalive
        base = base._replace(
            keepalive=_seconds(ping.interval) or base.keepalive,
            keepalive_timeout=_seconds(ping.timeout) or base.keepalive_timeout,
        )
    return base


def _seconds(duration: Any) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9


def _import_types(value: Any) -> None:
    """Imports the messages that are named by `@type`, which the parser must know."""
    from pymosn.control.xds.convert.messages import MODULES, type_of

    if isinstance(value, dict):
        module = MODULES.get(type_of(str(value.get("@type", ""))))
        if module is not None:
            import_module(module)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _import_types(item)


def _path_in(config: Any) -> str:
    """The file of a ConfigSource; empty for none."""
    return str(config.path_config_source.path or config.path)


def _absolute(target: str) -> str:
    """The address in a target: a path belongs to the working directory."""
    path = target.removeprefix("unix://").removeprefix("unix:")
    return f"unix:{os.path.abspath(path)}" if path != target or target.startswith(("/", "./")) else target


def _without_objects(value: Any) -> Any:
    """The section without MOSN's form of `refresh_delay`."""
    if not isinstance(value, dict):
        return value
    shown = {}
    for key, item in value.items():
        if key.replace("_", "").lower() == "refreshdelay" and isinstance(item, dict):
            continue
        shown[key] = _without_objects(item)
    return shown
