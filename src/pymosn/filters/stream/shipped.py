"""The registry of shipped stream filters: a new filter is one file in this folder and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from pymosn.filters.spec import FilterSpec

#: Modules by the filter's name, in the order of docs/compatibility.md. They are imported only where configured: memory is
#: counted per worker.
SHIPPED: Final[dict[str, str]] = {
    "python": "python",
    "fault": "fault",
    "payload_limit": "payload_limit",
    "gzip": "gzip",
    "mirror": "mirror",
    "header_to_metadata": "header_to_metadata",
    "ip_access": "ip_access",
    "flowControlFilter": "flow_control",
    "transcoder": "transcoder",
    "dubbo_stream": "dubbo_stream",
    "jwt_authn": "jwt_authn",
    "rbac": "rbac",
    "cors": "cors",
    "ext_authz": "ext_authz",
    "local_rate_limit": "local_rate_limit",
}

#: Filters whose `config` names a class in a Python file.
FROM_FILES: Final = frozenset({"python", "transcoder"})


def spec_of(name: str) -> FilterSpec[Any]:
    """The description of a filter in SHIPPED."""
    spec = import_module(f"pymosn.filters.stream.{SHIPPED[name]}").SPEC
    assert isinstance(spec, FilterSpec)
    return spec
