"""Finished spans as plain data: what workers send to the supervisor, and exporters read.

Structs of msgspec, which are made and encoded in a fraction of the time of a named tuple. `gc=False`: they are in no cycles.
Not compiled: a compiled class would lose the types of its attributes, by which messages are decoded.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Kinds of spans: the proxy as a server, as the client of a host, and the part of a filter.
SERVER: Final = "server"
CLIENT: Final = "client"
INTERNAL: Final = "internal"

AttributeValue = str | int | float | bool


class SpanRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One finished span.

    `span_id`, `parent_id`: 16 lower-case hexadecimal digits; `parent_id` is empty for the first span of a trace.
    `started`: seconds since 1970. `duration`: seconds. `failure`: the reason word of `core/failure.py`, or the type of the
    exception that ended the part of a filter; empty for success.
    """

    span_id: str
    parent_id: str
    kind: str
    name: str
    started: float
    duration: float
    failure: str
    attributes: dict[str, AttributeValue]


class TraceRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The spans of one exchange: the server span first, then one client span per attempt, then those of filters.

    `trace_id`: 32 lower-case hexadecimal digits. `state`: the value of `tracestate`. `reference`: facts that only one format
    has, by `FORMAT.name`; which there are is in `observe/tracing/records.py`.
    """

    trace_id: str
    state: str
    reference: dict[str, str]
    spans: list[SpanRecord]
