"""Health of the hosts of a cluster: active checks, outlier detection; and its limits (circuit breakers)."""

from __future__ import annotations

from typing import Any, Final

from pymosn.config.check.clusters import is_field_value
from pymosn.config.schema.cluster import (
    CircuitBreaker,
    Enforcing,
    FailurePercentage,
    GrpcProbe,
    HealthCheck,
    HttpProbe,
    OutlierDetection,
    ProbeConfig,
    StatusRange,
    SuccessRate,
    TcpProbe,
)
from pymosn.control.xds.convert.view import View
from pymosn.core.headers import is_token

#: Limits that are not set; a limit of `_NONE` is none.
_LIMITS: Final = (("max_connections", 1024), ("max_pending_requests", 1024), ("max_requests", 1024), ("max_retries", 3))
_NONE: Final = 2**32 - 1
#: A limit of zero lets nothing through in Envoy, where it means none here.
_LEAST: Final = 1


# ---- circuit breakers


def read_breakers(view: View | None) -> list[CircuitBreaker]:
    """The limits of each priority. Those that are not set, and all if there are none, are Envoy's."""
    found: list[CircuitBreaker] = []
    if view is not None:
        with view:
            found = [_breaker(item) for item in view.items("thresholds")]
            if view.items("per_host_thresholds"):
                view.warn("per_host_thresholds", "has no effect: limits are for all hosts of a cluster together")
    if not any(block.priority == "DEFAULT" for block in found):
        found.insert(0, _with_defaults())
    return found


def _with_defaults() -> CircuitBreaker:
    block = CircuitBreaker()
    for name, limit in _LIMITS:
        setattr(block, name, limit)
    return block


def _breaker(view: View) -> CircuitBreaker:
    with view:
        block = CircuitBreaker()
        priority = view.enum("priority")
        if priority == "HIGH":
            block.priority = "HIGH"
        elif priority != "DEFAULT":
            view.fault("priority", f"unknown priority {priority}")
        for name, default in _LIMITS:
            limit = view.wrapped(name)
            if limit == 0:
                view.warn(name, "a limit of 0 is applied as 1")
            setattr(block, name, default if limit is None else 0 if limit == _NONE else max(_LEAST, limit))
        if view.inner("retry_budget") is not None:
            view.warn("retry_budget", "has no effect: max_retries limits retries")
        if view.wrapped("max_connection_pools"):
            view.warn("max_connection_pools", "has no effect")
        return block


# ---- outlier detection


def read_outliers(view: View | None) -> OutlierDetection | None:
    """The rules by which hosts are ejected; None without."""
    if view is None:
        return None
    with view:

        def number(name: str, default: int) -> int:
            value = view.wrapped(name)
            return default if value is None else int(value)

        def percent(name: str, default: int) -> int:
            value = number(name, default)
            if value > 100:
                view.fault(name, f"not a percentage: {value}")
            return min(100, value)

        def seconds(name: str, default: float) -> float:
            value = view.seconds(name)
            if value is not None and value <= 0.0 and name != "max_ejection_time_jitter":
                view.fault(name, "must be above 0")
            return default if value is None else value

        splits = bool(view.value("split_external_local_origin_errors"))
        enforcing = Enforcing(
            consecutive_errors=percent("enforcing_consecutive_5xx", 100),
            consecutive_gateway_failures=percent("enforcing_consecutive_gateway_failure", 0),
            consecutive_local_origin_failures=percent("enforcing_consecutive_local_origin_failure", 100),
            success_rate=percent("enforcing_success_rate", 100),
            local_origin_success_rate=percent("enforcing_local_origin_success_rate", 100),
            failure_percentage=percent("enforcing_failure_percentage", 0),
            local_origin_failure_percentage=percent("enforcing_failure_percentage_local_origin", 0),
        )
        rate = SuccessRate(
            minimum_hosts=number("success_rate_minimum_hosts", 5),
            request_volume=number("success_rate_request_volume", 100),
            stdev_factor=number("success_rate_stdev_factor", 1900),
        )
        share = FailurePercentage(
            threshold=percent("failure_percentage_threshold", 85),
            minimum_hosts=number("failure_percentage_minimum_hosts", 5),
            request_volume=number("failure_percentage_request_volume", 50),
        )
        errors, gateway = number("consecutive_5xx", 5), number("consecutive_gateway_failure", 5)
        base = seconds("base_ejection_time", 30.0)
        if view.items("monitors"):
            view.fault("monitors", "other detectors are not supported")
        if view.wrapped("successful_active_health_check_uneject_host") is False:
            view.value("successful_active_health_check_uneject_host")
        has_rate = enforcing.success_rate > 0 or (splits and enforcing.local_origin_success_rate > 0)
        has_share = enforcing.failure_percentage > 0 or (splits and enforcing.local_origin_failure_percentage > 0)
        return OutlierDetection(
            consecutive_errors=errors if enforcing.consecutive_errors else 0,
            consecutive_gateway_failures=gateway if enforcing.consecutive_gateway_failures else 0,
            consecutive_local_origin_failures=number("consecutive_local_origin_failure", 5),
            splits_local_origin=splits,
            interval=seconds("interval", 10.0),
            base_ejection_time=base,
            max_ejection_time=max(base, seconds("max_ejection_time", 300.0)),
            max_ejection_time_jitter=seconds("max_ejection_time_jitter", 0.0),
            max_ejection_percent=percent("max_ejection_percent", 10),
            always_eject_one=bool(view.wrapped("always_eject_one_host")),
            success_rate=rate if has_rate else None,
            failure_percentage=share if has_share else None,
            enforcing=enforcing,
        )


# ---- health checks


def read_health_check(view: View) -> HealthCheck | None:
    """The first health check; further ones are reported."""
    checks = view.items("health_checks")
    for i in range(1, len(checks)):
        view.warn(f"health_checks[{i}]", "has no effect: a cluster has one health check")
    return _check(checks[0]) if checks else None


def _check(view: View) -> HealthCheck:
    with view:
        check = HealthCheck(initial_delay_seconds=0.0)
        for name in ("timeout", "interval"):
            value = view.seconds(name)
            if not value:
                view.fault(name, "must be above 0")
            setattr(check, name, value or 1.0)
        jitter = view.seconds("interval_jitter") or 0.0
        check.interval_jitter = jitter + check.interval * int(view.value("interval_jitter_percent")) / 100.0
        check.initial_delay_seconds = 0.0
        for name in ("healthy_threshold", "unhealthy_threshold"):
            threshold = view.wrapped(name)
            if threshold is None:
                view.fault(name, "missing")
            setattr(check, name, threshold or 1)
        check.event_log_path = str(view.value("event_log_path"))
        view.refuse("transport_socket_match_criteria", "TLS of checks is that of the hosts")
        port = view.wrapped("alt_port")
        kind = view.which("health_checker")
        inner = view.inner(kind) if kind else None
        if inner is None:
            view.fault("", "needs http_health_check, grpc_health_check or tcp_health_check")
        elif kind == "http_health_check":
            _http(check, inner, port or 0)
        elif kind == "grpc_health_check":
            _grpc(check, inner)
        elif kind == "tcp_health_check":
            _tcp(check, inner)
        else:
            inner.fault("", "own kinds of checks are not supported")
        if port and kind != "http_health_check":
            view.fault("alt_port", "another port is supported for HTTP checks only")
        return check


def _http(check: HealthCheck, view: View, port: int) -> None:
    with view:
        probe = HttpProbe(port=port, timeout=check.timeout, path=str(view.value("path")), domain=str(view.value("host")))
        if not probe.path:
            view.fault("path", "missing")
        method = view.enum("method")
        probe.method = "GET" if method == "METHOD_UNSPECIFIED" else method
        version = view.enum("codec_client_type")
        if version == "HTTP3":
            view.fault("codec_client_type", "HTTP/3 is not supported")
        check.protocol = "Http2" if version == "HTTP2" else "Http1"
        for item in view.items("expected_statuses"):
            with item:
                probe.codes.append(StatusRange(Start=int(item.value("start")), End=int(item.value("end")) - 1))
        for item in view.items("request_headers_to_add"):
            with item:
                _header(probe, item)
        view.values("request_headers_to_remove")  # there are none of these
        view.refuse("service_name_matcher", "the name of the service in the response is not checked")
        view.refuse("send", "checks with a body are not supported")
        view.refuse("receive", "the body of the response is not checked")
        if view.items("retriable_statuses"):
            view.warn("retriable_statuses", "has no effect: unhealthy_threshold applies to all responses")
        check.check_config = ProbeConfig(http_check_config=probe)


def _header(probe: HttpProbe, view: View) -> None:
    """Reads one `HeaderValueOption` of a check."""
    header = view.inner("header")
    for name in ("append", "append_action", "keep_empty_value"):
        view.value(name)
    if header is None:
        return
    with header:
        name, value = str(header.value("key")), str(header.value("value"))
        header.refuse("raw_value", "not supported: use value")
        if "%" in value:
            header.fault("value", "variables are not supported in the headers of a check")
        if not is_token(name.encode(errors="replace")) or not is_field_value(value):
            header.fault("", "not a valid header")
        else:
            probe.headers[name] = value


def _grpc(check: HealthCheck, view: View) -> None:
    with view:
        check.protocol = "grpc"
        service, authority = str(view.value("service_name")), str(view.value("authority"))
        view.refuse("initial_metadata", "metadata of gRPC checks is not supported")
        check.check_config = ProbeConfig(grpc_check_config=GrpcProbe(service_name=service, authority=authority))


def _tcp(check: HealthCheck, view: View) -> None:
    with view:
        check.protocol = "tcp"
        view.refuse("proxy_protocol_config", "not supported in checks; that of the cluster is sent")
        send = view.inner("send")
        probe = TcpProbe(send="" if send is None else _payload(send))
        probe.receive = [text for item in view.items("receive") if (text := _payload(item))]
        if probe.send or probe.receive:
            check.check_config = ProbeConfig(tcp_check_config=probe)


def _payload(view: View) -> str:
    """The bytes of a `Payload` in hexadecimal."""
    with view:
        kind: Any = view.which("payload")
        if kind == "binary":
            return bytes(view.value("binary")).hex()
        text = str(view.value("text"))
        try:
            return bytes.fromhex(text).hex()
        except ValueError:
            view.fault("text", "not in hexadecimal")
            return ""
