"""Settings of the stream filters that pymosn ships, as far as they lie outside the filter or name something elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pymosn.config.check.report import Report
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.guess import closest
from pymosn.config.schema import Listener
from pymosn.config.schema.envoy_filters import JwtAuthn
from pymosn.config.schema.server import StreamFilter
from pymosn.config.schema.stream_filters import ROUTE_SETTINGS, ExtAuthz
from pymosn.config.typed import typed
from pymosn.filters.stream.python import FilterConfigError
from pymosn.filters.stream.shipped import PER_ROUTE, SHIPPED, route_settings


def check_route_settings(config: dict[str, object], path: str, report: Report) -> None:
    """Check a `per_filter_config`; what it says for filters in Python is theirs."""
    for name, value in config.items():
        inner = f"{path}.{name}"
        if name in PER_ROUTE:
            _check_settings(name, value, inner, report)
        elif name in SHIPPED:
            report.warning(inner, "has no effect: this filter has no settings of a route's own")


def _check_settings(name: str, value: object, path: str, report: Report) -> None:
    faults = Diagnostics()
    settings = typed(value, ROUTE_SETTINGS[name], faults)
    for fault in faults.items:
        place = f"{path}.{fault.path}" if fault.path else path
        (report.error if fault.severity == "error" else report.warning)(place, fault.message, suggestion=fault.suggestion)
    if faults.has_errors:
        return
    try:
        route_settings(name, settings)
    except FilterConfigError as error:
        for where, text in error.problems:
            report.error(f"{path}{where}", text)


def check_filter_clusters(listener: Listener, path: str, report: Report, clusters: Collection[str]) -> None:
    """The clusters that stream filters ask must be there."""
    for i, entry in enumerate(listener.stream_filters):
        for key, cluster in _clusters_of(entry):
            if cluster and cluster not in clusters:
                place = f"{path}.stream_filters[{i}].config.{key}"
                report.error(place, "there is no cluster of this name", cluster, closest(cluster, clusters))


def _clusters_of(entry: StreamFilter) -> Iterator[tuple[str, str]]:
    if entry.type == "ext_authz":
        yield "cluster", typed(entry.config, ExtAuthz).cluster
    elif entry.type == "jwt_authn":
        for name, provider in typed(entry.config, JwtAuthn).providers.items():
            if provider.remoteJwks is not None:
                yield f"providers.{name}.remoteJwks.httpUri.cluster", provider.remoteJwks.httpUri.cluster
