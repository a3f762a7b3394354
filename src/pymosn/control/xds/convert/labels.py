"""Metadata of endpoints and matches: labels for subsets, and for the choice of TLS, as strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pymosn.control.xds.convert.view import View

#: Namespaces of metadata.
LABELS: Final = "envoy.lb"
TLS_LABELS: Final = "envoy.transport_socket_match"


class Labels(NamedTuple):
    """Labels of an endpoint: for subsets, and for the choice of TLS."""

    subset: dict[str, str]
    tls: dict[str, str]


def read_labels(view: View | None) -> Labels:
    """The labels in a `Metadata`. Other namespaces are for filters and statistics, which do not read those of endpoints."""
    if view is None:
        return Labels({}, {})
    with view:
        spaces = view.table("filter_metadata")
        return Labels(*[_texts(spaces, name, view) for name in (LABELS, TLS_LABELS)])


def _texts(spaces: Mapping[str, Any], name: str, view: View) -> dict[str, str]:
    struct = spaces.get(name)
    return {} if struct is None else struct_texts(struct, view, f"filter_metadata[{name}]")


def struct_texts(struct: Any, view: View, name: str) -> dict[str, str]:
    """The values of a `Struct` as text; a value that is a list or an object is a fault of the field `name`."""
    found: dict[str, str] = {}
    for key, value in struct.fields.items():
        text = value_text(value)
        if text is None:
            view.fault(name, f"{key}: only strings, numbers and booleans are supported")
        else:
            found[key] = text
    return found


def value_text(value: Any) -> str | None:
    """A `Value` as text; None for a list, an object or nothing."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "number_value":
        return f"{value.number_value:g}" if value.number_value % 1 else str(int(value.number_value))
    return None
