"""The types of messages that may be inside an `Any`, and how they are unpacked.

Their modules are imported when the first message of a type arrives, because each of them costs memory of the supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

_PREFIX: Final = "type.googleapis.com/"
_EXTENSIONS: Final = "envoy.extensions."
_HTTP: Final = _EXTENSIONS + "filters.http."
_NETWORK: Final = _EXTENSIONS + "filters.network."
_LISTENER: Final = _EXTENSIONS + "filters.listener."
_POLICY: Final = _EXTENSIONS + "load_balancing_policies."
_DNS: Final = _EXTENSIONS + "network.dns_resolver."

#: Filters, by their names without the packages that all have.
_FILTERS: Final[Mapping[str, Mapping[str, str]]] = {
    _HTTP: {
        "buffer.v3.Buffer": "buffer.v3.buffer_pb2",
        "buffer.v3.BufferPerRoute": "buffer.v3.buffer_pb2",
        "compressor.v3.Compressor": "compressor.v3.compressor_pb2",
        "cors.v3.Cors": "cors.v3.cors_pb2",
        "cors.v3.CorsPolicy": "cors.v3.cors_pb2",
        "ext_authz.v3.ExtAuthz": "ext_authz.v3.ext_authz_pb2",
        "ext_authz.v3.ExtAuthzPerRoute": "ext_authz.v3.ext_authz_pb2",
        "fault.v3.HTTPFault": "fault.v3.fault_pb2",
        "grpc_json_transcoder.v3.GrpcJsonTranscoder": "grpc_json_transcoder.v3.transcoder_pb2",
        "grpc_stats.v3.FilterConfig": "grpc_stats.v3.config_pb2",
        "grpc_web.v3.GrpcWeb": "grpc_web.v3.grpc_web_pb2",
        "header_to_metadata.v3.Config": "header_to_metadata.v3.header_to_metadata_pb2",
        "health_check.v3.HealthCheck": "health_check.v3.health_check_pb2",
        "jwt_authn.v3.JwtAuthentication": "jwt_authn.v3.config_pb2",
        "jwt_authn.v3.PerRouteConfig": "jwt_authn.v3.config_pb2",
        "local_ratelimit.v3.LocalRateLimit": "local_ratelimit.v3.local_rate_limit_pb2",
        "ratelimit.v3.RateLimit": "ratelimit.v3.rate_limit_pb2",
        "rbac.v3.RBAC": "rbac.v3.rbac_pb2",
        "rbac.v3.RBACPerRoute": "rbac.v3.rbac_pb2",
    },
    _NETWORK: {
        "ext_authz.v3.ExtAuthz": "ext_authz.v3.ext_authz_pb2",
        "rbac.v3.RBAC": "rbac.v3.rbac_pb2",
    },
}
_OWN: Final = "pymosn.control.xds.convert.own_types"

#: Full name of a type -> the module that has it. A converter adds the types that it reads.
MODULES: Final[Mapping[str, str]] = {
    **{package + name: package + module for package, found in _FILTERS.items() for name, module in found.items()},
    "envoy.tcp.metadataexchange.config.MetadataExchange": _OWN,
    "io.istio.http.peer_metadata.Config": _OWN,
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": _OWN,
    "pymosn.python.v1.Filter": _OWN,
    "stats.PluginConfig": _OWN,
    "envoy.config.cluster.v3.Cluster": "envoy.config.cluster.v3.cluster_pb2",
    "envoy.config.endpoint.v3.ClusterLoadAssignment": "envoy.config.endpoint.v3.endpoint_pb2",
    "envoy.config.listener.v3.Listener": "envoy.config.listener.v3.listener_pb2",
    "envoy.config.core.v3.TypedExtensionConfig": "envoy.config.core.v3.extension_pb2",
    "envoy.config.route.v3.FilterConfig": "envoy.config.route.v3.route_components_pb2",
    "envoy.config.route.v3.RouteConfiguration": "envoy.config.route.v3.route_pb2",
    "envoy.extensions.transport_sockets.tls.v3.Secret": "envoy.extensions.transport_sockets.tls.v3.secret_pb2",
    _EXTENSIONS + "clusters.dns.v3.DnsCluster": _EXTENSIONS + "clusters.dns.v3.dns_cluster_pb2",
    _DNS + "cares.v3.CaresDnsResolverConfig": _DNS + "cares.v3.cares_dns_resolver_pb2",
    _DNS + "getaddrinfo.v3.GetAddrInfoDnsResolverConfig": _DNS + "getaddrinfo.v3.getaddrinfo_dns_resolver_pb2",
    _POLICY + "cluster_provided.v3.ClusterProvided": _POLICY + "cluster_provided.v3.cluster_provided_pb2",
    _POLICY + "least_request.v3.LeastRequest": _POLICY + "least_request.v3.least_request_pb2",
    _POLICY + "maglev.v3.Maglev": _POLICY + "maglev.v3.maglev_pb2",
    _POLICY + "random.v3.Random": _POLICY + "random.v3.random_pb2",
    _POLICY + "ring_hash.v3.RingHash": _POLICY + "ring_hash.v3.ring_hash_pb2",
    _POLICY + "round_robin.v3.RoundRobin": _POLICY + "round_robin.v3.round_robin_pb2",
    _POLICY + "wrr_locality.v3.WrrLocality": _POLICY + "wrr_locality.v3.wrr_locality_pb2",
    _NETWORK + "http_connection_manager.v3.HttpConnectionManager": (
        _NETWORK + "http_connection_manager.v3.http_connection_manager_pb2"
    ),
    _NETWORK + "tcp_proxy.v3.TcpProxy": _NETWORK + "tcp_proxy.v3.tcp_proxy_pb2",
    _HTTP + "cors.v3.CorsPolicy": _HTTP + "cors.v3.cors_pb2",
    _HTTP + "fault.v3.HTTPFault": _HTTP + "fault.v3.fault_pb2",
    _HTTP + "router.v3.Router": _HTTP + "router.v3.router_pb2",
    **{
        f"{_LISTENER}{name}.v3.{kind}": f"{_LISTENER}{name}.v3.{name}_pb2"
        for name, kind in (
            ("http_inspector", "HttpInspector"),
            ("original_dst", "OriginalDst"),
            ("proxy_protocol", "ProxyProtocol"),
        )
    },
    _EXTENSIONS + "access_loggers.file.v3.FileAccessLog": _EXTENSIONS + "access_loggers.file.v3.file_pb2",
    _EXTENSIONS + "access_loggers.stream.v3.StdoutAccessLog": _EXTENSIONS + "access_loggers.stream.v3.stream_pb2",
    _EXTENSIONS + "access_loggers.stream.v3.StderrAccessLog": _EXTENSIONS + "access_loggers.stream.v3.stream_pb2",
    _EXTENSIONS + "request_id.uuid.v3.UuidRequestIdConfig": _EXTENSIONS + "request_id.uuid.v3.uuid_pb2",
    _LISTENER + "tls_inspector.v3.TlsInspector": _LISTENER + "tls_inspector.v3.tls_inspector_pb2",
    _EXTENSIONS + "retry.host.previous_hosts.v3.PreviousHostsPredicate": _EXTENSIONS
    + "retry.host.previous_hosts.v3.previous_hosts_pb2",
    _EXTENSIONS + "compression.brotli.compressor.v3.Brotli": _EXTENSIONS + "compression.brotli.compressor.v3.brotli_pb2",
    _EXTENSIONS + "compression.gzip.compressor.v3.Gzip": _EXTENSIONS + "compression.gzip.compressor.v3.gzip_pb2",
    _EXTENSIONS + "compression.zstd.compressor.v3.Zstd": _EXTENSIONS + "compression.zstd.compressor.v3.zstd_pb2",
    _EXTENSIONS + "transport_sockets.tls.v3.UpstreamTlsContext": _EXTENSIONS + "transport_sockets.tls.v3.tls_pb2",
    _EXTENSIONS + "transport_sockets.tls.v3.DownstreamTlsContext": _EXTENSIONS + "transport_sockets.tls.v3.tls_pb2",
    _EXTENSIONS + "transport_sockets.tls.v3.SPIFFECertValidatorConfig": _EXTENSIONS
    + "transport_sockets.tls.v3.tls_spiffe_validator_config_pb2",
    _EXTENSIONS + "transport_sockets.raw_buffer.v3.RawBuffer": _EXTENSIONS
    + "transport_sockets.raw_buffer.v3.raw_buffer_pb2",
    _EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions": _EXTENSIONS + "upstreams.http.v3.http_protocol_options_pb2",
}
#: Wrappers of a message as JSON: of xDS, and of its old name.
_TYPED_STRUCTS: Final = {
    "udpa.type.v1.TypedStruct": "udpa.type.v1.typed_struct_pb2",
    "xds.type.v3.TypedStruct": "xds.type.v3.typed_struct_pb2",
}


class UnknownTypeError(ValueError):
    """A message is of a type that is not known here, or its content is not of that type."""


def type_of(url: str) -> str:
    """The full name of the type in a type URL."""
    return url.rpartition("/")[2]


def packed_type(packed: Any) -> str:
    """The full name of the type of the message in an `Any`, also within a `TypedStruct`. UnknownTypeError."""
    name = type_of(packed.type_url)
    if name not in _TYPED_STRUCTS:
        return name
    return type_of(str(_parsed(name, _TYPED_STRUCTS[name], packed.value).type_url))


def unpack(packed: Any) -> Message:
    """The message in an `Any`. A `TypedStruct` is unpacked, too, as the type that it names. UnknownTypeError."""
    name = type_of(packed.type_url)
    if name in _TYPED_STRUCTS:
        struct = _parsed(name, _TYPED_STRUCTS[name], packed.value)
        inner = type_of(struct.type_url)
        message = _class(inner)()
        try:
            json_format.ParseDict(json_format.MessageToDict(struct.value), message)
        except (json_format.ParseError, ValueError) as error:  # ValueError: of numbers that JSON does not have
            raise UnknownTypeError(f"invalid {inner}: {error}") from None
        return message
    return parse(name, packed.value)


def parse(name: str, body: bytes) -> Message:
    """A serialized message of a known type. UnknownTypeError."""
    return _parsed(name, MODULES.get(name, ""), body)


def load_types(document: object) -> None:
    """Imports the types that a message in JSON form names by `@type`, so that it can be parsed. UnknownTypeError."""
    if isinstance(document, dict):
        url = document.get("@type")
        name = type_of(url) if isinstance(url, str) else ""
        if name and not name.startswith("google.protobuf."):
            _class(name, _TYPED_STRUCTS.get(name, ""))
        for value in document.values():
            load_types(value)
    elif isinstance(document, list):
        for value in document:
            load_types(value)


def _parsed(name: str, module: str, body: bytes) -> Any:
    message = _class(name, module)()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise UnknownTypeError(f"the content is not a valid {name}") from None
    return message


def _class(name: str, module: str = "") -> type[Message]:
    module = module or MODULES.get(name, "")
    if not module:
        raise UnknownTypeError(f"unknown type {name or '(none)'}")
    found: type[Message] = getattr(import_module(module), name.rpartition(".")[2])
    return found
