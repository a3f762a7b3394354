"""The options of HTTP/1 on a listener."""

from __future__ import annotations

from collections.abc import Mapping

from mypy_extensions import i64

from pymosn.api.stream import ListenerFacts
from pymosn.core.overload import OverloadState
from pymosn.protocol.http.policy import HttpPolicy
from pymosn.protocol.http1.decoder import Http1Limits
from pymosn.stream.http.options import MOST, allowed_upgrades, connect_tunnel, http_policy
from pymosn.stream.settings import number, seconds


class Http1Options:
    """Limits and times of HTTP/1 on a listener. Immutable, shared by its connections. Times in seconds; 0 disables them.

    `limits`: of requests. `policy`: what is tolerated. `idle_timeout`: between requests. `header_timeout`: from the first
    byte of a head to its end. `body_timeout`: the longest silence while a request body is awaited. `body_min_rate`: bytes
    per second of a body, on average over each `body_timeout`; 0 means no limit. `max_requests`: of one connection; 0 means
    no limit. `overload`: the worker's. `upgrades`: protocols, in lower case, that a client may upgrade to; a request for any
    other is served as an ordinary request. `connect`: the `raw_tunnel` of CONNECT requests, empty if they are rejected.
    """

    def __init__(
        self,
        *,
        limits: Http1Limits,
        policy: HttpPolicy,
        idle_timeout: float,
        header_timeout: float,
        body_timeout: float,
        body_min_rate: float,
        max_requests: i64,
        overload: OverloadState,
        upgrades: frozenset[bytes],
        connect: bytes,
    ) -> None:
        self.limits = limits
        self.policy = policy
        self.idle_timeout = idle_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.body_min_rate = body_min_rate
        self.max_requests: i64 = max_requests
        self.overload = overload
        self.upgrades = upgrades
        self.connect = connect


def read_http1_options(settings: Mapping[str, object], facts: ListenerFacts) -> Http1Options:
    """The options from `extend_config.Http1`, which must be complete. Raises ValueError naming the key."""
    return Http1Options(
        limits=Http1Limits(
            head=number(settings, "max_header_size", "bytes", 1, MOST),
            fields=number(settings, "max_header_count", "fields", 1, MOST),
            body=number(settings, "max_request_body_size", "bytes", 0, MOST),
        ),
        policy=http_policy(settings),
        idle_timeout=facts.idle_timeout,
        header_timeout=seconds(settings, "header_timeout"),
        body_timeout=seconds(settings, "body_timeout"),
        body_min_rate=float(number(settings, "body_min_rate", "bytes per second", 0, MOST)),
        max_requests=number(settings, "max_requests_per_connection", "requests", 0, MOST),
        overload=facts.overload,
        upgrades=allowed_upgrades(settings),
        connect=connect_tunnel(settings),
    )
