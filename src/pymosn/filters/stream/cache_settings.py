"""The settings of `response_cache`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pymosn.core.headers import is_token, to_bytes
from pymosn.filters.settings import Duration, Positive, StrictBlock, own
from pymosn.filters.stream.problems import Problems


class Settings(StrictBlock, kw_only=True):
    """`response_cache`: a shared cache in each worker's memory."""

    max_bytes: Annotated[Positive, own("bytes in each worker; the least recently used response is removed")] = 67108864
    max_entry_bytes: Annotated[Positive, own("longer bodies are not stored")] = 1048576
    max_variants: Annotated[Positive, own("responses per key that differ in the request fields in Vary")] = 16
    max_ttl: Annotated[Duration, own("longest lifetime")] = 86400.0
    wait: Annotated[Duration, own("how long a request waits for the response to another one; 0: not at all")] = 5.0
    key_headers: Annotated[list[str], own("request headers whose values are part of the key")] = []
    identity_headers: Annotated[
        list[str], own("request headers that identify a client, besides Authorization; default: x-api-key")
    ] = msgspec.field(default_factory=lambda: ["x-api-key"])
    ignored_cookies: Annotated[list[str], own("cookies that do not identify a client; requests with others pass by")] = []
    unkeyed: Annotated[
        list[str], own("headers and variables that filters make unique; default: x-request-id, traceparent, tracestate")
    ] = msgspec.field(default_factory=lambda: ["x-request-id", "traceparent", "tracestate"])
    cache_status: Annotated[str, own("name of this cache in the header Cache-Status; empty: no such header")] = ""


def check(settings: Settings) -> None:
    """Raises FilterConfigError."""
    problems = Problems()
    fits = settings.max_entry_bytes <= settings.max_bytes
    problems.require(fits, ".max_entry_bytes", "must not be greater than max_bytes")
    problems.require(settings.max_ttl > 0, ".max_ttl", "must be greater than 0")
    problems.headers(".key_headers", settings.key_headers)
    problems.headers(".identity_headers", settings.identity_headers)
    problems.headers(".unkeyed", settings.unkeyed)
    for i, name in enumerate(settings.ignored_cookies):
        problems.require(is_token(to_bytes(name)), f".ignored_cookies[{i}]", f"not the name of a cookie: {name!r}")
    name = settings.cache_status
    problems.require(not name or is_token(to_bytes(name)), ".cache_status", f"must be a token, not {name!r}")
    problems.end()
