"""Requests and responses of xDS as plain values, for both variants of the protocol, and what a view shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Request(NamedTuple):
    """A request. `error`: why the response with this nonce is rejected; empty otherwise.

    State of the world: `version`, the last accepted one, and `names`, all that are subscribed. Delta: `subscribe`,
    `unsubscribe`, and `versions` (`initial_resource_versions`), name -> version that the client has.
    """

    type_url: str
    nonce: str = ""
    error: str = ""
    version: str = ""
    names: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}


class Entry(NamedTuple):
    """One resource of a response. `body`: None for a heartbeat. `ttl`: seconds. `fault`: why it cannot be read at all."""

    name: str
    version: str
    body: bytes | None
    ttl: float | None = None
    fault: str = ""


class Response(NamedTuple):
    """A response. `removed`: only delta. `size`: bytes of the message."""

    type_url: str
    version: str
    nonce: str
    entries: list[Entry]
    removed: tuple[str, ...] = ()
    size: int = 0


class TypeStatus(NamedTuple):
    """What the admin API shows of one type on one client. Ages are in seconds; None: it has not happened.

    `version`: the last accepted one. `wanted`: number of subscribed names; `*` counts as one. `held`: number of resources.
    `waiting`: names that were not answered yet, at most 100. `nack_reason`: of the last NACK; `nacks_in_row`: since then.
    """

    type_url: str
    version: str
    nonce: str
    wanted: int
    is_wildcard: bool
    held: int
    waiting: tuple[str, ...]
    ack_age: float | None
    nack_age: float | None
    nack_reason: str
    nacks_in_row: int
    requests: int
    responses: int
    bytes: int
    acks: int
    nacks: int
    coalesced: int
    ignored: int
    fetch_timeouts: int
    expired: int
