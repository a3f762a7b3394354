"""Unary gRPC calls of filters to a service in one of the proxy's clusters."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import unquote

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import MESSAGE, OK, framed, status_of, timeout_value
from pymosn.api.stream_filter import ClientError, ClusterClient
from pymosn.filters.settings import StrictBlock, own
from pymosn.filters.stream.grpc_messages import MessageReader

#: Maximum bytes of a response.
LIMIT: Final = 1024 * 1024


class GrpcTarget(StrictBlock, kw_only=True):
    """A gRPC service in a cluster."""

    cluster: Annotated[str, own("")] = ""
    authority: Annotated[str, own("its name in the calls; empty: that of the host")] = ""
    metadata: Annotated[dict[str, str], own("further headers of the calls")] = {}


class CallError(Exception):
    """A call without a usable response; the text is the reason."""


async def call(
    client: ClusterClient,
    path: str,
    message: bytes,
    timeout: float,
    authority: str = "",
    metadata: list[tuple[str, str]] | None = None,
    exchange: Exchange | None = None,
) -> bytes:
    """Calls the method at `path`, such as `/package.Service/Method`; returns the response's message. Raises CallError.

    `timeout`: seconds. `authority`: instead of the host's. `metadata`: further headers. HeaderError for invalid ones.
    `exchange`: the one that it is made for, whose trace it becomes a part of.
    """
    fields = [("content-type", "application/grpc"), ("grpc-timeout", timeout_value(timeout).decode())]
    if authority:
        fields.append(("host", authority))
    fields += metadata or []
    try:
        answer = await client.request("POST", path, fields, framed(message), timeout, LIMIT, exchange)
    except ClientError as error:
        raise CallError(error.reason) from None
    if answer.status != 200:
        raise CallError(f"status {answer.status}")
    ends = answer.headers if answer.trailers is None else answer.trailers
    status = status_of(ends)
    if status != OK:
        text = unquote((ends.get_raw(MESSAGE) or b"").decode("latin-1"))
        raise CallError(f"gRPC status {status}{f': {text}' if text else ''}" if status >= 0 else "no gRPC status")
    try:
        messages = MessageReader(LIMIT).feed(answer.body)
    except ValueError as error:
        raise CallError(str(error)) from None
    if len(messages) != 1:
        raise CallError(f"{len(messages)} messages in the response, expected one")
    return messages[0]
