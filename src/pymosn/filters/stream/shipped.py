"""The registry of shipped stream filters: a new filter is one file in this folder, and its name here."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from pymosn.filters.spec import FilterSpec

_MODULES: Final = (
    *("python", "fault", "payload_limit", "gzip", "mirror", "header_to_metadata", "ip_access", "flow_control"),
    *("transcoder", "dubbo_stream", "jwt_authn", "rbac", "cors", "ext_authz", "local_rate_limit"),
    *("api_key_auth", "redis_rate_limit", "token_budget", "response_cache", "json_edit", "grpc_web", "grpc_metric"),
)

#: Modules by the filter's name. They are imported only where configured: memory is counted per worker.
SHIPPED: Final = {"flowControlFilter" if module == "flow_control" else module: module for module in _MODULES}

#: Filters whose `config` names a class in a Python file.
FROM_FILES: Final = frozenset({"python", "transcoder"})


def spec_of(name: str) -> FilterSpec[Any]:
    """The description of a filter in SHIPPED."""
    spec = import_module(f"pymosn.filters.stream.{SHIPPED[name]}").SPEC
    assert isinstance(spec, FilterSpec)
    return spec
