"""The description of a shipped filter: the registry, the schema and docs/compatibility.md are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block

S = TypeVar("S", bound=Block)

#: A deliberate difference: the subject, what MOSN does, what pymosn does.
Difference = tuple[str, str, str]


class RouteSpec(Generic[S]):
    """The settings of a filter in `per_filter_config` of routes and virtual hosts."""

    def __init__(self, settings: type[S], make: Callable[[S], object]) -> None:
        """`make`: builds what the filter finds in `exchange.route_config`. Raises FilterConfigError."""
        self.settings = settings
        self.make = make


class FilterSpec(Generic[S]):
    """One shipped filter. Each file of `filters/stream` that is a filter has one, called `SPEC`."""

    def __init__(
        self,
        name: str,
        settings: type[S],
        make: Callable[[S], StreamFilter] | None,
        note: str = "",
        differences: tuple[Difference, ...] = (),
        route: RouteSpec[Any] | None = None,
        clusters: Callable[[S], Iterable[tuple[str, str]]] | None = None,
    ) -> None:
        """`name`: the `type` in configurations. `make`: the class; None if the settings name a class in a Python file.

        `note`, `differences`: rows of docs/compatibility.md. `clusters`: the clusters that settings refer to, with paths.
        """
        self.name = name
        self.settings = settings
        self.make = make
        self.note = note
        self.differences = differences
        self.route = route
        self.clusters = clusters
