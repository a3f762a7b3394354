"""HTTP filters -> stream filters, and settings of filters for one route: a reader for each type of message.

The readers are in files by subject: `filter_access` (who may), `filter_traffic` (how much, faults), `filter_content` (what
is changed). docs/xds-filters.md has the table. What guards something is never left out: the resource is rejected instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert import filter_access, filter_content, filter_traffic, istio
from pymosn.control.xds.convert.filter_python import python_filter
from pymosn.control.xds.convert.readers import reader_of
from pymosn.control.xds.convert.route_settings import SettingsReader
from pymosn.control.xds.convert.view import View

#: The stream filter for a message; None if it needs none.
Reader = Callable[[View], StreamFilter | None]
_HTTP: Final = "envoy.extensions.filters.http."


def _router(view: View) -> None:
    """The end of every chain of filters, which needs none."""
    with view:
        view.value("suppress_envoy_headers")  # the x-envoy-* of responses that it suppresses are never sent
        view.refuse("strict_check_headers", "not supported")
        view.refuse("upstream_http_filters", "filters on the way to hosts are not supported")


def _cors(view: View) -> StreamFilter:
    with view:
        return StreamFilter(type="cors", config={"only_routes": True})


def _grpc_web(view: View) -> StreamFilter:
    with view:
        return StreamFilter(type="grpc_web")


#: Full name of the type -> its reader.
READERS: Final[Mapping[str, Reader]] = {
    _HTTP + "buffer.v3.Buffer": filter_traffic.buffer,
    _HTTP + "compressor.v3.Compressor": filter_content.compressor,
    _HTTP + "cors.v3.Cors": _cors,
    _HTTP + "ext_authz.v3.ExtAuthz": filter_access.ext_authz,
    _HTTP + "fault.v3.HTTPFault": filter_traffic.fault,
    _HTTP + "grpc_json_transcoder.v3.GrpcJsonTranscoder": filter_content.transcoder,
    _HTTP + "grpc_web.v3.GrpcWeb": _grpc_web,
    _HTTP + "header_to_metadata.v3.Config": filter_content.header_to_metadata,
    _HTTP + "health_check.v3.HealthCheck": filter_traffic.health_check,
    _HTTP + "jwt_authn.v3.JwtAuthentication": filter_access.jwt_authn,
    _HTTP + "local_ratelimit.v3.LocalRateLimit": filter_traffic.local_rate_limit,
    _HTTP + "ratelimit.v3.RateLimit": filter_traffic.rate_limit,
    _HTTP + "rbac.v3.RBAC": filter_access.rbac,
    _HTTP + "router.v3.Router": _router,
    "pymosn.python.v1.Filter": python_filter,
    istio.PEER_METADATA: istio.peer_metadata,
    istio.STATS: istio.http_stats,
}
#: Full name of the type -> what is lost by leaving it out, which harms no request.
LEFT_OUT: Final[Mapping[str, str]] = {
    _HTTP + "grpc_stats.v3.FilterConfig": "statistics of gRPC methods, which the filter grpc_metric has",
}
#: Full name of the type -> the reader of its settings for one route.
ROUTE_READERS: Final[Mapping[str, SettingsReader]] = {
    _HTTP + "buffer.v3.BufferPerRoute": filter_traffic.route_buffer,
    _HTTP + "cors.v3.CorsPolicy": filter_content.cors_policy,
    _HTTP + "ext_authz.v3.ExtAuthzPerRoute": filter_access.route_ext_authz,
    _HTTP + "fault.v3.HTTPFault": filter_traffic.route_fault,
    _HTTP + "jwt_authn.v3.PerRouteConfig": filter_access.route_jwt,
    _HTTP + "local_ratelimit.v3.LocalRateLimit": filter_traffic.route_local_rate_limit,
    _HTTP + "rbac.v3.RBACPerRoute": filter_access.route_rbac,
}
#: Filters of ours that act before the route is selected, so that no route can enable them.
_BEFORE_ROUTES: Final = frozenset({"grpc_json_transcoder", "grpc_web", "health_check"})

#: Parts of the names of filters that guard something, or may run code that does.
_GUARDS: Final = (
    *("auth", "jwt", "rbac", "csrf", "ip_tagging", "credential", "ratelimit", "rate_limit", "ext_proc", "header_mutation"),
    *("wasm", "lua", "golang", "dynamic_module", "composite"),
)


def guards(name: str) -> bool:
    """Whether a filter of this name or type may guard something: it is never left out, even if it is optional."""
    return any(word in name.lower() for word in _GUARDS)


def convert_http_filter(view: View) -> StreamFilter | None:
    """The stream filter for a typed config; None if it needs none, or, with a fault, for an unknown type."""
    reader = reader_of(view, READERS, LEFT_OUT, "requests")
    return None if reader is None else reader(view)


def acts_before_routes(made: StreamFilter) -> bool:
    """Whether a filter of ours is known to act before the route is selected."""
    return made.type in _BEFORE_ROUTES or bool(made.config.get("before_routing"))
