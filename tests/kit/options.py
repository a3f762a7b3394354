"""Options with defaults, for tests. A proxy gets them all from its configuration."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pymosn.api.alpn import AlpnOffers
from pymosn.api.exchange import AccessLog
from pymosn.api.rpc import MAX_FRAME
from pymosn.api.stream import StreamProtocol
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.forwarding import CERT_BY_TRUST, ForwardingOptions
from pymosn.core.overload import OverloadState
from pymosn.core.uri import KEEP_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import PASS_UNDERSCORES, STRICT, HttpPolicy
from pymosn.proxy.local_replies import LocalReplies
from pymosn.proxy.options import HttpRules, ProxyOptions
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.proxy.tcp_options import TcpObserver, TcpOptions
from pymosn.routing.by_address import AddressRoute, StreamTarget
from pymosn.routing.table import TableSlot
from pymosn.stream.http.options import HttpOptions
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.rpc.options import FRAME_TIMEOUT, RpcOptions

_WEBSOCKET: Final = frozenset((b"websocket",))


def http_limits(head: int = 8192, fields: int = 100, body: int = 0) -> HttpLimits:
    """Limits of HTTP messages."""
    return HttpLimits(head=head, fields=fields, body=body)


def http1_policy(
    is_strict: bool = True,
    trusts_peer: bool = False,
    merges_slashes: bool = True,
    slashes: int = int(KEEP_SLASHES),
    underscores: int = int(PASS_UNDERSCORES),
) -> HttpPolicy:
    """What a decoder tolerates."""
    return HttpPolicy(
        is_strict=is_strict,
        trusts_peer=trusts_peer,
        merges_slashes=merges_slashes,
        slashes=slashes,
        underscores=underscores,
    )


def http_options(
    *,
    limits: HttpLimits | None = None,
    policy: HttpPolicy = STRICT,
    idle_timeout: float = 90.0,
    header_timeout: float = 60.0,
    body_timeout: float = 60.0,
    body_min_rate: float = 100.0,
    half_close_timeout: float = 1.0,
    max_requests: int = 0,
    max_age: float = 0.0,
    overload: OverloadState | None = None,
    upgrades: frozenset[bytes] = _WEBSOCKET,
    connect: bytes = b"",
) -> HttpOptions:
    """Options of HTTP on a listener."""
    return HttpOptions(
        limits=http_limits() if limits is None else limits,
        policy=policy,
        idle_timeout=idle_timeout,
        header_timeout=header_timeout,
        body_timeout=body_timeout,
        body_min_rate=body_min_rate,
        half_close_timeout=half_close_timeout,
        max_requests=max_requests,
        max_age=max_age,
        overload=OverloadState() if overload is None else overload,
        upgrades=upgrades,
        connect=connect,
    )


def http2_options(http: HttpOptions | None = None, **settings: Any) -> Http2Options:
    """Options of HTTP/2 on a listener. `settings`: of HTTP/2; and of `http_options`, unless `http` is given."""
    if http is None:
        shared = (http_options.__kwdefaults__ or {}).keys() & settings.keys()
        http = http_options(**{name: settings.pop(name) for name in shared})
    return Http2Options(http=http, **settings)


def rpc_options(
    *,
    max_frame: int = int(MAX_FRAME),
    idle_timeout: float = 90.0,
    frame_timeout: float = FRAME_TIMEOUT,
    goaway: bool = False,
    half_close_timeout: float = 1.0,
) -> RpcOptions:
    """Options of an RPC protocol on a listener."""
    return RpcOptions(
        max_frame=max_frame,
        idle_timeout=idle_timeout,
        frame_timeout=frame_timeout,
        goaway=goaway,
        half_close_timeout=half_close_timeout,
    )


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
    forwarding: Mapping[str, Any] | None = None,
    paths: PathPolicy = STRICT_PATHS,
    rules: dict[str, HttpRules] | None = None,
    local_replies: LocalReplies | None = None,
    empty_failures: bool = False,
    longest_exchange: float = 0.0,
    envoy_statuses: bool = False,
    offers: AlpnOffers | None = None,
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
            **(forwarding or {}),
        ),
        reason_header=reason_header,
        stream_idle_timeout=stream_idle_timeout,
        tunnel_idle_timeout=tunnel_idle_timeout,
        idle_timeout=idle_timeout,
        detection_timeout=detection_timeout,
        paths=paths,
        rules=rules,
        local_replies=local_replies,
        empty_failures=empty_failures,
        longest_exchange=longest_exchange,
        envoy_statuses=envoy_statuses,
        offers=offers,
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
    max_duration: float = 0.0,
    draw: Callable[[], float] = random.random,
    observers: list[TcpObserver] | None = None,
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
        max_duration=max_duration,
        draw=draw,
        observers=observers,
    )


def _stats(listener_name: str) -> DownstreamStats:
    return DownstreamStats(Metrics().group("downstream", ("listener", listener_name)))
