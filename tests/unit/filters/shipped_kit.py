"""Shipped filters made as the configuration makes them."""

from __future__ import annotations

from typing import Any

import pytest

from pymosn.api import StreamFilter
from pymosn.config.schema.stream_filters import ROUTE_SETTINGS, STREAM_FILTERS
from pymosn.config.typed import typed
from pymosn.filters.stream.python import FilterConfigError
from pymosn.filters.stream.shipped import make_shipped, route_settings


def shipped(name: str, config: dict[str, Any]) -> StreamFilter:
    return make_shipped(name, typed(config, STREAM_FILTERS[name]))


def of_route(name: str, config: dict[str, Any]) -> dict[str, object]:
    """What `route_config` of a World is to be."""
    return {name: route_settings(name, typed(config, ROUTE_SETTINGS[name]))}


def problems(name: str, config: dict[str, Any]) -> list[str]:
    """Paths and texts of what is wrong with settings."""
    with pytest.raises(FilterConfigError) as caught:
        shipped(name, config)
    return [f"{path}: {text}" for path, text in caught.value.problems]
