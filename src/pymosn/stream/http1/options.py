"""What may be set for HTTP/1 on a listener."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.core.overload import OverloadState
from pymosn.protocol.http1.decoder import Http1Limits
from pymosn.protocol.http1.policy import STRICT, Http1Policy


class Http1Options:
    """Limits of requests, and times in seconds (0 is never).

    `idle_timeout`: between requests. `header_timeout`: from the first byte of a head to its end. `body_timeout`: the longest
    silence while a request body is awaited. `body_min_rate`: bytes per second that must come of a body, on average over each
    `body_timeout`; 0 is no such limit. `max_requests`: of one connection; 0 is no limit. `load`: the worker's.
    `policy`: what is forgiven. `upgrades`: protocols, in lower case, that a client may upgrade to; a request for any other
    is served as if it had not asked. `connect`: the `raw_tunnel` of a CONNECT, empty where none is allowed.
    """

    def __init__(
        self,
        limits: Http1Limits | None = None,
        idle_timeout: float = 90.0,
        header_timeout: float = 60.0,
        body_timeout: float = 60.0,
        policy: Http1Policy = STRICT,
        body_min_rate: float = 100.0,
        max_requests: i64 = 0,
        overload: OverloadState | None = None,
        upgrades: frozenset[bytes] = frozenset((b"websocket",)),
        connect: bytes = b"",
    ) -> None:
        self.limits = Http1Limits() if limits is None else limits
        self.policy = policy
        self.idle_timeout = idle_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.body_min_rate = body_min_rate
        self.max_requests: i64 = max_requests
        self.overload = OverloadState() if overload is None else overload
        self.upgrades = upgrades
        self.connect = connect
