"""Options with defaults, for tests. A proxy gets them all from its configuration."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from pymosn.api.exchange import AccessLog
from pymosn.api.rpc import MAX_FRAME
from pymosn.api.stream import StreamProtocol
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.message import CERT_BY_TRUST, ForwardingOptions
from pymosn.core.overload import OverloadState
from pymosn.core.uri import KEEP_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.policy import PASS_UNDERSCORES, STRICT, HttpPolicy
from pymosn.protocol.http1.decoder import Http1Limits
from pymosn.protocol.http2.limits import HeadLimits
from pymosn.proxy.options import HttpRules, ProxyOptions
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.routing.by_address import AddressRoute, StreamTarget
from pymosn.routing.table import TableSlot
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.rpc.options import FRAME_TIMEOUT, RpcOptions

#: The options that HTTP/1 and HTTP/2 have in common, except for the limits.
_SHARED: Final = (
    "policy",
    "idle_timeout",
    "header_timeout",
    "body_timeout",
    "body_min_rate",
    "max_requests",
    "overload",
    "upgrades",
    "connect",
)
_WEBSOCKET: Final = frozenset((b"websocket",))


def http1_limits(head: int = 8192, fields: int = 100, body: int = 0) -> Http1Limits:
    """Limits of HTTP/1 messages."""
    return Http1Limits(head=head, fields=fields, body=body)


def http1_policy(
    is_strict: bool = True,
    trusts_peer: bool = False,
    merges_slashes: bool = True,
    slashes: int = int(KEEP_SLASHES),
    underscores: int = int(PASS_UNDERSCORES),
) -> HttpPolicy:
    """What an HTTP/1 decoder tolerates."""
    return HttpPolicy(
        is_strict=is_strict,
        trusts_peer=trusts_peer,
        merges_slashes=merges_slashes,
        slashes=slashes,
        underscores=underscores,
    )


def http1_options(
    *,
    limits: Http1Limits | None = None,
    policy: HttpPolicy = STRICT,
    idle_timeout: float = 90.0,
    header_timeout: float = 60.0,
    body_timeout: float = 60.0,
    body_min_rate: float = 100.0,
    max_requests: int = 0,
    overload: OverloadState | None = None,
    upgrades: frozenset[bytes] = _WEBSOCKET,
    connect: bytes = b"",
) -> Http1Options:
    """Options of HTTP/1 on a listener."""
    return Http1Options(
        limits=http1_limits() if limits is None else limits,
        policy=policy,
        idle_timeout=idle_timeout,
        header_timeout=header_timeout,
        body_timeout=body_timeout,
        body_min_rate=body_min_rate,
        max_requests=max_requests,
        overload=OverloadState() if overload is None else overload,
        upgrades=upgrades,
        connect=connect,
    )


def http2_options(http1: Http1Options | None = None, **settings: Any) -> Http2Options:
    """Options of HTTP/2 on a listener: those that `http1` has in common with it, and `settings`."""
    same = http1_options() if http1 is None else http1
    limits = HeadLimits(same.limits.head, same.limits.fields, same.limits.body)
    shared: dict[str, Any] = {name: getattr(same, name) for name in _SHARED}
    return Http2Options(**{"limits": limits, **shared, **settings})


def rpc_options(
    *,
    max_frame: int = int(MAX_FRAME),
    idle_timeout: float = 90.0,
    frame_timeout: float = FRAME_TIMEOUT,
    goaway: bool = False,
) -> RpcOptions:
    """Options of an RPC protocol on a listener."""
    return RpcOptions(max_frame=max_frame, idle_timeout=idle_timeout, frame_timeout=frame_timeout, goaway=goaway)


def proxy_options(
    *,
    listener_name: str = "test",
    protocols: list[StreamProtocol] | None = None,
    protocol_options: dict[str, object] | None = None,
    slot: TableSlot | None = None,
    filters: StreamFilters | None = None,
    stats: DownstreamStats | None = None,
    access_logs: list[AccessLog] | None = None,
    x_forwarded: bool = False,
    x_request_id: bool = False,
    reason_header: bool = False,
    stream_idle_timeout: float = 300.0,
    tunnel_idle_timeout: float = 600.0,
    idle_timeout: float = 90.0,
    detection_timeout: float = 15.0,
    trusts_peer: bool = False,
    trusted_hops: int = 0,
    client_cert: int = int(CERT_BY_TRUST),
    paths: PathPolicy = STRICT_PATHS,
    rules: dict[str, HttpRules] | None = None,
) -> ProxyOptions:
    """Options of a `proxy` network filter."""
    return ProxyOptions(
        listener_name=listener_name,
        protocols=protocols or [],
        protocol_options=protocol_options or {},
        slot=TableSlot(listener_name) if slot is None else slot,
        filters=StreamFilters([]) if filters is None else filters,
        stats=_stats(listener_name) if stats is None else stats,
        access_logs=access_logs or [],
        forwarding=ForwardingOptions(
            x_forwarded=x_forwarded,
            x_request_id=x_request_id,
            trusts_peer=trusts_peer,
            trusted_hops=trusted_hops,
            client_cert=client_cert,
        ),
        reason_header=reason_header,
        stream_idle_timeout=stream_idle_timeout,
        tunnel_idle_timeout=tunnel_idle_timeout,
        idle_timeout=idle_timeout,
        detection_timeout=detection_timeout,
        paths=paths,
        rules=rules,
    )


def tcp_options(
    *,
    listener_name: str = "test",
    cluster: str = "",
    weighted: Sequence[tuple[str, int]] = (),
    routes: list[AddressRoute] | None = None,
    stats: DownstreamStats | None = None,
    access_logs: list[AccessLog] | None = None,
    idle_timeout: float = 90.0,
    connect_attempts: int = 0,
    connect_timeout: float = 0.0,
    draw: Callable[[], float] = random.random,
) -> TcpOptions:
    """Options of a `tcp_proxy` network filter. `cluster` or `weighted`: the clusters of all connections."""
    return TcpOptions(
        listener_name=listener_name,
        target=StreamTarget([(cluster, 1)] if cluster else list(weighted)),
        routes=routes or [],
        stats=_stats(listener_name) if stats is None else stats,
        access_logs=access_logs or [],
        idle_timeout=idle_timeout,
        connect_attempts=connect_attempts,
        connect_timeout=connect_timeout,
        draw=draw,
    )


def _stats(listener_name: str) -> DownstreamStats:
    return DownstreamStats(Metrics().group("downstream", ("listener", listener_name)))
