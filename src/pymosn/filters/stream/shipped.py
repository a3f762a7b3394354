"""The registry of shipped stream filters: a new filter is one file in this folder, and its name here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from pymosn.filters.spec import DataFile, FilterSpec, RouteSpec

_MODULES: Final = (
    *("python", "fault", "payload_limit", "gzip", "mirror", "header_to_metadata", "ip_access", "flow_control"),
    *("transcoder", "dubbo_stream", "jwt_authn", "rbac", "cors", "ext_authz", "local_rate_limit"),
    *("api_key_auth", "redis_rate_limit", "token_budget", "response_cache", "json_edit", "grpc_metric"),
    *("grpc_web", "grpc_json_transcoder", "external_authz", "ratelimit", "health_check", "istio_stats", "peer_metadata"),
    "fault_tolerance",
)
#: MOSN's names of filters whose modules are named otherwise.
_NAMES: Final = {"flow_control": "flowControlFilter", "istio_stats": "istio.stats"}

#: Modules by the filter's name. They are imported only where configured: memory is counted per worker.
SHIPPED: Final = {_NAMES.get(module, module): module for module in _MODULES}

#: Filters whose `config` names a class in a Python file; `is_from_file` also knows those of MOSN's transcoders.
FROM_FILES: Final = frozenset({"python", "transcoder"})


def is_from_file(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a filter is a class in a Python file, which `path` and `class` of its `config` name."""
    return name in FROM_FILES and not (name == "transcoder" and _is_of_mosn(config))


def _is_of_mosn(config: Mapping[str, Any]) -> bool:
    """Whether the settings of a transcoder are MOSN's."""
    return bool(config.get("type") or config.get("rules"))


def route_spec(name: str, value: object) -> RouteSpec[Any] | None:
    """How `per_filter_config` is read for a filter; None if its settings have no known form. `name`: TYPE or TYPE/NAME."""
    name = name.partition("/")[0]
    if name not in SHIPPED or (name in FROM_FILES and not (isinstance(value, Mapping) and _is_of_mosn(value))):
        return None
    return spec_of(name).route


def switch_of(key: str, value: object) -> bool | None:
    """Whether an entry of `per_filter_config` with the key `/NAME` enables the filter; None if it is not one. ValueError."""
    if not key.startswith("/"):
        return None
    if not isinstance(value, Mapping) or set(value) - {"disabled"} or not isinstance(value.get("disabled", False), bool):
        raise ValueError(f"expected an object with `disabled`, got {value!r:.60}")
    return not value.get("disabled", False)


def data_file(name: str, config: Mapping[str, Any]) -> tuple[DataFile, str] | None:
    """The file that a filter reads, which is not code: its keys and its path; None without one."""
    spec = spec_of(name) if name in SHIPPED else None
    path = None if spec is None or spec.file is None else config.get(spec.file.path)
    return (spec.file, path) if spec is not None and spec.file is not None and isinstance(path, str) and path else None


def spec_of(name: str) -> FilterSpec[Any]:
    """The description of a filter in SHIPPED."""
    spec = import_module(f"pymosn.filters.stream.{SHIPPED[name]}").SPEC
    assert isinstance(spec, FilterSpec)
    return spec
