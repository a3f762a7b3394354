"""What istiod adds to resources for its metrics: `istio.stats`, the exchange of metadata, and the services of clusters."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from istio_shapes import service
from tests.kit.xds_messages import message_of

_STATS: Final = "stats.PluginConfig"
_PEERS: Final = "io.istio.http.peer_metadata.Config"
_METADATA_EXCHANGE: Final = "envoy.tcp.metadataexchange.config.MetadataExchange"
_LISTENER: Final = "envoy.config.listener.v3.Listener"
_CLUSTER: Final = "envoy.config.cluster.v3.Cluster"


def _struct(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    struct = {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": f"type.googleapis.com/{kind}"}
    return {"name": name, "typed_config": {**struct, "value": value}}


def _stats(is_inbound: bool) -> dict[str, Any]:
    value: dict[str, Any] = {"metrics": [{"name": "requests_total", "dimensions": {"host": "request.host"}}]}
    if is_inbound:
        value["disable_host_header_fallback"] = True
    value["tcp_reporting_duration"] = "1s"
    return _struct("istio.stats", _STATS, value)


def _peers(is_inbound: bool) -> dict[str, Any]:
    side = "downstream" if is_inbound else "upstream"
    methods = [{"istio_headers": {}}, {"workload_discovery": {}}]
    value = {f"{side}_discovery": methods, f"{side}_propagation": [{"istio_headers": {}}]}
    return _struct("istio.metadata_exchange", _PEERS, value)


def with_telemetry(listener: Message) -> Message:
    """A listener whose chains report."""
    value = json_format.MessageToDict(listener, preserving_proto_field_name=True)
    is_inbound = value["traffic_direction"] == "INBOUND"
    default = value.get("default_filter_chain")
    for chain in [*value["filter_chains"], *([default] if default else [])]:
        filters: list[dict[str, Any]] = []
        for item in chain["filters"]:
            if item["name"] == "envoy.filters.network.tcp_proxy":
                filters.append(_stats(is_inbound))
            else:
                http = item["typed_config"].get("http_filters", [])
                item["typed_config"]["http_filters"] = [_peers(is_inbound), *http[:-1], _stats(is_inbound), *http[-1:]]
            filters.append(item)
        if is_inbound:
            exchange = {"protocol": "istio-peer-exchange", "enable_discovery": True}
            filters.insert(0, _struct("istio.metadata_exchange", _METADATA_EXCHANGE, exchange))
        chain["filters"] = filters
    return message_of(_LISTENER, value)


def with_service(cluster: Message, name: str) -> Message:
    """A cluster that is a service."""
    value = json_format.MessageToDict(cluster, preserving_proto_field_name=True)
    facts = {"host": service(name), "name": name, "namespace": "default"}
    value["metadata"] = {"filter_metadata": {"istio": {"services": [facts]}}}
    return message_of(_CLUSTER, value)
