"""Access-log formats: `%variable%` in plain text, a backslash before a literal `%`."""

import re
from collections.abc import Iterator
from typing import Final

from pymosn.config.guess import closest

_PERCENT: Final = re.compile(r"(?<!\\)%")

VARIABLES: Final = frozenset(
    [
        "start_time",
        "request_received_duration",
        "response_received_duration",
        "request_finished_duration",
        "process_time_duration",
        "duration",
        "bytes_sent",
        "bytes_received",
        "protocol",
        "response_code",
        "response_flag",
        "response_flags",
        "upstream_transport_failure_reason",
        "upstream_local_address",
        "upstream_host",
        "upstream_cluster",
        "downstream_local_address",
        "downstream_remote_address",
        "trace_id",
        "connection_id",
        "upstream_connection_id",
        "stream_id",
        "listener_port",
        "listener_name",
        "listener_type",
        "downstream_protocol",
        "upstream_protocol",
        "x-mosn-status",
        "x-mosn-host",
        "x-mosn-path",
        "x-mosn-path-original",
        "x-mosn-querystring",
        "x-mosn-method",
        "x-mosn-scheme",
        "authority",
        "request_path",
        "request_uri",
        "request_arg",
        "request_scheme",
        "Http1_request_scheme",
        "Http1_request_method",
        "Http1_request_length",
        "Http1_request_uri",
        "Http1_request_path",
        "Http1_request_path_original",
        "Http1_request_arg",
        "requested_server_name",
        "route_name",
    ]
)
PREFIXES: Final = (
    "request_header_",
    "response_header_",
    "Http1_request_header_",
    "Http1_request_arg_",
    "Http1_cookie_",
    "cookie_",
)


def format_fault(text: str) -> str | None:
    """What is wrong with a format, None when it is good."""
    parts = _PERCENT.split(text)
    if len(parts) % 2 == 0:
        return r"an odd number of %; write \% for a percent sign"
    if "" in parts[1::2]:
        return r"%% names no variable; write \% for a percent sign"
    return None


def unknown_variables(text: str) -> Iterator[tuple[str, str | None]]:
    """Names in a good format that stand for no variable, each with a likely intended one."""
    for name in _PERCENT.split(text)[1::2]:
        if name not in VARIABLES and not name.startswith(PREFIXES):
            yield name, closest(name, VARIABLES)
