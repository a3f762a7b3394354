"""Shipped filters made as the configuration makes them."""

from __future__ import annotations

from typing import Any

import pytest

from pymosn.api import StreamFilter
from pymosn.config.typed import typed
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.stream.shipped import spec_of


def shipped(name: str, config: dict[str, Any]) -> StreamFilter:
    spec = spec_of(name)
    assert spec.make is not None
    return spec.make(typed(config, spec.settings))


def of_route(name: str, config: dict[str, Any]) -> dict[str, object]:
    """What `route_config` of a World is to be."""
    route = spec_of(name).route
    assert route is not None
    return {name: route.make(typed(config, route.settings))}


def problems(name: str, config: dict[str, Any]) -> list[str]:
    """Paths and texts of what is wrong with settings."""
    with pytest.raises(FilterConfigError) as caught:
        shipped(name, config)
    return [f"{path}: {text}" for path, text in caught.value.problems]
