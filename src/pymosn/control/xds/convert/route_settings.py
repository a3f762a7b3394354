"""Settings of a filter for one route, as converters of filters return them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pymosn.control.xds.convert.view import View


class RouteSettings(NamedTuple):
    """The settings of a filter for a route: its name in `stream_filters`, and the JSON of its settings."""

    name: str
    value: dict[str, Any]


#: Reads the settings in a message; None if they have no effect.
SettingsReader = Callable[[View], RouteSettings | None]
