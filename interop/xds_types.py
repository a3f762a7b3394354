"""Messages of xDS from JSON, of every type that the package `xds-protos` has, whether or not pymosn knows it."""

from __future__ import annotations

import functools
import pkgutil
from importlib import import_module
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message


def message_of(name: str, value: dict[str, Any]) -> Message:
    """A message of a type, such as `envoy.config.cluster.v3.Cluster`, from its JSON."""
    _import_types({"@type": name, "value": value})
    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    return json_format.ParseDict(value, message_factory.GetMessageClass(descriptor)())


def _import_types(value: object) -> None:
    """Imports the modules of all types in an `Any`, which the parser must know."""
    if isinstance(value, dict):
        if "@type" in value:
            _import_package(value["@type"].rpartition("/")[2].rpartition(".")[0])
        for inner in value.values():
            _import_types(inner)
    elif isinstance(value, list):
        for inner in value:
            _import_types(inner)


@functools.cache
def _import_package(name: str) -> None:
    """Imports all generated modules of a package."""
    if name.startswith(("envoy.", "udpa.", "xds.")):
        for module in pkgutil.iter_modules(import_module(name).__path__, f"{name}."):
            if module.name.endswith("_pb2"):
                import_module(module.name)
