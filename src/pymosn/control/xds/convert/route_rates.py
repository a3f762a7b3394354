"""Descriptors of rate limits of routes and virtual hosts, which are settings of the filter that sends them to a service."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import json_format

from pymosn.control.xds.convert.view import View

#: The filter that reads the descriptors, by its name in `stream_filters`.
RATE_LIMIT: Final = "ratelimit"


def rate_limits(view: View) -> list[dict[str, Any]]:
    """The field `rate_limits` as JSON of Envoy's schema; the filter checks it."""
    return [json_format.MessageToDict(item, preserving_proto_field_name=True) for item in view.values("rate_limits")]
