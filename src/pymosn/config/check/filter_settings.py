"""Settings of shipped stream filters outside the filter's own block: those of routes, and references to clusters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pymosn.config.check.report import Report
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.guess import closest
from pymosn.config.schema import Listener
from pymosn.config.typed import typed
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.spec import RouteSpec
from pymosn.filters.stream.shipped import FROM_FILES, SHIPPED, spec_of


def check_route_settings(config: dict[str, object], path: str, report: Report) -> None:
    """Check a `per_filter_config`; settings of other filters are not known here."""
    for name, value in config.items():
        if name in SHIPPED:
            route = spec_of(name).route
            if route is not None:
                _check_settings(route, value, f"{path}.{name}", report)
            elif name not in FROM_FILES:
                report.warning(f"{path}.{name}", "has no effect: this filter has no settings per route")


def _check_settings(route: RouteSpec[Any], value: object, path: str, report: Report) -> None:
    faults = Diagnostics()
    settings = typed(value, route.settings, faults)
    for fault in faults.items:
        inner = f"{path}.{fault.path}" if fault.path else path
        (report.error if fault.severity == "error" else report.warning)(inner, fault.message, suggestion=fault.suggestion)
    if faults.has_errors:
        return
    try:
        route.make(settings)
    except FilterConfigError as error:
        for inner, text in error.problems:
            report.error(f"{path}{inner}", text)


def check_filter_clusters(listener: Listener, path: str, report: Report, clusters: Collection[str]) -> None:
    """Check that the clusters exist that stream filters refer to."""
    for i, entry in enumerate(listener.stream_filters):
        spec = spec_of(entry.type) if entry.type in SHIPPED else None
        if spec is None or spec.clusters is None:
            continue
        for key, cluster in spec.clusters(typed(entry.config, spec.settings)):
            if cluster and cluster not in clusters:
                inner = f"{path}.stream_filters[{i}].config.{key}"
                report.error(inner, "unknown cluster", cluster, closest(cluster, clusters))
