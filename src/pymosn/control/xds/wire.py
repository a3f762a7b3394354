"""Requests and responses as bytes: protobuf messages of `envoy.service.discovery.v3`. Imported when a client starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format, wrappers_pb2
from google.protobuf.message import DecodeError

from pymosn.control.xds.exchanges import Entry, Request, Response
from pymosn.control.xds.types import type_fault

#: The code of every NACK, as Envoy's.
_INVALID_ARGUMENT: Final = 3
_WRAPPER: Final = "type.googleapis.com/envoy.service.discovery.v3.Resource"


class InvalidMessage(ValueError):
    """Bytes of a control plane, or a node of the configuration, that are not the expected message."""


def node_message(node: Mapping[str, Any]) -> bytes:
    """A node, in proto's JSON form, as a serialized Node message. Unknown keys are ignored. InvalidMessage."""
    try:
        message = json_format.ParseDict(dict(node), base_pb2.Node(), ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage(f"node: {error}") from None
    return bytes(message.SerializeToString(deterministic=True))


def encode(request: Request, is_delta: bool, node: bytes) -> bytes:
    """A request. `node`: empty if the request has none."""
    if is_delta:
        message = discovery_pb2.DeltaDiscoveryRequest(
            type_url=request.type_url,
            response_nonce=request.nonce,
            resource_names_subscribe=request.subscribe,
            resource_names_unsubscribe=request.unsubscribe,
            initial_resource_versions=request.versions,
        )
    else:
        message = discovery_pb2.DiscoveryRequest(
            type_url=request.type_url,
            response_nonce=request.nonce,
            version_info=request.version,
            resource_names=request.names,
        )
    if node:
        message.node.ParseFromString(node)
    if request.error:
        message.error_detail.code = _INVALID_ARGUMENT
        message.error_detail.message = request.error
    return bytes(message.SerializeToString())


def decode(data: bytes, is_delta: bool, type_url: str = "") -> Response:
    """A response. A resource that cannot be read is a fault of this resource. `type_url`: if it has none. InvalidMessage."""
    kind = discovery_pb2.DeltaDiscoveryResponse if is_delta else discovery_pb2.DiscoveryResponse
    try:
        message = kind.FromString(data)
    except DecodeError:
        raise InvalidMessage(f"{len(data)} bytes that are not a valid {kind.DESCRIPTOR.name}") from None
    type_url = message.type_url or type_url
    if is_delta:
        entries = [_wrapped(one, type_url) for one in message.resources]
        return Response(
            type_url, message.system_version_info, message.nonce, entries, tuple(message.removed_resources), len(data)
        )
    entries = [entry_of(one, type_url, message.version_info) for one in message.resources]
    return Response(type_url, message.version_info, message.nonce, entries, size=len(data))


def entry_of(packed: any_pb2.Any, type_url: str, version: str) -> Entry:
    """A resource of a response of the variant "state of the world", with or without the wrapper `Resource`."""
    if packed.type_url == _WRAPPER:
        try:
            return _wrapped(discovery_pb2.Resource.FromString(packed.value), type_url, version)
        except DecodeError:
            return Entry("", "", None, fault="invalid envoy.service.discovery.v3.Resource")
    return _bare(packed, type_url, version)


def _wrapped(resource: Any, type_url: str, version: str = "") -> Entry:
    ttl = None
    if resource.HasField("ttl"):
        ttl = resource.ttl.seconds + resource.ttl.nanos / 1e9
        ttl = ttl if ttl > 0 else None
    version = resource.version or version
    if not resource.HasField("resource"):
        return Entry(resource.name, version, None, ttl)
    entry = _bare(resource.resource, type_url, version)
    if entry.fault:
        return entry._replace(name=resource.name or entry.name)
    if resource.name and resource.name != entry.name:
        return Entry(resource.name, version, None, fault=f"the resource inside has another name, {entry.name!r}")
    return entry._replace(ttl=ttl)


def _bare(packed: any_pb2.Any, type_url: str, version: str) -> Entry:
    """The resource in an `Any`. Only its name is read: field 1 in all types, as in StringValue."""
    fault = "" if packed.type_url == type_url else type_fault(packed.type_url) or f"its type is {packed.type_url!r}"
    try:
        name = wrappers_pb2.StringValue.FromString(packed.value).value
    except DecodeError:
        return Entry("", version, None, fault=fault or f"the content is not a valid {type_url.rpartition('.')[2]}")
    if fault:
        return Entry(name, version, None, fault=fault)
    return Entry(name, version, packed.value)
