"""The stream filters that come with pymosn, by the `type` that configurations call them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from pymosn.api.stream_filter import StreamFilter

#: Module and class; imported only where configured, for memory is counted per worker.
SHIPPED: Final[dict[str, tuple[str, str]]] = {
    "cors": ("cors", "CorsFilter"),
    "dubbo_stream": ("dubbo_stream", "DubboStreamFilter"),
    "ext_authz": ("ext_authz", "ExtAuthzFilter"),
    "fault": ("fault", "FaultFilter"),
    "flowControlFilter": ("flow_control", "FlowControlFilter"),
    "gzip": ("gzip", "GzipFilter"),
    "header_to_metadata": ("header_to_metadata", "HeaderToMetadataFilter"),
    "ip_access": ("ip_access", "IpAccessFilter"),
    "jwt_authn": ("jwt_authn", "JwtAuthnFilter"),
    "local_rate_limit": ("local_rate_limit", "LocalRateLimitFilter"),
    "mirror": ("mirror", "MirrorFilter"),
    "payload_limit": ("payload_limit", "PayloadLimitFilter"),
    "rbac": ("rbac", "RbacFilter"),
}

#: Those that routes and virtual hosts may configure in `per_filter_config`; their classes have `for_route`.
PER_ROUTE: Final = frozenset(("ext_authz", "fault", "local_rate_limit", "payload_limit"))


def shipped_class(name: str) -> Any:
    """The class of a filter in SHIPPED."""
    module, cls = SHIPPED[name]
    return getattr(import_module(f"pymosn.filters.stream.{module}"), cls)


def make_shipped(name: str, config: object) -> StreamFilter:
    """Makes a filter in SHIPPED of its settings, a block of the schema. Raises FilterConfigError."""
    made = shipped_class(name)(config)
    assert isinstance(made, StreamFilter)
    return made


def route_settings(name: str, config: object) -> object:
    """What a filter in PER_ROUTE wants to find in `exchange.route_config`. Raises FilterConfigError."""
    made: object = shipped_class(name).for_route(config)
    return made
