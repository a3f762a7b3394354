"""Messages of xDS from JSON, as people write them in tests."""

from importlib import import_module
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from pymosn.control.xds.convert.messages import MODULES, parse, type_of
from pymosn.control.xds.convert.view import Report, View


def message_of(name: str, value: dict[str, Any]) -> Message:
    """A message of a known type, such as `envoy.config.listener.v3.Listener`, from its JSON."""
    import_types(value)
    return json_format.ParseDict(value, parse(name, b""))


def view_of(name: str, value: dict[str, Any]) -> tuple[View, Report]:
    """A view of a message from its JSON, and its report."""
    report = Report()
    return View(message_of(name, value), "", report), report


def import_types(value: object) -> None:
    """Imports the modules of all types in an `Any` of a message's JSON, which the parser must know."""
    if isinstance(value, dict):
        name = type_of(str(value.get("@type", "")))
        module = MODULES.get(name) or ("udpa.type.v1.typed_struct_pb2" if name == "udpa.type.v1.TypedStruct" else "")
        if module:
            import_module(module)
        for inner in value.values():
            import_types(inner)
    elif isinstance(value, list):
        for inner in value:
            import_types(inner)
