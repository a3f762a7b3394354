"""SkyWalking's messages as Protocol Buffers' own library decodes them."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

STRING, INT32, INT64, BOOL, ENUM, MESSAGE = 9, 5, 3, 8, 5, 11


def _messages() -> dict[str, Any]:
    """The classes of SkyWalking's messages, by their published field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="tracing.proto", package="t", syntax="proto3")
    shapes: dict[str, list[tuple[str, int, int, str]]] = {
        "Pair": [("key", 1, STRING, ""), ("value", 2, STRING, "")],
        "Log": [("time", 1, INT64, ""), ("data", 2, MESSAGE, "Pair")],
        "Reference": [
            ("refType", 1, ENUM, ""),
            ("traceId", 2, STRING, ""),
            ("parentTraceSegmentId", 3, STRING, ""),
            ("parentSpanId", 4, INT32, ""),
            ("parentService", 5, STRING, ""),
            ("parentServiceInstance", 6, STRING, ""),
            ("parentEndpoint", 7, STRING, ""),
            ("networkAddressUsedAtPeer", 8, STRING, ""),
        ],
        "Span": [
            ("spanId", 1, INT32, ""),
            ("parentSpanId", 2, INT32, ""),
            ("startTime", 3, INT64, ""),
            ("endTime", 4, INT64, ""),
            ("refs", 5, MESSAGE, "Reference"),
            ("operationName", 6, STRING, ""),
            ("peer", 7, STRING, ""),
            ("spanType", 8, ENUM, ""),
            ("spanLayer", 9, ENUM, ""),
            ("componentId", 10, INT32, ""),
            ("isError", 11, BOOL, ""),
            ("tags", 12, MESSAGE, "Pair"),
            ("logs", 13, MESSAGE, "Log"),
        ],
        "Segment": [
            ("traceId", 1, STRING, ""),
            ("traceSegmentId", 2, STRING, ""),
            ("spans", 3, MESSAGE, "Span"),
            ("service", 4, STRING, ""),
            ("serviceInstance", 5, STRING, ""),
        ],
        "Properties": [("service", 1, STRING, ""), ("serviceInstance", 2, STRING, ""), ("properties", 3, MESSAGE, "Pair")],
        "Ping": [("service", 1, STRING, ""), ("serviceInstance", 2, STRING, "")],
    }
    for name, fields in shapes.items():
        message = file.message_type.add(name=name)
        for key, number, kind, other in fields:
            field = message.field.add(name=key, number=number, type=kind, label=3 if other else 1)
            if other:
                field.type_name = f".t.{other}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in shapes}


MESSAGES = _messages()


def decoded(name: str, content: bytes) -> dict[str, Any]:
    """A message as an object. Unknown fields are an error."""
    message = MESSAGES[name]()
    message.ParseFromString(content)
    assert message.SerializeToString(deterministic=True) == content, "unknown fields, or another order"
    found = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert isinstance(found, dict)
    return found
