"""Settings of filters for one route (`typed_per_filter_config`) -> entries of `per_filter_config`.

The keys of the map are names of filters. Settings get the key `TYPE/NAME`, with the type of our filter. `/NAME` enables or
disables the filter; it is always there, because settings enable what an outer level has disabled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymosn.control.xds.convert.filters import ROUTE_READERS as READERS
from pymosn.control.xds.convert.filters import guards
from pymosn.control.xds.convert.messages import UnknownTypeError, packed_type
from pymosn.control.xds.convert.route_settings import SettingsReader
from pymosn.control.xds.convert.view import View

#: Wraps settings, to mark them as optional or to disable the filter.
FILTER_CONFIG: Final = "envoy.config.route.v3.FilterConfig"


def filter_settings(view: View, name: str, readers: Mapping[str, SettingsReader] = READERS) -> dict[str, Any]:
    """The `per_filter_config` for a map `name` from names of filters to their settings as `Any`."""
    made: dict[str, Any] = {}
    for key, packed in sorted(view.table(name).items()):
        made.update(_settings(view, packed, f"{name}[{key}]", key, readers))
    return made


def _settings(
    view: View, packed: Any, name: str, key: str, readers: Mapping[str, SettingsReader], is_optional: bool = False
) -> dict[str, Any]:
    """The entries for the filter that is called `key`, from the field `name` of `view`."""
    try:
        kind = packed_type(packed)
    except UnknownTypeError as error:
        view.fault(name, str(error))
        return {}
    if kind == FILTER_CONFIG:
        wrapper = view.unpacked(packed, name)
        return {} if wrapper is None else _wrapped(wrapper, key, readers)
    reader = readers.get(kind)
    if reader is None:
        if is_optional and not guards(kind):
            view.warn(name, f"left out: settings of type {kind} are not supported, and they are optional")
        else:
            view.fault(name, f"settings of type {kind or '(none)'} are not supported")
        return {}
    inner = view.unpacked(packed, name)
    settings = None if inner is None else reader(inner)
    return {f"/{key}": {}} | ({} if settings is None else {f"{settings.name}/{key}": settings.value})


def _wrapped(view: View, key: str, readers: Mapping[str, SettingsReader]) -> dict[str, Any]:
    with view:
        is_optional = view.value("is_optional")
        if view.value("disabled"):
            if view.has("config"):
                view.value("config")  # Envoy ignores it, too
            return {f"/{key}": {"disabled": True}}
        if not view.has("config"):
            view.fault("config", "missing")
            return {}
        config = view.value("config")
        if not config.type_url:
            return {f"/{key}": {}}
        return _settings(view, config, "config", key, readers, is_optional)
