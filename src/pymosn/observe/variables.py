"""Variables of access-log formats: those of `pymosn.api.variables`, escaped for a line.

Values chosen by clients or servers pass through `field`, so that they cannot break the line. Unknown values are `-`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.variables import FOREIGN, OWN, PREFIXES, SETTABLE, Variable, is_known
from pymosn.observe.text import field

Getter = Callable[[Exchange], "str | None"]

NOTHING: Final = "-"

#: Constant for a log: the clock and the listener.
BOUND: Final = frozenset(("start_time", "start_time_utc", "start_time_seconds", "listener_name", "listener_type"))

#: MOSN's variables that are always `-` here.
UNAVAILABLE: Final = frozenset(
    (
        *("connection", "connection_pool_index", "conn_default_read_buffer_size"),
        *("network_filterchain_factories", "access_logs", "accept_chan", "accept_buffer", "connection_fd", "span_key"),
        *("trace_span", "proxy_general_config", "protocol_config", "connection_event_listeners", "ori_remote_addr"),
        *("downstream_req_headers", "downstream_resp_headers", "x-mosn-req-raw-data", "x-mosn-resp-raw-data"),
        *("Http2_request_use_stream", "Http2_response_use_stream"),
    )
)

#: Every variable name that is complete without a suffix.
VARIABLES: Final = frozenset((*OWN, *FOREIGN, *SETTABLE))


def getter(name: str) -> Getter | None:
    """The function that returns a variable's text (None or empty: `-`); None for an unknown name or one in BOUND."""
    own = OWN.get(name)
    if own is not None:
        return own
    is_named = name in VARIABLES or any(name.startswith(prefix) and name != prefix for prefix in PREFIXES)
    if not is_named and not is_known(name):
        return None
    variable = Variable(name)

    def get(exchange: Exchange) -> str:
        value = variable.value(exchange)
        return NOTHING if value is None else field(value)

    return get
