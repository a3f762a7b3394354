"""Descriptors of rate limits of routes and virtual hosts, which are settings of the filter that sends them to a service."""

from __future__ import annotations

from typing import Any, Final

from pymosn.control.xds.convert.filter_json import as_json, check_route_settings
from pymosn.control.xds.convert.filter_traffic import RATE_LIMITS
from pymosn.control.xds.convert.view import View

#: The filter that reads the descriptors, by its name in `stream_filters`.
RATE_LIMIT: Final = "ratelimit"


def rate_limits(view: View) -> list[dict[str, Any]]:
    """The field `rate_limits` as JSON of Envoy's schema."""
    found = [as_json(item, RATE_LIMITS) for item in view.items("rate_limits")]
    if found:
        check_route_settings(view, RATE_LIMIT, {"rate_limits": found})
    return found
