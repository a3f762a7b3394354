"""Types of messages that the package with Envoy's does not have: Istio's, and ours for filters in Python.

They are in a pool of their own, so that they cannot clash with other definitions of the same names. Istio's are those of
istio/proxy and istio/api; of what is ignored only the form matters.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import descriptor_pool, duration_pb2, message_factory, struct_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

_STRUCT: Final = ".google.protobuf.Struct"
_DURATION: Final = ".google.protobuf.Duration"
_KINDS: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
}
_POOL: Final = descriptor_pool.DescriptorPool()
for _known in (struct_pb2, duration_pb2):
    _POOL.AddSerializedFile(_known.DESCRIPTOR.serialized_pb)


#: A field that maps strings to strings.
_TEXTS: Final = "map"


def _define(
    package: str, messages: dict[str, dict[str, tuple[int, str]]], enums: dict[str, tuple[str, ...]] | None = None
) -> None:
    """Adds messages: name -> fields, each with its number and type; `*` before the type: repeated.

    `enums`: name -> names of the values from 0 on; the type of their fields has `=` before the full name.
    """
    file = FileDescriptorProto(name=f"pymosn/{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(["google/protobuf/struct.proto", "google/protobuf/duration.proto"])
    for name, values in (enums or {}).items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in messages.items():
        found = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind == _TEXTS:
                kind = f"*.{package}.{name}.{_add_entry(found, field)}"
            _add_field(found, field, number, kind)
    _POOL.AddSerializedFile(file.SerializeToString())


def _add_entry(found: DescriptorProto, field: str) -> str:
    """Adds the type of the entries of a map; returns its name, which the protocol demands."""
    entry = found.nested_type.add(name="".join(part.title() for part in field.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        _add_field(entry, name, number, "string")
    return str(entry.name)


def _add_field(found: DescriptorProto, name: str, number: int, kind: str) -> None:
    is_repeated = kind.startswith("*")
    kind = kind.removeprefix("*")
    label = FieldDescriptorProto.LABEL_REPEATED if is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = found.field.add(name=name, number=number, label=label)
    if kind in _KINDS:
        field.type = _KINDS[kind]
    elif kind.startswith("="):
        field.type = FieldDescriptorProto.TYPE_ENUM
        field.type_name = kind.removeprefix("=")
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind


_define("pymosn.python.v1", {"Filter": {"class": (1, "string"), "name": (2, "string"), "config": (3, _STRUCT)}})
_define(
    "stats",
    {
        "MetricConfig": {
            "dimensions": (1, _TEXTS),
            "name": (2, "string"),
            "tags_to_remove": (3, "*string"),
            "match": (4, "string"),
            "drop": (5, "bool"),
        },
        "MetricDefinition": {"name": (1, "string"), "value": (2, "string"), "type": (3, "=.stats.MetricType")},
        "PluginConfig": {
            "disable_host_header_fallback": (6, "bool"),
            "tcp_reporting_duration": (7, _DURATION),
            "metrics": (8, "*.stats.MetricConfig"),
            "definitions": (9, "*.stats.MetricDefinition"),
            "reporter": (10, "=.stats.Reporter"),
            "rotation_interval": (11, _DURATION),
            "graceful_deletion_interval": (12, _DURATION),
        },
    },
    {"MetricType": ("COUNTER", "GAUGE", "HISTOGRAM"), "Reporter": ("UNSPECIFIED", "SERVER_GATEWAY")},
)
_ALPN: Final = "istio.envoy.config.filter.http.alpn.v2alpha1"
_define(
    _ALPN,
    {
        "AlpnOverride": {"upstream_protocol": (1, f"=.{_ALPN}.Protocol"), "alpn_override": (2, "*string")},
        "FilterConfig": {"alpn_override": (1, f"*.{_ALPN}.AlpnOverride")},
    },
    {"Protocol": ("HTTP10", "HTTP11", "HTTP2")},
)
#: The messages of `Config` have names of their own there; on the wire only the numbers count.
_PEERS: Final = ".io.istio.http.peer_metadata."
_define(
    "io.istio.http.peer_metadata",
    {
        "Baggage": {},
        "WorkloadDiscovery": {},
        "IstioHeaders": {"skip_external_clusters": (1, "bool")},
        "Method": {
            "baggage": (1, f"{_PEERS}Baggage"),
            "workload_discovery": (2, f"{_PEERS}WorkloadDiscovery"),
            "istio_headers": (3, f"{_PEERS}IstioHeaders"),
        },
        "Propagation": {"istio_headers": (1, f"{_PEERS}IstioHeaders")},
        "Config": {
            "downstream_discovery": (1, f"*{_PEERS}Method"),
            "upstream_discovery": (2, f"*{_PEERS}Method"),
            "downstream_propagation": (3, f"*{_PEERS}Propagation"),
            "upstream_propagation": (4, f"*{_PEERS}Propagation"),
            "shared_with_upstream": (5, "bool"),
            "additional_labels": (6, "*string"),
        },
    },
)
_define(
    "envoy.tcp.metadataexchange.config",
    {"MetadataExchange": {"protocol": (1, "string"), "enable_discovery": (2, "bool"), "additional_labels": (3, "*string")}},
)


def _class_of(name: str) -> type[Message]:
    found: type[Message] = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    return found


#: A filter in Python: `class` of an installed package, as `package.module:Class`, or the `name` that a package offers.
Filter = _class_of("pymosn.python.v1.Filter")
PluginConfig = _class_of("stats.PluginConfig")
FilterConfig = _class_of(f"{_ALPN}.FilterConfig")
Config = _class_of("io.istio.http.peer_metadata.Config")
MetadataExchange = _class_of("envoy.tcp.metadataexchange.config.MetadataExchange")
