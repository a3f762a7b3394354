"""Filters that delay, limit or answer requests: fault, buffer, local_ratelimit, ratelimit, health_check."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert.filter_access import enabled_share, grpc_service
from pymosn.control.xds.convert.filter_json import CONDITIONS, Known, as_json, check_route_settings, check_settings
from pymosn.control.xds.convert.route_settings import RouteSettings
from pymosn.control.xds.convert.values import fraction, header_match, header_option
from pymosn.control.xds.convert.view import View

_RATE: Final = "envoy.config.route.v3.RateLimit"
#: The actions that make descriptors, as `filters/stream/rate_descriptors.py` reads them.
RATE_LIMITS: Final[Known] = {
    **CONDITIONS,
    _RATE: ("stage", "actions", "disable_key"),
    f"{_RATE}.Action": (
        *("destination_cluster", "request_headers", "remote_address", "generic_key"),
        *("header_value_match", "metadata", "dynamic_metadata", "masked_remote_address"),
    ),
    f"{_RATE}.Action.RequestHeaders": ("header_name", "descriptor_key", "skip_if_absent"),
    f"{_RATE}.Action.GenericKey": ("descriptor_value", "descriptor_key"),
    f"{_RATE}.Action.HeaderValueMatch": ("descriptor_key", "descriptor_value", "expect_match", "headers"),
    f"{_RATE}.Action.MetaData": ("descriptor_key", "metadata_key", "default_value", "source", "skip_if_absent"),
    f"{_RATE}.Action.DynamicMetaData": ("descriptor_key", "metadata_key", "default_value"),
    f"{_RATE}.Action.MaskedRemoteAddress": ("v4_prefix_mask_len", "v6_prefix_mask_len"),
    "envoy.type.metadata.v3.MetadataKey": ("key", "path"),
    "envoy.type.metadata.v3.MetadataKey.PathSegment": ("key",),
}


def fault(view: View) -> StreamFilter:
    """An HTTPFault."""
    config = _fault(view)
    return StreamFilter(type="fault", config=check_settings(view, "fault", config))


def route_fault(view: View) -> RouteSettings:
    """An HTTPFault of a route."""
    return RouteSettings("fault", check_route_settings(view, "fault", _fault(view)))


def _fault(view: View) -> dict[str, Any]:
    with view:
        config: dict[str, Any] = {"upstream_cluster": view.value("upstream_cluster")}
        delay = view.inner("delay")
        if delay is not None:
            with delay:
                delay.refuse("header_delay", "not supported; clients must not control faults")
                config["delay"] = {
                    "percentage": _percentage(delay),
                    "fixed_delay": f"{delay.seconds('fixed_delay') or 0.0:f}s",
                }
        abort = view.inner("abort")
        if abort is not None:
            with abort:
                abort.refuse("header_abort", "not supported; clients must not control faults")
                config["abort"] = {"percentage": _percentage(abort)}
                kind = abort.which("error_type")
                if kind == "http_status":
                    config["abort"]["status"] = abort.value(kind)
                elif kind == "grpc_status":
                    config["abort"]["grpc_status"] = abort.value(kind)
        config["headers"] = [msgspec.to_builtins(header_match(item)) for item in view.items("headers")]
        return config


def _percentage(view: View) -> float:
    inner = view.inner("percentage")
    return 0.0 if inner is None else fraction(inner)


def buffer(view: View) -> StreamFilter:
    """A Buffer: requests with longer bodies get 413. They are streamed instead of buffered."""
    with view:
        config = {"max_entity_size": view.wrapped("max_request_bytes") or 0}
        if not config["max_entity_size"]:
            view.fault("max_request_bytes", "must be 1 or more")
    return StreamFilter(type="payload_limit", config=config)


def route_buffer(view: View) -> RouteSettings:
    """BufferPerRoute."""
    with view:
        limit = 0
        if view.has("disabled"):
            view.value("disabled")
        inner = view.inner("buffer")
        if inner is not None:
            with inner:
                limit = inner.wrapped("max_request_bytes") or 0
    return RouteSettings("payload_limit", {"max_entity_size": limit})


def health_check(view: View) -> StreamFilter | None:
    """A HealthCheck, which answers requests itself."""
    with view:
        passes = view.wrapped("pass_through_mode")
        view.refuse("cluster_min_healthy_percentages", "not supported; the answer is always 200")
        if passes:
            view.refuse("cache_time", "not supported; health checks that pass are not cached")
        headers = [as_json(item, CONDITIONS) for item in view.items("headers")]
        if passes:
            return None
        return StreamFilter(type="health_check", config=check_settings(view, "health_check", {"headers": headers}))


def local_rate_limit(view: View) -> StreamFilter:
    """A LocalRateLimit; without a bucket, or if it is disabled, it is one for routes with their own settings."""
    config = _local(view) or {"only_routes": True}
    return StreamFilter(type="local_rate_limit", config=check_settings(view, "local_rate_limit", config))


def route_local_rate_limit(view: View) -> RouteSettings:
    """A LocalRateLimit of a route; disabled: without a limit."""
    config = _local(view) or {"unlimited": True}
    return RouteSettings("local_rate_limit", check_route_settings(view, "local_rate_limit", config))


def _local(view: View) -> dict[str, Any] | None:
    with view:
        shares = [enabled_share(view, name) if view.has(name) else 0.0 for name in ("filter_enabled", "filter_enforced")]
        for name, share in zip(("filter_enabled", "filter_enforced"), shares, strict=True):
            if 0.0 < share < 100.0:
                view.fault(name, "only 0 % and 100 % are supported")
        bucket = view.inner("token_bucket")
        config: dict[str, Any] = {} if bucket is None else _bucket(bucket)
        config["body"] = "local_rate_limited"
        status = view.inner("status")
        if status is not None:
            with status:
                status.enum("code")
                # As in Envoy: what is not an error becomes the default.
                config["status"] = status.message.code if status.message.code >= 400 else 429
        config["response_headers"] = _added(view, "response_headers_to_add")
        view.items("request_headers_to_add_when_not_enforced")  # it is always enforced
        config["stage"] = view.value("stage")
        config["resource_exhausted"] = view.value("rate_limited_as_resource_exhausted")
        _warn_of_headers(view)
        always = view.wrapped("always_consume_default_token_bucket")
        config["always_default"] = always is None or always
        config["rate_limits"] = [as_json(item, RATE_LIMITS) for item in view.items("rate_limits")]
        config["descriptors"] = [_descriptor(item) for item in view.items("descriptors")]
        if view.value("local_rate_limit_per_downstream_connection"):
            view.fault("local_rate_limit_per_downstream_connection", "not supported")
        return config if bucket is not None and min(shares) > 0.0 else None


def _warn_of_headers(view: View) -> None:
    if view.has("enable_x_ratelimit_headers"):
        view.value("enable_x_ratelimit_headers")
        view.warn("enable_x_ratelimit_headers", "not supported; responses do not have the headers")


def _bucket(view: View) -> dict[str, Any]:
    """A TokenBucket."""
    with view:
        burst = view.value("max_tokens")
        requests = view.wrapped("tokens_per_fill")
        interval = view.seconds("fill_interval") or 0.0
        return {"requests": 1 if requests is None else requests, "per": f"{interval:f}s", "burst": burst}


def _descriptor(view: View) -> dict[str, Any]:
    with view:
        made: dict[str, Any] = {"entries": []}
        for item in view.items("entries"):
            with item:
                made["entries"].append({"key": item.value("key"), "value": item.value("value")})
        bucket = view.inner("token_bucket")
        if bucket is not None:
            made |= _bucket(bucket)
        return made


def _added(view: View, name: str) -> dict[str, str]:
    """Headers that are added to responses; only constant values."""
    found: dict[str, str] = {}
    for item in view.items(name):
        option = header_option(item)
        if "%" in option.value:
            item.fault("header", "only constant values are supported")
        found[option.name] = option.value
    return found


def rate_limit(view: View) -> StreamFilter:
    """A RateLimit: the service of envoy.service.ratelimit.v3 counts the descriptors of routes."""
    with view:
        config: dict[str, Any] = {
            "domain": view.value("domain"),
            "stage": view.value("stage"),
            "failure_mode_deny": view.value("failure_mode_deny"),
            "resource_exhausted": view.value("rate_limited_as_resource_exhausted"),
            "no_limited_header": view.value("disable_x_envoy_ratelimited_header"),
        }
        _warn_of_headers(view)
        kind = view.value("request_type")
        if kind not in ("", "both"):
            view.fault("request_type", f"{kind!r} is not supported; expected both")
        timeout = view.seconds("timeout")
        service = view.inner("rate_limit_service")
        if service is None:
            view.fault("rate_limit_service", "missing")
        else:
            with service:
                version = service.enum("transport_api_version")
                if version not in ("V3", "AUTO"):
                    service.fault("transport_api_version", f"{version} is not supported; expected V3")
                inner = service.inner("grpc_service")
                if inner is None:
                    service.fault("grpc_service", "missing")
                else:
                    config["grpc"], own = grpc_service(inner)
                    timeout = own if timeout is None else timeout
        config["timeout"] = f"{0.02 if timeout is None else timeout:f}s"
        for name, key in (("rate_limited_status", "status"), ("status_on_error", "status_on_error")):
            status = view.inner(name)
            if status is not None:
                with status:
                    status.enum("code")
                    config[key] = status.message.code if status.message.code >= 400 else 429
        config["response_headers"] = _added(view, "response_headers_to_add")
        for name in ("filter_enabled", "filter_enforced"):
            if enabled_share(view, name) < 100.0:
                view.fault(name, "not supported below 100 %")
        config["rate_limits"] = [as_json(item, RATE_LIMITS) for item in view.items("rate_limits")]
    return StreamFilter(type="ratelimit", config=check_settings(view, "ratelimit", config))
