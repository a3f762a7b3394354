"""The messages of `grpc.health.v1.Health/Check`, of which two fields matter; no library is needed for them."""

from __future__ import annotations

from typing import Final

from pymosn.api.grpc import (
    MESSAGE,
    NOT_FOUND,
    OK,
    STATUS_NAMES,
    UNIMPLEMENTED,
    GrpcRequest,
    framed,
    status_of,
    timeout_value,
)
from pymosn.api.http import HttpRequest
from pymosn.control.http2_client import Answer
from pymosn.core.headers import HttpHeaders, to_text
from pymosn.core.proto_wire import Fields, text

PATH: Final = b"/grpc.health.v1.Health/Check"
#: The status of a healthy service, and the names of all.
SERVING: Final = 1
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_FRONT: Final = 5


def request_head(authority: str, timeout: float) -> HttpRequest:
    """The head of the call."""
    head = GrpcRequest(HttpHeaders())
    head.raw_method, head.raw_path, head.raw_host = b"POST", PATH, authority.encode()
    head.accepts_trailers = True
    for name, value in (
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"pymosn-health-check"),
        (b"grpc-timeout", timeout_value(timeout)),
    ):
        head.headers.add_raw(name, value)
    return head


def request_message(service: str) -> bytes:
    """A framed HealthCheckRequest; an empty `service` asks about the whole server."""
    return framed(text(1, service))


def fault_of(answer: Answer, service: str) -> str:
    """Why an answer means that the host is not healthy; empty if it is."""
    head = answer.head
    if head is None or head.status != 200:
        return f"HTTP status {0 if head is None else head.status}"
    status, fields = -1, head.headers
    if answer.trailers is not None:
        status, fields = status_of(answer.trailers), answer.trailers
    if status < 0:
        status, fields = status_of(head.headers), head.headers
    if status == UNIMPLEMENTED:
        return "the host does not implement grpc.health.v1.Health"
    if status == NOT_FOUND:
        return f"the host has no health of service {service!r}"
    if status != OK:
        name = STATUS_NAMES[status] if status >= 0 else "none"
        return f"gRPC status {name} {to_text(fields.get_raw(MESSAGE) or b'')}".rstrip()
    try:
        serving = serving_status(answer.body)
    except ValueError:
        return "the answer is not a HealthCheckResponse"
    return "" if serving == SERVING else _STATUSES[serving] if serving < len(_STATUSES) else f"status {serving}"


def serving_status(body: bytes) -> int:
    """The status in a framed HealthCheckResponse. Raises ValueError for anything else."""
    if len(body) < _FRONT or body[0] != 0 or len(body) != _FRONT + int.from_bytes(body[1:_FRONT], "big"):
        raise ValueError("not one whole message")
    return Fields(body[_FRONT:]).number(1)
