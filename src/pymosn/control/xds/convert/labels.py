"""Metadata of endpoints, clusters and matches: labels for subsets, for the choice of TLS, and for Istio's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from google.protobuf import json_format

from pymosn.config.schema.cluster import IstioFacts
from pymosn.control.xds.convert.view import View

#: Namespaces of metadata.
LABELS: Final = "envoy.lb"
TLS_LABELS: Final = "envoy.transport_socket_match"
ISTIO: Final = "istio"


class Labels(NamedTuple):
    """Labels of an endpoint: for subsets, and for the choice of TLS; and its workload, as Istio describes it."""

    subset: dict[str, str]
    tls: dict[str, str]
    workload: str = ""


def read_labels(view: View | None) -> Labels:
    """The labels in a `Metadata`. Other namespaces are for filters and statistics, which do not read those of endpoints."""
    if view is None:
        return Labels({}, {})
    with view:
        spaces = view.table("filter_metadata")
        istio = spaces.get(ISTIO)
        workload = str(istio.fields["workload"].string_value) if istio is not None and "workload" in istio.fields else ""
        return Labels(_texts(spaces, LABELS, view), _texts(spaces, TLS_LABELS, view), workload)


def read_istio(view: View | None) -> IstioFacts | None:
    """The service in the metadata of a cluster: of several, the first one counts, as in Envoy."""
    if view is None:
        return None
    with view:
        istio = view.table("filter_metadata").get(ISTIO)
        try:
            said = {} if istio is None else json_format.MessageToDict(istio)
        except ValueError:
            view.fault(f"filter_metadata[{ISTIO}]", "has a number that is not finite")
            return None
    services = said.get("services")
    first = services[0] if isinstance(services, list) and services and isinstance(services[0], dict) else {}
    host, name, namespace = (_text(first.get(key)) for key in ("host", "name", "namespace"))
    if "name" not in first:
        name = host.partition(".")[0]
    is_external, hides = said.get("external") is True, said.get("disable_mx") is True
    found = IstioFacts(service=host, name=name, namespace=namespace, external=is_external, disable_mx=hides)
    return None if found == IstioFacts() else found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


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
