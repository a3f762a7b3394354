"""Network filters besides the connection manager and tcp_proxy: a reader for each type of message.

A chain with a filter that is not known here is rejected: connections must not bypass it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pymosn.config.schema.network_filters import NetworkFilter, PythonConfig, PythonFilter
from pymosn.control.xds.convert.filter_access import RBAC, RBAC_FIELDS, grpc_service
from pymosn.control.xds.convert.filter_json import CONDITIONS, as_json, check_connection_settings
from pymosn.control.xds.convert.readers import reader_of
from pymosn.control.xds.convert.view import View

#: The network filter for a message; None if it needs none.
Reader = Callable[[View], NetworkFilter | None]
_NETWORK: Final = "envoy.extensions.filters.network."


def _rbac(view: View) -> NetworkFilter:
    """An RBAC filter. The rules are applied when the connection is open, before its first byte."""
    config = as_json(view, {**RBAC, view.type_name: (*RBAC_FIELDS, "enforcement_type")})
    config.pop("enforcement_type", None)  # all conditions are about the connection, and do not change while it lasts
    return _filter(view, "rbac", config)


def _ext_authz(view: View) -> NetworkFilter:
    """An ExtAuthz, whose service speaks gRPC."""
    with view:
        config: dict[str, Any] = {}
        timeout: float | None = None
        service = view.inner("grpc_service")
        if service is None:
            view.fault("grpc_service", "missing")
        else:
            config["grpc"], timeout = grpc_service(service)
        version = view.enum("transport_api_version")
        if version not in ("V3", "AUTO"):
            view.fault("transport_api_version", f"{version} is not supported; expected V3")
        config["timeout"] = 0.2 if timeout is None else timeout
        for name in ("failure_mode_allow", "include_peer_certificate"):
            config[name] = view.value(name)
        condition = view.inner("filter_enabled_metadata")
        if condition is not None:
            config["enabled_metadata"] = as_json(condition, CONDITIONS)
    return _filter(view, "external_authz", config)


def _filter(view: View, name: str, config: dict[str, Any]) -> PythonFilter:
    check_connection_settings(view, name, config)
    return PythonFilter(config=PythonConfig(name=name, config=config))


#: Full name of the type -> its reader.
READERS: Final[Mapping[str, Reader]] = {
    _NETWORK + "ext_authz.v3.ExtAuthz": _ext_authz,
    _NETWORK + "rbac.v3.RBAC": _rbac,
}
#: Full name of the type -> what is lost by leaving it out, which harms no connection.
LEFT_OUT: Final[Mapping[str, str]] = {
    "envoy.tcp.metadataexchange.config.MetadataExchange": "its protocol is never offered to peers, which then do without",
}


def convert_network_filter(view: View) -> NetworkFilter | None:
    """The network filter for a typed config; None if it needs none, or, with a fault, for an unknown type."""
    reader = reader_of(view, READERS, LEFT_OUT, "connections")
    return None if reader is None else reader(view)
