"""Settings of filters for one route (`typed_per_filter_config`) -> entries of `per_filter_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymosn.control.xds.convert.filters import DISABLED, guards
from pymosn.control.xds.convert.filters import ROUTE_READERS as READERS
from pymosn.control.xds.convert.messages import UnknownTypeError, packed_type
from pymosn.control.xds.convert.route_settings import RouteSettings, SettingsReader
from pymosn.control.xds.convert.view import View

#: Wraps settings, to mark them as optional or to disable the filter.
FILTER_CONFIG: Final = "envoy.config.route.v3.FilterConfig"


def filter_settings(view: View, name: str, readers: Mapping[str, SettingsReader] = READERS) -> dict[str, Any]:
    """The `per_filter_config` for a map `name` from names of filters to their settings as `Any`."""
    made: dict[str, Any] = {}
    for key, packed in sorted(view.table(name).items()):
        settings = _settings(view, packed, f"{name}[{key}]", readers, disabled=DISABLED.get(key))
        if settings is None:
            continue
        if settings.name in made:
            # Otherwise one of them would be lost, and with it perhaps a rule.
            view.fault(f"{name}[{key}]", f"there are already settings of a filter {settings.name}")
        made[settings.name] = settings.value
    return made


def _settings(
    view: View,
    packed: Any,
    name: str,
    readers: Mapping[str, SettingsReader],
    is_optional: bool = False,
    disabled: RouteSettings | None = None,
) -> RouteSettings | None:
    """`disabled`: settings with which the filter has no effect; None if it cannot be disabled."""
    try:
        kind = packed_type(packed)
    except UnknownTypeError as error:
        view.fault(name, str(error))
        return None
    if kind == FILTER_CONFIG:
        wrapper = view.unpacked(packed, name)
        return None if wrapper is None else _wrapped(wrapper, readers, disabled)
    reader = readers.get(kind)
    if reader is None:
        if is_optional and not guards(kind):
            view.warn(name, f"left out: settings of type {kind} are not supported, and they are optional")
        else:
            view.fault(name, f"settings of type {kind or '(none)'} are not supported")
        return None
    inner = view.unpacked(packed, name)
    return None if inner is None else reader(inner)


def _wrapped(view: View, readers: Mapping[str, SettingsReader], disabled: RouteSettings | None) -> RouteSettings | None:
    with view:
        is_optional = view.value("is_optional")
        if view.value("disabled"):
            if disabled is None:
                view.fault("disabled", "this filter cannot be disabled for a route")
            elif view.has("config"):
                view.fault("config", "not valid together with disabled")
            return disabled
        if not view.has("config"):
            return None
        return _settings(view, view.value("config"), "config", readers, is_optional)
