"""What an access-log format may name: the variables of `pymosn.api.variables`, made safe for a line.

What a client or a server chose passes `field`, so that it cannot break out of its line. `-` stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.variables import FOREIGN, OWN, PREFIXES, SETTABLE, Variable
from pymosn.observe.text import field

Getter = Callable[[Exchange], "str | None"]

NOTHING: Final = "-"

#: Known when the log is built: the clock's and the listener's.
BOUND: Final = frozenset(("start_time", "listener_name", "listener_type"))

#: `-` until tracing is built, as in MOSN with tracing switched off; MOSN's default format names it.
TRACE: Final = frozenset(("trace_id",))

#: MOSN's, but always `-` here.
UNAVAILABLE: Final = frozenset(
    (
        *("stream_id", "requested_server_name", "connection", "connection_pool_index", "conn_default_read_buffer_size"),
        *("network_filterchain_factories", "access_logs", "accept_chan", "accept_buffer", "connection_fd", "span_key"),
        *("trace_span", "proxy_general_config", "protocol_config", "connection_event_listeners", "ori_remote_addr"),
        *("downstream_req_headers", "downstream_resp_headers", "x-mosn-req-raw-data", "x-mosn-resp-raw-data"),
        *("Http2_request_use_stream", "Http2_response_use_stream"),
    )
)

#: Every name that can be written in a format and is no prefix.
VARIABLES: Final = frozenset((*OWN, *FOREIGN, *SETTABLE))


def getter(name: str) -> Getter | None:
    """What gives the text of a variable, None or empty for `-`; None for a name that has no value or is BOUND."""
    own = OWN.get(name)
    if own is not None:
        return own
    if name not in VARIABLES and not any(name.startswith(prefix) and name != prefix for prefix in PREFIXES):
        return None
    variable = Variable(name)

    def get(exchange: Exchange) -> str:
        value = variable.value(exchange)
        return NOTHING if value is None else field(value)

    return get
